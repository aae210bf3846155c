//! The outcome of an attempt. A 2XX status line within the timeout is a success; anything else
//! is a failure.

use std::time::{Duration, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::limits::{MAX_ERROR_CHARS, truncate};
use crate::time::Timestamp;

/// The outcome of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A 2XX status line arrived in time.
    Success {
        /// 200 to 299.
        status: u16,
    },
    /// Anything else.
    Failure(Failure),
}

impl Outcome {
    /// The failure as it is recorded.
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

/// Why an attempt failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptError {
    pub kind: ErrorKind,
    pub message: String,
}

/// A failed attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub kind: ErrorKind,
    /// The HTTP status, if a final one arrived.
    pub status: Option<u16>,
    /// The error message for the endpoint's owner.
    pub message: String,
    /// The value of `Retry-After` on a 429 or 503.
    pub retry_after: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// No status line arrived within the timeout.
    Timeout,
    /// The host name could not be resolved.
    Dns,
    /// No connection could be made.
    Connect,
    /// The TLS handshake failed.
    Tls,
    /// A status other than 2XX.
    Status,
    /// Webhooks may not be sent to the address.
    Blocked,
    /// The response was not HTTP, or the connection broke before the status line.
    Protocol,
}

impl ErrorKind {
    /// The name in the API.
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
    /// A failure without an HTTP response.
    #[must_use]
    pub fn new(kind: ErrorKind, message: &str) -> Self {
        Self { kind, status: None, message: truncate(message, MAX_ERROR_CHARS), retry_after: None }
    }
}

/// Whether a status means that the webhook was delivered.
#[must_use]
pub const fn is_success(status: u16) -> bool {
    matches!(status, 200..=299)
}

/// The outcome for a final status line. `location` is the value of that header, and `retry_after`
/// the delay that the endpoint asks for.
#[must_use]
pub fn of_status(status: u16, location: Option<&str>, retry_after: Option<Duration>) -> Outcome {
    if is_success(status) {
        return Outcome::Success { status };
    }
    let message = match status {
        300..=399 => match location {
            Some(to) => {
                format!("responded with {status}, a redirect to {to}; redirects are not followed")
            }
            None => format!("responded with {status}; expected a 2xx status"),
        },
        _ => format!("responded with {status}; expected a 2xx status"),
    };
    let retry_after = retry_after.filter(|_| matches!(status, 429 | 503));
    Outcome::Failure(Failure {
        status: Some(status),
        retry_after,
        ..Failure::new(ErrorKind::Status, &message)
    })
}

/// The delay that a `Retry-After` header asks for (RFC 9110 §10.2.3): a number of seconds, or a
/// date. A date is compared with the response's own `date`, because the endpoint's clock may differ
/// from ours; without one, with `now`. The delay may be any length: its use is bounded elsewhere.
#[must_use]
pub fn retry_after(value: &str, date: Option<&str>, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Duration::from_secs(value.parse::<u32>().unwrap_or(u32::MAX).into()));
    }
    let parse = |text: &str| httpdate::parse_http_date(text.trim()).ok();
    let until = parse(value)?;
    let from = date.and_then(parse).unwrap_or(UNIX_EPOCH + Duration::from_millis(now.millis()));
    Some(until.duration_since(from).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn failure(status: u16, location: Option<&str>, retry_after: Option<Duration>) -> Failure {
        match of_status(status, location, retry_after) {
            Outcome::Failure(failure) => failure,
            Outcome::Success { .. } => panic!("{status} is not a failure"),
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
    fn the_message_of_a_redirect_includes_its_location() {
        let failure = failure(301, Some("https://elsewhere.example/"), None);
        assert!(failure.message.contains("https://elsewhere.example/"));
        assert!(failure.message.contains("not followed"));
        assert_eq!((failure.kind, failure.status), (ErrorKind::Status, Some(301)));
    }

    #[test]
    fn retry_after_only_applies_to_429_and_503() {
        let delay = Duration::from_secs(7);
        let applied = |status| failure(status, None, Some(delay)).retry_after;
        assert_eq!([429, 503].map(applied), [Some(delay); 2]);
        assert_eq!([301, 404, 500, 502].map(applied), [None; 4]);
    }

    #[test]
    fn retry_after_is_a_number_of_seconds_or_a_date() {
        fn seconds(value: &str, date: Option<&str>) -> Option<u64> {
            // Wed, 21 Oct 2026 07:28:00 GMT.
            let now = Timestamp::from_millis(1_792_567_680_000);
            retry_after(value, date, now).map(|delay| delay.as_secs())
        }
        assert_eq!(seconds("7", None), Some(7));
        assert_eq!(seconds(" 120 ", None), Some(120));
        assert_eq!(seconds("99999999999999999999", None), Some(u32::MAX.into()));
        for date in [
            "Wed, 21 Oct 2026 07:29:00 GMT",
            "Wednesday, 21-Oct-26 07:29:00 GMT",
            "Wed Oct 21 07:29:00 2026",
        ] {
            assert_eq!(seconds(date, None), Some(60), "{date}");
            // The endpoint's clock is an hour ahead.
            let theirs = date.replace("07:29", "08:29");
            assert_eq!(seconds(&theirs, Some("Wed, 21 Oct 2026 08:28:00 GMT")), Some(60));
        }
        assert_eq!(seconds("Wed, 21 Oct 2026 07:00:00 GMT", None), Some(0));
        assert_eq!(seconds("Wed, 21 Oct 2026 07:29:00 GMT", Some("garbage")), Some(60));
        for garbage in ["", "-1", "+1", "soon", "1.5", "2026-10-21T07:28:00Z"] {
            assert_eq!(seconds(garbage, None), None, "{garbage}");
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
