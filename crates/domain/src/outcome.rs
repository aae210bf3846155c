//! What an HTTP result means. Success is a 2XX status line in time; all else is a failure.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::delivery::AttemptError;
use crate::limits::{MAX_ERROR_CHARS, clip};

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A 2XX status line arrived in time.
    Success {
        /// The status, 200 to 299.
        status: u16,
    },
    /// Anything else.
    Failure(Failure),
}

impl Outcome {
    /// The failure, as a record keeps it.
    #[must_use]
    pub fn error(&self) -> Option<AttemptError> {
        match self {
            Self::Success { .. } => None,
            Self::Failure(Failure { kind, message, .. }) => {
                Some(AttemptError { kind: *kind, message: message.clone() })
            }
        }
    }
}

/// A failed attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What kind.
    pub kind: ErrorKind,
    /// The HTTP status, if a final one arrived.
    pub status: Option<u16>,
    /// What happened, in words for the endpoint's owner.
    pub message: String,
    /// How long the endpoint asked to be left alone (`Retry-After` on a 429 or 503).
    pub retry_after: Option<Duration>,
}

/// The kinds of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// No 2XX status line within the time for an attempt.
    Timeout,
    /// The host name could not be resolved.
    Dns,
    /// No connection could be made.
    Connect,
    /// The TLS handshake failed.
    Tls,
    /// A status other than 2XX.
    Status,
    /// The address is not one that webhooks may go to.
    Blocked,
    /// The answer was not HTTP, or the connection broke before the status line.
    Protocol,
}

impl ErrorKind {
    /// The kind as the interface writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Dns => "dns",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Status => "status",
            Self::Blocked => "blocked",
            Self::Protocol => "protocol",
        }
    }
}

impl Failure {
    /// A failure without an HTTP answer.
    #[must_use]
    pub fn new(kind: ErrorKind, message: &str) -> Self {
        Self { kind, status: None, message: clip(message, MAX_ERROR_CHARS), retry_after: None }
    }
}

/// Whether a status says that the webhook was taken.
#[must_use]
pub const fn is_success(status: u16) -> bool {
    matches!(status, 200..=299)
}

/// What a final status line means. `location` and `retry_after` are the values of those
/// headers, if the answer has them.
#[must_use]
pub fn of_status(status: u16, location: Option<&str>, retry_after: Option<&str>) -> Outcome {
    if is_success(status) {
        return Outcome::Success { status };
    }
    let message = match status {
        300..=399 => match location {
            Some(to) => {
                format!("answered {status}, a redirect to {to}; redirects are not followed")
            }
            None => format!("answered {status}; only 2XX is success"),
        },
        _ => format!("answered {status}; only 2XX is success"),
    };
    let retry_after = matches!(status, 429 | 503).then(|| retry_after.and_then(seconds)).flatten();
    Outcome::Failure(Failure {
        status: Some(status),
        retry_after,
        ..Failure::new(ErrorKind::Status, &message)
    })
}

/// `Retry-After` as a count of seconds (RFC 9110 §10.2.3). Its other form, a date, would
/// trust the endpoint's clock for a delay that is bounded to seconds or minutes anyway.
fn seconds(value: &str) -> Option<Duration> {
    let value = value.trim();
    let digits = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| Duration::from_secs(value.parse::<u32>().unwrap_or(u32::MAX).into()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn failure(status: u16, location: Option<&str>, retry_after: Option<&str>) -> Failure {
        match of_status(status, location, retry_after) {
            Outcome::Failure(failure) => failure,
            Outcome::Success { .. } => panic!("{status} is no success"),
        }
    }

    proptest! {
        #[test]
        fn only_2xx_is_success(status in 0_u16..1000) {
            let success = matches!(of_status(status, None, None), Outcome::Success { .. });
            prop_assert_eq!(success, (200..300).contains(&status));
        }
    }

    #[test]
    fn a_redirect_names_its_location() {
        let failure = failure(301, Some("https://elsewhere.example/"), None);
        assert!(failure.message.contains("https://elsewhere.example/"));
        assert!(failure.message.contains("not followed"));
        assert_eq!((failure.kind, failure.status), (ErrorKind::Status, Some(301)));
    }

    #[test]
    fn retry_after_counts_on_429_and_503_alone() {
        let asked = |status, value| failure(status, None, Some(value)).retry_after;
        assert_eq!(asked(429, "7"), Some(Duration::from_secs(7)));
        assert_eq!(asked(503, " 120 "), Some(Duration::from_secs(120)));
        assert_eq!(asked(500, "7"), None);
        assert_eq!(asked(503, "99999999999999999999"), Some(Duration::from_secs(u32::MAX.into())));
        for garbage in ["", "-1", "+1", "soon", "Wed, 21 Oct 2026 07:28:00 GMT", "1.5"] {
            assert_eq!(asked(503, garbage), None, "{garbage}");
        }
    }

    #[test]
    fn messages_are_bounded() {
        assert_eq!(
            failure(302, Some(&"x".repeat(9000)), None).message.chars().count(),
            MAX_ERROR_CHARS
        );
    }
}
