//! Turns errors of the HTTP client into failures that the endpoint's owner understands.

use std::error::Error;
use std::io;

use postrider_domain::outcome::{ErrorKind, Failure};
use postrider_domain::target::ForbiddenAddress;

/// Determines the kind of failure from the causes of the client's error.
pub(crate) fn classify(error: &reqwest::Error) -> Failure {
    if let Some(blocked) = causes(error).find_map(<dyn Error>::downcast_ref::<ForbiddenAddress>) {
        return Failure::new(ErrorKind::Blocked, &blocked.to_string());
    }
    if let Some(tls) = causes(error).find_map(tls_error) {
        return Failure::new(ErrorKind::Tls, &format!("the TLS handshake failed: {tls}"));
    }
    let root = causes(error).last().map(ToString::to_string).unwrap_or_default();
    if error.is_dns() {
        Failure::new(ErrorKind::Dns, &format!("could not resolve the host name: {root}"))
    } else if error.is_connect() {
        Failure::new(ErrorKind::Connect, &format!("could not connect: {root}"))
    } else {
        let message = format!("the connection broke or the response was not valid HTTP: {root}");
        Failure::new(ErrorKind::Protocol, &message)
    }
}

/// The OS error code behind a request's error, if there is one.
pub(crate) fn system_error(error: &reqwest::Error) -> Option<i32> {
    causes(error).find_map(|cause| cause.downcast_ref::<io::Error>()?.raw_os_error())
}

/// What the failed connection was to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    /// Our own name server, whatever name was looked up.
    Dns,
    /// An endpoint that has an IPv4 address.
    Ipv4,
    /// An endpoint that has only IPv6 addresses.
    Ipv6Only,
}

/// Whether an OS error says that this machine ran out of file descriptors, ports or memory.
///
/// EADDRNOTAVAIL has two meanings. For IPv4, the local ports are used up. For IPv6, this machine
/// most likely has no IPv6 address, as in Docker by default. The endpoint is then unreachable, as
/// if there were no route to it.
pub(crate) fn is_resource_exhaustion(code: i32, destination: Destination) -> bool {
    match code {
        EADDRNOTAVAIL => destination != Destination::Ipv6Only,
        code => EXHAUSTION_ERRNOS.contains(&code),
    }
}

// Linux's numbers (errno(3)).
/// ENOMEM, ENFILE, EMFILE and ENOBUFS.
const EXHAUSTION_ERRNOS: [i32; 4] = [12, 23, 24, 105];
pub(crate) const EADDRNOTAVAIL: i32 = 99;

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn Error + 'static)| cause(*error))
}

/// The error that `error` wraps, or its source. An I/O error's `source` skips the wrapped error.
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
    fn an_unreachable_ipv6_only_endpoint_is_not_resource_exhaustion() {
        for destination in [Destination::Dns, Destination::Ipv4, Destination::Ipv6Only] {
            for errno in EXHAUSTION_ERRNOS {
                assert!(is_resource_exhaustion(errno, destination));
            }
            const ECONNREFUSED: i32 = 111;
            assert!(!is_resource_exhaustion(ECONNREFUSED, destination));
        }
        assert!(is_resource_exhaustion(EADDRNOTAVAIL, Destination::Dns));
        assert!(is_resource_exhaustion(EADDRNOTAVAIL, Destination::Ipv4));
        assert!(!is_resource_exhaustion(EADDRNOTAVAIL, Destination::Ipv6Only));
    }
}
