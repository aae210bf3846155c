//! Deliveries and their attempts.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::endpoint::State as EndpointState;
use crate::event::EventTypeName;
use crate::ids::{AccountId, AttemptId, DeliveryId, EndpointId, EventId};
use crate::outcome::ErrorKind;
use crate::time::Timestamp;

/// One event to one endpoint, with its retries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Its id.
    pub id: DeliveryId,
    /// Whose it is.
    pub account: AccountId,
    /// The event.
    pub event: EventId,
    /// The event's type.
    pub event_type: EventTypeName,
    /// The endpoint.
    pub endpoint: EndpointId,
    /// When the event was accepted, or the delivery was asked for again.
    pub created_at: Timestamp,
    /// Attempts that are on record, 0 to 11.
    pub attempt_count: u8,
    /// When the first attempt began; the retry window counts from here.
    pub first_attempt_at: Option<Timestamp>,
    /// Where it stands.
    pub progress: Progress,
}

/// Where a delivery stands, as the store has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Not at its end. Its endpoint's state tells whether it waits to be sent or is held.
    Pending {
        /// When the next attempt is due.
        due: Timestamp,
    },
    /// At its end.
    Finished {
        /// How.
        end: End,
        /// When.
        at: Timestamp,
    },
}

/// The ends of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// A 2XX.
    Delivered,
    /// All attempts failed.
    Exhausted,
    /// Its owner gave it up, or removed the endpoint.
    Discarded,
}

/// Where a delivery stands, as people see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    /// An attempt is due or in flight.
    Pending,
    /// A 2XX came.
    Delivered,
    /// All attempts failed.
    Exhausted,
    /// Kept while its endpoint is disabled.
    Held,
    /// Given up by its owner.
    Discarded,
}

impl Delivery {
    /// Where it stands, given its endpoint's state. A pending delivery of a disabled endpoint
    /// is held: disabling one with a million of them is one small write.
    #[must_use]
    pub fn state(&self, endpoint: &EndpointState) -> DeliveryState {
        match (self.progress, endpoint) {
            (Progress::Pending { .. }, EndpointState::Enabled) => DeliveryState::Pending,
            (Progress::Pending { .. }, EndpointState::Disabled(_)) => DeliveryState::Held,
            (Progress::Pending { .. }, EndpointState::Deleted) => DeliveryState::Discarded,
            (Progress::Finished { end: End::Delivered, .. }, _) => DeliveryState::Delivered,
            (Progress::Finished { end: End::Exhausted, .. }, _) => DeliveryState::Exhausted,
            (Progress::Finished { end: End::Discarded, .. }, _) => DeliveryState::Discarded,
        }
    }

    /// When the next attempt is due, if one is to come.
    #[must_use]
    pub fn due(&self) -> Option<Timestamp> {
        match self.progress {
            Progress::Pending { due } => Some(due),
            Progress::Finished { .. } => None,
        }
    }

    /// When it came to its end.
    #[must_use]
    pub fn finished_at(&self) -> Option<Timestamp> {
        match self.progress {
            Progress::Pending { .. } => None,
            Progress::Finished { at, .. } => Some(at),
        }
    }
}

/// One HTTP request and what came of it. The body is the event's payload and stands there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Its id, which tells a repeated write from a second attempt.
    pub id: AttemptId,
    /// 1 for the first.
    pub number: u8,
    /// When it began.
    pub at: Timestamp,
    /// How long it took, in milliseconds.
    pub duration_ms: u32,
    /// What was sent, but for the body.
    pub request: RequestHead,
    /// What came back.
    pub response: Option<Response>,
    /// What went wrong; none on success.
    pub error: Option<AttemptError>,
    /// When the next attempt is due, if this one failed and was not the last.
    pub next_attempt_at: Option<Timestamp>,
}

/// The head of a request, as it went over the wire. The method is always POST.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHead {
    /// The URL.
    pub url: String,
    /// Names and values, in their order on the wire.
    pub headers: Vec<(String, String)>,
}

/// An answer, within the bounds of what is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Names and values, in their order on the wire.
    pub headers: Vec<(String, String)>,
    /// The first 4 KiB of the body.
    pub body: Bytes,
}

/// Why an attempt failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptError {
    /// What kind.
    pub kind: ErrorKind,
    /// What happened, in words.
    pub message: String,
}
