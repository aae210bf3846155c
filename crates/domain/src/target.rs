//! Where webhooks may be sent: http and https URLs, and by default only public addresses.
//!
//! A URL is validated when it is set, and every address that its host resolves to is checked
//! again when a connection is made, because DNS may have changed by then.
//!
//! The origin (scheme, host and port) and the rest of a URL are treated differently. The origin is
//! canonicalized; this form alone is checked, connected to and sent as the Host header. Path and
//! query are sent as they were given, because some receivers tell `%2e%2e` from `..`, or `'` from
//! `%27`.

use std::fmt;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use url::{Host, Position, Url};

use crate::limits::MAX_URL_BYTES;

/// The maximum length of a name and of its parts between dots (RFC 1035 §2.3.4).
const MAX_NAME_BYTES: usize = 253;
const MAX_LABEL_BYTES: usize = 63;

/// A valid target: an http or https URL with a host, without userinfo or fragment.
#[derive(Clone, PartialEq, Eq)]
pub struct TargetUrl {
    /// As it was given.
    text: String,
    /// Its canonical origin, with the path `/`.
    origin: Url,
}

/// Why a URL is rejected.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TargetError {
    #[error("is not a valid URL: {0}")]
    Malformed(String),
    /// Neither http nor https.
    #[error("must begin with http:// or https://")]
    Scheme,
    /// `user:password@` would be visible wherever the URL is shown.
    #[error("must not contain a user name or password; use a header instead")]
    Userinfo,
    /// Fragments are never sent.
    #[error("must not have a fragment (#…), which would never be sent; write # as %23")]
    Fragment,
    #[error("must have at most {MAX_URL_BYTES} bytes")]
    TooLong,
    #[error("must not contain control characters, such as tabs or line breaks")]
    ControlCharacter,
    #[error("must not use port 0")]
    Port,
    #[error("has the host name {name}, which {rule}")]
    HostName { name: String, rule: HostNameRule },
    /// The host is not a public address.
    #[error("{0}")]
    Forbidden(ForbiddenAddress),
}

/// Why no request can be sent to a host name (RFC 1035 §2.3.4). Underscores are valid in names,
/// although not in the names of hosts (RFC 2181 §11); many customers use them.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub enum HostNameRule {
    /// Only in the host, where it can never work. Path and query may contain braces.
    #[error("looks like a placeholder; it must be filled in")]
    Placeholder,
    #[error("contains a character other than letters, digits, hyphens, underscores and dots")]
    Characters,
    #[error("has a part between dots that is empty or longer than 63 characters")]
    Label,
    #[error("is longer than 253 characters")]
    Length,
    /// DNS permits such names, but TLS clients reject them (RFC 5890 §2.3.1).
    #[error("has a part that begins or ends with a hyphen, which is not valid with https")]
    Hyphen,
}

/// The address is private, loopback, link-local or otherwise not public, and not allowed.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{host} is not a public address, and this installation does not allow it")]
pub struct ForbiddenAddress {
    /// The address or name, as the caller wrote it.
    pub host: String,
}

impl TargetUrl {
    /// Validates user input. Surrounding spaces are dropped.
    ///
    /// # Errors
    /// When it is not a valid target, or its host is a forbidden address. Alternative spellings of
    /// an address (`2130706433`, `0177.0.0.1`) are normalized first (WHATWG URL §3.5).
    pub fn parse(text: &str, policy: &AddressPolicy) -> Result<Self, TargetError> {
        if text.len() > MAX_URL_BYTES {
            return Err(TargetError::TooLong);
        }
        let text = text.trim_matches(|c: char| c.is_ascii_whitespace());
        if text.contains(is_control) {
            return Err(TargetError::ControlCharacter);
        }
        let parts = Parts::of(text)?;
        parts.check_authority()?;
        if parts.target.contains('#') {
            return Err(TargetError::Fragment);
        }
        let target = Self { text: text.to_owned(), origin: parts.origin()? };
        if target.origin.port() == Some(0) {
            return Err(TargetError::Port);
        }
        if target.sent_url().len() > MAX_URL_BYTES {
            return Err(TargetError::TooLong);
        }
        if let Some(Host::Domain(name)) = target.origin.host() {
            check_name(name, target.origin.scheme() == "https")
                .map_err(|rule| TargetError::HostName { name: name.to_owned(), rule })?;
        }
        target.check_host(policy).map_err(TargetError::Forbidden)?;
        Ok(target)
    }

    /// Restores a stored URL without checking it against a policy or rules, which may have been
    /// different when it was stored.
    pub fn from_stored(text: &str) -> Result<Self, TargetError> {
        Ok(Self { text: text.to_owned(), origin: Parts::of(text)?.origin()? })
    }

    /// Checks the host without resolving it: an address, or a name that always refers to this
    /// machine (RFC 6761 §6.3).
    pub fn check_host(&self, policy: &AddressPolicy) -> Result<(), ForbiddenAddress> {
        match self.origin.host() {
            Some(Host::Ipv4(ip)) => policy.check(ip.into()),
            Some(Host::Ipv6(ip)) => policy.check(ip.into()),
            Some(Host::Domain(name)) if is_local_name(name) => policy
                .check(Ipv4Addr::LOCALHOST.into())
                .or_else(|_| policy.check(Ipv6Addr::LOCALHOST.into()))
                .map_err(|_| ForbiddenAddress { host: name.to_owned() }),
            _ => Ok(()),
        }
    }

    /// The URL as it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The canonical origin: the scheme, host and port that are checked and connected to. Its path
    /// is `/`.
    #[must_use]
    pub fn origin(&self) -> &Url {
        &self.origin
    }

    /// The path as it is sent.
    #[must_use]
    pub fn path(&self) -> String {
        let mut target = self.request_target();
        target.truncate(target.find('?').unwrap_or(target.len()));
        target
    }

    /// Path and query as they are sent in the request line: as they were given, except that
    /// characters that cannot be sent there are percent-encoded.
    #[must_use]
    pub fn request_target(&self) -> String {
        let given = Parts::of(&self.text).map_or("", |parts| parts.target);
        let given = given.split('#').next().unwrap_or_default();
        let mut target = String::with_capacity(given.len() + 1);
        if !given.starts_with('/') {
            target.push('/');
        }
        let mut in_query = false;
        for byte in given.bytes() {
            in_query |= byte == b'?';
            if can_be_sent(byte, in_query) {
                target.push(char::from(byte));
            } else {
                let _ = write!(target, "%{byte:02X}");
            }
        }
        target
    }

    /// The URL as it is sent: the canonical origin and the request target.
    #[must_use]
    pub fn sent_url(&self) -> String {
        format!("{}{}", &self.origin[..Position::BeforePath], self.request_target())
    }
}

impl fmt::Debug for TargetUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The parts of a URL as they were given. Parsers agree on them, because nothing that they treat
/// differently is accepted: a backslash or a missing slash after the scheme, userinfo, characters
/// that are not valid in a host.
#[derive(Clone, Copy)]
struct Parts<'a> {
    scheme: &'a str,
    /// The host, and the port if there is one.
    authority: &'a str,
    /// Path, query and fragment; may be empty.
    target: &'a str,
}

impl<'a> Parts<'a> {
    fn of(text: &'a str) -> Result<Self, TargetError> {
        let Some((scheme, rest)) = text.split_once(':') else {
            return Err(TargetError::Malformed("it has no scheme, such as https://".to_owned()));
        };
        let is_http = ["http", "https"].iter().any(|name| name.eq_ignore_ascii_case(scheme));
        let rest = rest.strip_prefix("//").filter(|_| is_http).ok_or(TargetError::Scheme)?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        Ok(Self { scheme, authority, target })
    }

    fn check_authority(self) -> Result<(), TargetError> {
        let malformed = |why: &str| Err(TargetError::Malformed(why.to_owned()));
        let Self { authority, .. } = self;
        if authority.contains('@') {
            return Err(TargetError::Userinfo);
        }
        let host_end = match authority.strip_prefix('[') {
            Some(rest) => rest.find(']').map_or(authority.len(), |end| end + 2),
            None => authority.find(':').unwrap_or(authority.len()),
        };
        let (host, port) = authority.split_at(host_end);
        if host.is_empty() {
            return malformed("it has no host");
        }
        if !host.starts_with('[')
            && let Some(rule) = host.chars().find_map(forbidden_in_host)
        {
            return Err(TargetError::HostName { name: host.to_owned(), rule });
        }
        let port = port.strip_prefix(':').unwrap_or(port);
        if !port.bytes().all(|byte| byte.is_ascii_digit()) {
            return malformed("the port is not a number");
        }
        Ok(())
    }

    fn origin(self) -> Result<Url, TargetError> {
        Url::parse(&format!("{}://{}/", self.scheme, self.authority))
            .map_err(|error| TargetError::Malformed(error.to_string()))
    }
}

/// A control character, or one that changes the direction of text, which RFC 3987 §4.1 forbids.
fn is_control(c: char) -> bool {
    let sets_direction =
        matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || sets_direction
}

/// Whether a byte of a path or query is sent as it is. Others are not valid in a request line, or
/// the HTTP client cannot send them.
fn can_be_sent(byte: u8, in_query: bool) -> bool {
    match byte {
        b'<' | b'>' => false,
        b'"' => !in_query,
        b'`' => in_query,
        byte => byte.is_ascii_graphic(),
    }
}

/// Why a character of a host, as it was given, is rejected. Characters other than ASCII are valid
/// in internationalized names; bytes of theirs may be percent-encoded.
fn forbidden_in_host(c: char) -> Option<HostNameRule> {
    match c {
        '{' | '}' | '<' | '>' | '$' => Some(HostNameRule::Placeholder),
        '%' => None,
        c if c.is_ascii() && !is_allowed_in_name(c) => Some(HostNameRule::Characters),
        _ => None,
    }
}

fn is_allowed_in_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')
}

/// Checks that requests can be sent to a name, which may end with a dot.
fn check_name(name: &str, is_https: bool) -> Result<(), HostNameRule> {
    let name = name.strip_suffix('.').unwrap_or(name);
    if !name.chars().all(is_allowed_in_name) {
        return Err(HostNameRule::Characters);
    }
    if !name.split('.').all(|label| (1..=MAX_LABEL_BYTES).contains(&label.len())) {
        return Err(HostNameRule::Label);
    }
    if is_https && name.split('.').any(|label| label.starts_with('-') || label.ends_with('-')) {
        return Err(HostNameRule::Hyphen);
    }
    if name.len() > MAX_NAME_BYTES { Err(HostNameRule::Length) } else { Ok(()) }
}

fn is_local_name(name: &str) -> bool {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost")
}

/// The addresses that webhooks may be sent to: public ones, and those that the operator allows.
#[derive(Clone, Debug, Default)]
pub struct AddressPolicy {
    allowed: Vec<IpNet>,
}

impl AddressPolicy {
    /// Allows public addresses and those in `allowed`.
    #[must_use]
    pub fn new(allowed: Vec<IpNet>) -> Self {
        Self { allowed }
    }

    /// Checks one address.
    pub fn check(&self, ip: IpAddr) -> Result<(), ForbiddenAddress> {
        let real = embedded_v4(ip).map_or(ip, IpAddr::V4);
        let allowed = |ip| self.allowed.iter().any(|net| net.contains(&ip));
        if allowed(real) || allowed(ip) || (is_public(real) && is_public_carrier(ip)) {
            Ok(())
        } else {
            Err(ForbiddenAddress { host: ip.to_string() })
        }
    }
}

/// The IPv4 address embedded in an IPv6 address: mapped and compatible (RFC 4291 §2.5.5),
/// NAT64 (RFC 6052 §2.1), 6to4 (RFC 3056 §2).
fn embedded_v4(ip: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(ip) = ip else { return None };
    let [a, b, c, d, e, f, g, h] = ip.segments();
    let last = || Some(Ipv4Addr::from((u32::from(g) << 16) | u32::from(h)));
    match (a, b, c, d, e, f) {
        (0, 0, 0, 0, 0, 0xffff) | (0, 0, 0, 0, 0xffff, 0) | (0x64, 0xff9b, 0, 0, 0, 0) => last(),
        (0, 0, 0, 0, 0, 0) if !ip.is_unspecified() && !ip.is_loopback() => last(),
        (0x2002, ..) => Some(Ipv4Addr::from((u32::from(b) << 16) | u32::from(c))),
        _ => None,
    }
}

/// An IPv6 address with an embedded IPv4 address is as public as that.
fn is_public_carrier(ip: IpAddr) -> bool {
    embedded_v4(ip).is_some() || is_public(ip)
}

fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !FORBIDDEN_V4.iter().any(|net| net.contains(&ip)),
        IpAddr::V6(ip) => !FORBIDDEN_V6.iter().any(|net| net.contains(&ip)),
    }
}

const fn v4(a: u8, b: u8, c: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, 0), prefix)
}

const fn v6(a: u16, b: u16, c: u16, prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0), prefix)
}

/// The IANA IPv4 special-purpose registry (RFC 6890), multicast and class E.
const FORBIDDEN_V4: [Ipv4Net; 16] = [
    v4(0, 0, 0, 8),       // this network
    v4(10, 0, 0, 8),      // private
    v4(100, 64, 0, 10),   // carrier-grade NAT; cloud metadata lives here too
    v4(127, 0, 0, 8),     // loopback
    v4(169, 254, 0, 16),  // link-local; cloud metadata
    v4(172, 16, 0, 12),   // private
    v4(192, 0, 0, 24),    // protocol assignments
    v4(192, 0, 2, 24),    // documentation
    v4(192, 31, 196, 24), // AS112
    v4(192, 88, 99, 24),  // 6to4 relay anycast
    v4(192, 168, 0, 16),  // private
    v4(198, 18, 0, 15),   // benchmarking
    v4(198, 51, 100, 24), // documentation
    v4(203, 0, 113, 24),  // documentation
    v4(224, 0, 0, 4),     // multicast
    v4(240, 0, 0, 4),     // reserved, broadcast
];

/// The IANA IPv6 special-purpose registry, site-local and multicast.
const FORBIDDEN_V6: [Ipv6Net; 12] = [
    v6(0, 0, 0, 8),               // unspecified, loopback, unrouted
    v6(0x64, 0xff9b, 1, 48),      // local-use NAT64
    v6(0x100, 0, 0, 64),          // discard
    v6(0x2001, 0, 0, 23),         // protocol assignments, Teredo
    v6(0x2001, 0xdb8, 0, 32),     // documentation
    v6(0x2620, 0x4f, 0x8000, 48), // AS112
    v6(0x3fff, 0, 0, 20),         // documentation
    v6(0x5f00, 0, 0, 16),         // segment routing
    v6(0xfc00, 0, 0, 7),          // unique local
    v6(0xfe80, 0, 0, 10),         // link-local
    v6(0xfec0, 0, 0, 10),         // site-local
    v6(0xff00, 0, 0, 8),          // multicast
];

#[cfg(test)]
mod tests;
