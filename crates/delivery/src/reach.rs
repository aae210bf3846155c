//! How far an attempt got: whether its target, or a name server, showed a sign of life. If not, the
//! cause may be this node's own outage.

use std::io;
use std::net::SocketAddr;

use postrider_domain::endpoint::Endpoint;
use postrider_domain::own_outage::{Facility, Target};
use postrider_domain::target::TargetUrl;

use crate::connections::{Opening, Step};
use crate::failure;
use crate::resolver::LookupError;

/// How far an attempt got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// The target responded, refused the connection or broke it, or a name server answered that
    /// there is no such target. With the target's address if it responded.
    Answered(Option<SocketAddr>),
    /// There was no sign of life, and this is what the attempt was using.
    Silent(Facility),
}

impl Reach {
    /// Of an attempt that got neither a response nor an error within its timeout.
    pub(crate) fn of_timeout(opening: Opening, url: &TargetUrl) -> Self {
        match opening.step {
            Step::Resolving => Self::Silent(Facility::Dns),
            Step::Connecting | Step::Connected | Step::Reused => {
                Self::Silent(protocol(opening, url))
            }
        }
    }

    /// Of an attempt that failed with `error`.
    pub(crate) fn of_error(error: &reqwest::Error, opening: Opening, url: &TargetUrl) -> Self {
        if error.is_dns() {
            return match failure::find::<LookupError>(error) {
                Some(LookupError::Failed(_)) => Self::Silent(Facility::Dns),
                Some(LookupError::NotFound) | None => Self::Answered(None),
            };
        }
        let is_silent = match failure::find::<io::Error>(error).map(io::Error::kind) {
            Some(
                io::ErrorKind::TimedOut
                | io::ErrorKind::HostUnreachable
                | io::ErrorKind::NetworkUnreachable
                | io::ErrorKind::NetworkDown
                | io::ErrorKind::AddrNotAvailable
                // A route of the types prohibit and blackhole.
                | io::ErrorKind::PermissionDenied
                | io::ErrorKind::InvalidInput,
            ) => true,
            Some(_) => false,
            // The client's own timeout of the connection.
            None => error.is_connect() && opening.step == Step::Connecting,
        };
        if is_silent { Self::Silent(protocol(opening, url)) } else { Self::Answered(None) }
    }
}

/// The protocol that a request to this target uses if it can choose.
fn protocol(opening: Opening, url: &TargetUrl) -> Facility {
    let host = url.origin().host_str().unwrap_or_default();
    if opening.is_ipv6_only || host.starts_with('[') { Facility::Ipv6 } else { Facility::Ipv4 }
}

/// The target of an endpoint's requests.
pub(crate) fn target(endpoint: &Endpoint) -> Target {
    let url = endpoint.url.origin();
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    Target {
        account: endpoint.account,
        host: host.to_owned(),
        port: url.port_or_known_default().unwrap_or_default(),
    }
}
