//! The mail server's URL and the sender of the emails, parsed from the configuration.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use lettre::message::Mailbox;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::extension::ClientId;
use url::{Host, Url};

/// A mail server, as configured by `[email] smtp_url`:
///
/// | URL | Meaning |
/// |---|---|
/// | `smtp://host:port` | without TLS; port 25 |
/// | `smtp://user:password@host:port?tls=required` | STARTTLS; port 587 |
/// | `smtps://user:password@host:port` | TLS from the first byte; port 465 |
///
/// A user name and password are sent only over TLS, except to this machine.
#[derive(Clone, PartialEq, Eq)]
pub struct Server {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) security: Security,
    pub(super) credentials: Option<Credentials>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Security {
    None,
    StartTls,
    Tls,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ServerError {
    /// Not a URL of the form above.
    #[error(
        "must be a URL such as smtp://127.0.0.1:1025, smtp://user:password@host?tls=required or \
         smtps://user:password@host"
    )]
    Malformed,
    /// The password would be sent in cleartext.
    #[error(
        "contains a password, which would be sent unencrypted; use smtps:// or add ?tls=required"
    )]
    PasswordInTheClear,
}

impl Server {
    /// Parses the URL.
    ///
    /// # Errors
    /// If it is not one of the forms above, or if a password would be sent unencrypted.
    pub fn parse(text: &str) -> Result<Self, ServerError> {
        let url = Url::parse(text).map_err(|_| ServerError::Malformed)?;
        let (security, default_port) = match (url.scheme(), url.query()) {
            ("smtp", None) => (Security::None, 25),
            ("smtp", Some("tls=required")) => (Security::StartTls, 587),
            ("smtps", None) => (Security::Tls, 465),
            _ => return Err(ServerError::Malformed),
        };
        let host = host(&url).ok_or(ServerError::Malformed)?;
        let port = url.port().unwrap_or(default_port);
        if port == 0 || !matches!(url.path(), "" | "/") || url.fragment().is_some() {
            return Err(ServerError::Malformed);
        }
        let credentials = credentials(&url)?;
        if credentials.is_some() && security == Security::None && !is_this_machine(&host) {
            return Err(ServerError::PasswordInTheClear);
        }
        Ok(Self { host, port, security, credentials })
    }

    pub(super) fn host_name(&self) -> Option<&str> {
        self.host.parse::<IpAddr>().is_err().then_some(&self.host)
    }

    /// The address, and how the connection is secured.
    pub(super) fn description(&self) -> String {
        let security = match self.security {
            Security::None => "without TLS",
            Security::StartTls => "with STARTTLS",
            Security::Tls => "with TLS",
        };
        let login = if self.credentials.is_some() { " and a login" } else { "" };
        format!("{self}, {security}{login}")
    }
}

/// The address without the credentials.
impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Server({self}, {:?})", self.security)
    }
}

/// The host without brackets. For schemes other than http the parser leaves IPv4 addresses as
/// names.
fn host(url: &Url) -> Option<String> {
    match url.host()? {
        Host::Domain("") => None,
        Host::Domain(name) => Some(name.to_owned()),
        Host::Ipv4(ip) => Some(ip.to_string()),
        Host::Ipv6(ip) => Some(ip.to_string()),
    }
}

fn is_this_machine(host: &str) -> bool {
    host == "localhost" || IpAddr::from_str(host).is_ok_and(|ip| ip.is_loopback())
}

fn credentials(url: &Url) -> Result<Option<Credentials>, ServerError> {
    match (url.username(), url.password()) {
        ("", None) => Ok(None),
        (user, Some(password)) if !user.is_empty() => {
            let user = percent_decode(user).ok_or(ServerError::Malformed)?;
            let password = percent_decode(password).ok_or(ServerError::Malformed)?;
            Ok(Some(Credentials::new(user, password)))
        }
        _ => Err(ServerError::Malformed),
    }
}

/// Decodes percent-encoding such as `%40` (RFC 3986 §2.1).
fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let high = char::from(rest.next()?).to_digit(16)?;
            let low = char::from(rest.next()?).to_digit(16)?;
            bytes.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

/// The sender of the emails, such as `Postrider <webhooks@example.com>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FromAddress(pub(crate) Mailbox);

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("must be a mailbox such as Postrider <webhooks@example.com>")]
pub struct FromAddressError;

impl FromAddress {
    /// Parses a mailbox, with or without a name.
    pub fn parse(text: &str) -> Result<Self, FromAddressError> {
        text.parse().map(Self).map_err(|_| FromAddressError)
    }
}

/// The name by which Postrider introduces itself to the mail server (RFC 5321 §4.1.1.1). Many servers
/// reject names that are not fully qualified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HelloName(String);

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("must be a host name such as webhooks.example.com")]
pub struct HelloNameError;

impl HelloName {
    /// Parses a host name.
    pub fn parse(text: &str) -> Result<Self, HelloNameError> {
        let is_label = |label: &str| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        let is_valid = text.len() <= 253 && text.split('.').all(is_label);
        if is_valid { Ok(Self(text.to_owned())) } else { Err(HelloNameError) }
    }

    /// The name of a machine. A name without a domain, as in containers, gets the domain of the
    /// From address.
    #[must_use]
    pub fn of_machine(machine: &str, from: &FromAddress) -> Self {
        let domain = from.0.email.domain();
        let is_local =
            machine.is_empty() || machine == "localhost" || machine.ends_with(".localdomain");
        let candidates = [
            (!is_local && machine.contains('.')).then(|| machine.to_owned()),
            (!is_local && !machine.contains('.')).then(|| format!("{machine}.{domain}")),
            Some(domain.to_owned()),
        ];
        let mut names = candidates.into_iter().flatten().filter_map(|name| Self::parse(&name).ok());
        names.next().unwrap_or_else(|| Self("localhost".to_owned()))
    }

    pub(crate) fn client_id(&self) -> ClientId {
        ClientId::Domain(self.0.clone())
    }
}

impl fmt::Display for HelloName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hello_name_is_fully_qualified() {
        let from = FromAddress::parse("Postrider <webhooks@example.com>").expect("a mailbox");
        for (machine, name) in [
            ("mx.example.org", "mx.example.org"),
            ("a1b2c3", "a1b2c3.example.com"),
            ("localhost", "example.com"),
            ("localhost.localdomain", "example.com"),
            ("", "example.com"),
            ("bad_name", "example.com"),
        ] {
            assert_eq!(HelloName::of_machine(machine, &from).to_string(), name, "{machine}");
        }
        assert!(HelloName::parse("webhooks.example.com").is_ok());
        let long = "a".repeat(64);
        for bad in ["", "a b", "-a.example", "a..b", "[127.0.0.1]", "é.example", &long] {
            assert_eq!(HelloName::parse(bad), Err(HelloNameError), "{bad}");
        }
    }

    fn parsed(text: &str) -> (String, u16, Security, Option<Credentials>) {
        let server = Server::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        (server.host, server.port, server.security, server.credentials)
    }

    #[test]
    fn the_three_url_forms_are_parsed() {
        let login = Some(Credentials::new("me@x".into(), "p%w".into()));
        assert_eq!(
            parsed("smtp://127.0.0.1:1025"),
            ("127.0.0.1".into(), 1025, Security::None, None)
        );
        assert_eq!(parsed("smtp://mail/"), ("mail".into(), 25, Security::None, None));
        assert_eq!(
            parsed("smtp://me%40x:p%25w@mail.example?tls=required"),
            ("mail.example".into(), 587, Security::StartTls, login)
        );
        assert_eq!(parsed("smtps://[::1]"), ("::1".into(), 465, Security::Tls, None));
    }

    #[test]
    fn malformed_urls_are_rejected() {
        for text in [
            "",
            "127.0.0.1:25",
            "http://mail",
            "smtp:",
            "smtp://",
            "smtp://mail:0",
            "smtp://mail:99999",
            "smtp://mail/path",
            "smtp://mail?tls=maybe",
            "smtps://mail#x",
            "smtps://me@mail",
            "smtps://:pw@mail",
            "smtps://me:%zz@mail",
            "smtps://me:%4@mail",
        ] {
            assert_eq!(Server::parse(text).err(), Some(ServerError::Malformed), "{text}");
        }
    }

    #[test]
    fn a_password_requires_tls() {
        assert_eq!(
            Server::parse("smtp://me:pw@mail.example").err(),
            Some(ServerError::PasswordInTheClear)
        );
        for local in ["smtp://me:pw@127.0.0.1:1025", "smtp://me:pw@localhost"] {
            assert!(Server::parse(local).is_ok(), "{local}");
        }
    }

    #[test]
    fn the_password_stays_out_of_logs() {
        let server = Server::parse("smtps://me:hunter2@mail").expect("a server");
        assert_eq!(format!("{server} {server:?}"), "mail:465 Server(mail:465, Tls)");
        assert_eq!(server.description(), "mail:465, with TLS and a login");
    }

    #[test]
    fn senders_are_mailboxes() {
        for good in ["Postrider <webhooks@example.com>", "webhooks@example.com"] {
            assert!(FromAddress::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "Postrider", "a@b\r\nBcc: c@d", "<>"] {
            assert_eq!(FromAddress::parse(bad), Err(FromAddressError), "{bad}");
        }
    }
}
