//! Attempts: one HTTP request for a delivery, and its result.

use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;

use crate::ids::AttemptId;
use crate::outcome::{AttemptError, Outcome};
use crate::time::Timestamp;

/// One HTTP request and its result. The request body is the event's payload and not kept here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Distinguishes a repeated write from a second attempt.
    pub id: AttemptId,
    /// 1 for the first.
    pub number: u8,
    /// When it began.
    pub at: Timestamp,
    pub duration_ms: u32,
    /// The request without its body.
    pub request: RequestHead,
    pub response: Option<Response>,
    /// The error. `None` on success.
    pub error: Option<AttemptError>,
    /// When the next attempt is due, if this one failed and was not the last.
    pub next_attempt_at: Option<Timestamp>,
}

impl Attempt {
    /// The delay from its end to the next attempt, as scheduled. Zero if none was.
    #[must_use]
    pub fn delay_to_next(&self) -> Duration {
        let ended_at = self.at.plus(Duration::from_millis(self.duration_ms.into()));
        self.next_attempt_at.map(|due| due.since(ended_at)).unwrap_or_default()
    }
}

/// A request without its body, as sent. The method is always POST.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHead {
    /// The canonical origin, and path and query as they were in the request line.
    pub url: String,
    /// Names and values, in wire order.
    pub headers: Vec<(String, String)>,
}

/// A response, truncated to the limits of the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    /// Names and values, in wire order.
    pub headers: Vec<(String, String)>,
    /// The first 4 KiB of the body.
    pub body: Bytes,
}

impl Response {
    /// The value of its `Date` header.
    #[must_use]
    pub fn date(&self) -> Option<Timestamp> {
        let is_date = |(name, _): &&(String, String)| name.eq_ignore_ascii_case("date");
        let (_, text) = self.headers.iter().find(is_date)?;
        let date = httpdate::parse_http_date(text.trim()).ok()?;
        let since_epoch = date.duration_since(UNIX_EPOCH).ok()?;
        Some(Timestamp::EPOCH.plus(since_epoch))
    }
}

/// A request and its result, as the sender saw them.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// The request's head, exactly as it was sent.
    pub request: RequestHead,
    pub response: Option<Response>,
    pub outcome: Outcome,
    pub duration: Duration,
}

impl Exchange {
    /// The duration in whole milliseconds.
    #[must_use]
    pub fn duration_ms(&self) -> u32 {
        u32::try_from(self.duration.as_millis()).unwrap_or(u32::MAX)
    }
}

/// The result of a test event.
#[derive(Clone, Debug)]
pub struct TestReport {
    pub exchange: Exchange,
    pub phases: Phases,
}

/// The measured durations of the phases of a request, in order. A phase that did not happen is
/// absent; the last phase present is the one in which a failed request stopped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Phases {
    /// Resolving the host name; absent if the URL contains an IP address.
    pub dns: Option<Duration>,
    /// Opening a TCP connection to any of the host's addresses.
    pub connect: Option<Duration>,
    /// The TLS handshake; absent without TLS.
    pub tls: Option<Duration>,
    /// From the connection to the response's status line and headers: sending the request, the
    /// receiver's processing, and the response's latency.
    pub wait: Option<Duration>,
    /// Reading the response body, up to the limit.
    pub read: Option<Duration>,
}
