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

/// The error of a machine that is short of file descriptors, ports or memory.
pub(crate) fn shortage(error: &reqwest::Error) -> Option<io::Error> {
    let code = causes(error).find_map(|cause| cause.downcast_ref::<io::Error>()?.raw_os_error())?;
    SHORTAGES.contains(&code).then(|| io::Error::from_raw_os_error(code))
}

/// ENOMEM, ENFILE, EMFILE, EADDRNOTAVAIL and ENOBUFS, as Linux numbers them (errno(3)).
const SHORTAGES: [i32; 5] = [12, 23, 24, 99, 105];

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
