//! Where webhooks may be sent: http and https URLs, and by default only public addresses.
//!
//! A URL is validated when it is set, and every address that its host resolves to is checked
//! again when a connection is made, because DNS may have changed by then.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use url::{Host, Url};

use crate::limits::MAX_URL_BYTES;

/// The maximum length of a name and of its parts between dots (RFC 1035 §2.3.4).
const MAX_NAME_BYTES: usize = 253;
const MAX_LABEL_BYTES: usize = 63;

/// A valid target: an http or https URL with a host, without userinfo or fragment.
#[derive(Clone, PartialEq, Eq)]
pub struct TargetUrl(Url);

/// Why a URL is rejected.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TargetError {
    #[error("is not an absolute URL: {0}")]
    Malformed(String),
    /// Neither http nor https.
    #[error("must begin with http:// or https://")]
    Scheme,
    /// `user:password@` would be visible wherever the URL is shown.
    #[error("must not contain a user name or password; use a header instead")]
    Userinfo,
    /// Fragments are never sent.
    #[error("must not have a fragment (#…), which would never be sent")]
    Fragment,
    #[error("must have at most {MAX_URL_BYTES} bytes")]
    TooLong,
    #[error("must not use port 0")]
    Port,
    #[error("has the host name {name}, which {rule}")]
    HostName { name: String, rule: HostNameRule },
    /// The host is not a public address.
    #[error("{0}")]
    Forbidden(ForbiddenAddress),
}

/// Why a host name can never be resolved (RFC 1035 §2.3.4). Underscores are valid in names, although
/// not in the names of hosts (RFC 2181 §11); many customers use them.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub enum HostNameRule {
    #[error("contains a character other than letters, digits, hyphens, underscores and dots")]
    Characters,
    #[error("has a part between dots that is empty or longer than 63 characters")]
    Label,
    #[error("is longer than 253 characters")]
    Length,
}

/// The address is private, loopback, link-local or otherwise not public, and not allowed.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{host} is not a public address, and this installation does not allow it")]
pub struct ForbiddenAddress {
    /// The address or name, as the caller wrote it.
    pub host: String,
}

impl TargetUrl {
    /// Validates user input.
    ///
    /// # Errors
    /// When it is not a valid target, or its host is a forbidden address. Alternative spellings of
    /// an address (`2130706433`, `0177.0.0.1`) are normalized first (WHATWG URL §3.5).
    pub fn parse(text: &str, policy: &AddressPolicy) -> Result<Self, TargetError> {
        if text.len() > MAX_URL_BYTES {
            return Err(TargetError::TooLong);
        }
        let url = Url::parse(text).map_err(|error| TargetError::Malformed(error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(TargetError::Scheme);
        }
        if !url.username().is_empty() || url.password().is_some() || authority(text).contains('@') {
            return Err(TargetError::Userinfo);
        }
        if url.fragment().is_some() {
            return Err(TargetError::Fragment);
        }
        if url.port() == Some(0) {
            return Err(TargetError::Port);
        }
        if url.as_str().len() > MAX_URL_BYTES {
            return Err(TargetError::TooLong);
        }
        if let Some(Host::Domain(name)) = url.host() {
            check_name(name)
                .map_err(|rule| TargetError::HostName { name: name.to_owned(), rule })?;
        }
        let target = Self(url);
        target.check_host(policy).map_err(TargetError::Forbidden)?;
        Ok(target)
    }

    /// Restores a stored URL without checking it against a policy.
    pub fn from_stored(text: &str) -> Result<Self, TargetError> {
        let url = Url::parse(text).map_err(|error| TargetError::Malformed(error.to_string()))?;
        Ok(Self(url))
    }

    /// Checks the host without resolving it: an address, or a name that always refers to this
    /// machine (RFC 6761 §6.3).
    pub fn check_host(&self, policy: &AddressPolicy) -> Result<(), ForbiddenAddress> {
        match self.0.host() {
            Some(Host::Ipv4(ip)) => policy.check(ip.into()),
            Some(Host::Ipv6(ip)) => policy.check(ip.into()),
            Some(Host::Domain(name)) if is_local_name(name) => policy
                .check(Ipv4Addr::LOCALHOST.into())
                .or_else(|_| policy.check(Ipv6Addr::LOCALHOST.into()))
                .map_err(|_| ForbiddenAddress { host: name.to_owned() }),
            _ => Ok(()),
        }
    }

    /// The URL, normalized.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    #[must_use]
    pub fn url(&self) -> &Url {
        &self.0
    }
}

impl fmt::Debug for TargetUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The authority as it was written. The parser silently drops an empty userinfo
/// (`http://@host`).
fn authority(text: &str) -> &str {
    let rest = text.split_once(':').map_or("", |(_, rest)| rest);
    let rest = rest.trim_start_matches(['/', '\\']);
    rest.split(['/', '\\', '?', '#']).next().unwrap_or("")
}

/// Checks that a resolver can look up a name, which may end with a dot.
fn check_name(name: &str) -> Result<(), HostNameRule> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if !name.bytes().all(is_allowed) {
        return Err(HostNameRule::Characters);
    }
    if !name.split('.').all(|label| (1..=MAX_LABEL_BYTES).contains(&label.len())) {
        return Err(HostNameRule::Label);
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
