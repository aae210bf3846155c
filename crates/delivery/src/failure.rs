//! What a request's error means for the endpoint's owner.

use std::error::Error;
use std::io;

use postrider_domain::outcome::{ErrorKind, Failure};
use postrider_domain::target::ForbiddenAddress;

/// Tells the kinds of failure apart by the causes of the client's error.
pub(crate) fn classify(error: &reqwest::Error) -> Failure {
    if let Some(blocked) = causes(error).find_map(<dyn Error>::downcast_ref::<ForbiddenAddress>) {
        return Failure::new(ErrorKind::Blocked, &blocked.to_string());
    }
    if let Some(tls) = causes(error).find_map(tls_error) {
        return Failure::new(ErrorKind::Tls, &format!("the TLS handshake failed: {tls}"));
    }
    let root = causes(error).last().map(ToString::to_string).unwrap_or_default();
    if error.is_dns() {
        Failure::new(ErrorKind::Dns, &format!("the host name could not be resolved: {root}"))
    } else if error.is_connect() {
        Failure::new(ErrorKind::Connect, &format!("no connection could be made: {root}"))
    } else {
        let message = format!("the connection broke or the answer was not HTTP: {root}");
        Failure::new(ErrorKind::Protocol, &message)
    }
}

/// The error of the system that is behind a request's error, if there is one.
pub(crate) fn system_error(error: &reqwest::Error) -> Option<i32> {
    causes(error).find_map(|cause| cause.downcast_ref::<io::Error>()?.raw_os_error())
}

/// Where a request was to go when the system refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Towards {
    /// A name server: ours, whatever name was asked for.
    Dns,
    /// The endpoint, which has an IPv4 address.
    Ipv4,
    /// The endpoint, which has IPv6 addresses alone.
    Ipv6Only,
}

/// Whether an error of the system says that this machine is short of file descriptors, ports or
/// memory.
///
/// EADDRNOTAVAIL has two meanings. Towards IPv4, the local ports are used up. Towards IPv6, this
/// machine most likely has no IPv6 address, as in Docker by default: then the endpoint cannot be
/// reached, like one without a route to it, now or ever.
pub(crate) fn is_shortage(code: i32, towards: Towards) -> bool {
    match code {
        EADDRNOTAVAIL => towards != Towards::Ipv6Only,
        code => SHORTAGES.contains(&code),
    }
}

// As Linux numbers them (errno(3)).
/// ENOMEM, ENFILE, EMFILE and ENOBUFS.
const SHORTAGES: [i32; 4] = [12, 23, 24, 105];
pub(crate) const EADDRNOTAVAIL: i32 = 99;

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn Error + 'static)| cause(*error))
}

/// What an error wraps or follows from. An I/O error's `source` skips the error that it wraps.
fn cause<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    match wrapped {
        Some(wrapped) => Some(wrapped),
        None => error.source(),
    }
}

fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    error.downcast_ref()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_that_has_only_ipv6_addresses_does_not_make_this_node_short() {
        for towards in [Towards::Dns, Towards::Ipv4, Towards::Ipv6Only] {
            for shortage in SHORTAGES {
                assert!(is_shortage(shortage, towards));
            }
            const ECONNREFUSED: i32 = 111;
            assert!(!is_shortage(ECONNREFUSED, towards));
        }
        assert!(is_shortage(EADDRNOTAVAIL, Towards::Dns));
        assert!(is_shortage(EADDRNOTAVAIL, Towards::Ipv4));
        assert!(!is_shortage(EADDRNOTAVAIL, Towards::Ipv6Only));
    }
}
