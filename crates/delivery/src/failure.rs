//! Turns errors of the HTTP client into failures that the endpoint's owner understands.

use std::error::Error;
use std::io;
use std::time::Duration;

use postrider_domain::outcome::{ErrorKind, Failure};
use postrider_domain::target::ForbiddenAddress;
use rustls::CertificateError;

use crate::connections::Step;
use crate::resolver::LookupError;

/// Determines the kind of failure from the causes of the client's error. The messages say what the
/// endpoint's owner can do; the details go to the log.
pub(crate) fn classify(error: &reqwest::Error) -> Failure {
    if tracing::enabled!(tracing::Level::DEBUG) {
        // The first error contains the URL, which may contain secrets.
        let details: Vec<_> = causes(error).skip(1).map(ToString::to_string).collect();
        tracing::debug!(error = details.join(": "), "a request failed");
    }
    if let Some(blocked) = find::<ForbiddenAddress>(error) {
        return Failure::new(ErrorKind::Blocked, &blocked.to_string());
    }
    if let Some(tls) = find(error) {
        let why = tls_message(tls);
        return Failure::new(ErrorKind::Tls, &format!("the TLS handshake failed: {why}"));
    }
    if error.is_dns() {
        let why = find::<LookupError>(error)
            .map_or_else(|| "the lookup failed".to_owned(), ToString::to_string);
        Failure::new(ErrorKind::Dns, &format!("could not resolve the host name: {why}"))
    } else if error.is_connect() {
        let why = find(error).map_or_else(
            || "no address of the host accepted the connection in time".to_owned(),
            connect_message,
        );
        Failure::new(ErrorKind::Connect, &format!("could not connect: {why}"))
    } else if find(error).is_some_and(hyper::Error::is_parse) {
        let message = "the response was not valid HTTP; check that the URL leads to a web server";
        Failure::new(ErrorKind::Protocol, message)
    } else {
        let message = "the connection was closed before a response arrived";
        Failure::new(ErrorKind::Protocol, message)
    }
}

/// The failure of a request that got neither a response nor an error within its timeout.
pub(crate) fn of_timeout(step: Step, timeout: Duration) -> Failure {
    match step {
        Step::Resolving => {
            let message = format!("could not resolve the host name: no answer within {timeout:?}");
            Failure::new(ErrorKind::Dns, &message)
        }
        Step::Reused | Step::Connecting | Step::Connected => {
            Failure::new(ErrorKind::Timeout, &format!("no response within {timeout:?}"))
        }
    }
}

/// The first cause of this type.
pub(crate) fn find<T: Error + 'static>(error: &reqwest::Error) -> Option<&T> {
    causes(error).find_map(|cause| cause.downcast_ref())
}

/// Whether the connection broke, as opposed to an invalid response.
pub(crate) fn is_broken_connection(error: &reqwest::Error) -> bool {
    !error.is_connect()
        && causes(error).any(|cause| {
            let http = cause.downcast_ref::<hyper::Error>();
            let io = cause.downcast_ref::<io::Error>();
            http.is_some_and(|http| {
                http.is_incomplete_message() || http.is_closed() || http.is_canceled()
            }) || io.is_some_and(|io| {
                matches!(
                    io.kind(),
                    io::ErrorKind::ConnectionReset
                        | io::ErrorKind::ConnectionAborted
                        | io::ErrorKind::BrokenPipe
                        | io::ErrorKind::NotConnected
                        | io::ErrorKind::UnexpectedEof
                )
            })
        })
}

/// What went wrong in a TLS handshake.
fn tls_message(error: &rustls::Error) -> String {
    let text = match error {
        rustls::Error::InvalidCertificate(error) => certificate_message(error),
        rustls::Error::InvalidMessage(_) => {
            "the server did not answer with TLS; check that the port serves https"
        }
        rustls::Error::AlertReceived(alert) => {
            return format!("the server rejected it ({alert:?})");
        }
        rustls::Error::PeerIncompatible(_) => {
            "the server supports neither TLS 1.2 nor TLS 1.3 with current ciphers"
        }
        _ => "the server broke the protocol",
    };
    text.to_owned()
}

fn certificate_message(error: &CertificateError) -> &'static str {
    match error {
        CertificateError::UnknownIssuer => {
            "the certificate is self-signed or from an unknown authority, or the server does not \
             send its intermediate certificate"
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "the certificate has expired"
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the certificate is not valid yet"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "the certificate is for another host name"
        }
        CertificateError::Revoked => "the certificate has been revoked",
        _ => "the certificate is not valid",
    }
}

/// Why no connection could be made.
fn connect_message(error: &io::Error) -> String {
    let text = match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            "the connection was refused; check that the server is running and the port is right"
        }
        io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted => {
            "the server closed the connection at once"
        }
        io::ErrorKind::TimedOut => "the server did not accept the connection in time",
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            "there is no route to the host's address"
        }
        io::ErrorKind::AddrNotAvailable => {
            "no address of this installation can reach the host; it may have only IPv6 addresses"
        }
        io::ErrorKind::UnexpectedEof => "the server closed the connection during the handshake",
        kind => return kind.to_string(),
    };
    text.to_owned()
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
