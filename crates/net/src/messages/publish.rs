//! Events to publish, as they travel, and how they are read.

use bytes::Bytes;
use postrider_domain::ids::{AccountId, EventId};
use postrider_domain::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::{CallError, CallErrorKind, MAX_EVENTS, MAX_EVENTS_BYTES};

/// One event to accept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publish {
    /// Whose endpoints receive it.
    pub account: AccountId,
    /// The event.
    pub event: NewEvent,
    /// A name for this request, 1 to 256 visible ASCII characters. When the request is sent again
    /// with the same name within 24 h, it has the same answer and no further effect. The names of
    /// requests by message and by HTTP are the same names.
    pub idempotency_key: Option<String>,
}

/// Events to accept, all or none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishBatch {
    /// Whose endpoints receive them.
    pub account: AccountId,
    /// 1 to 1,000 events.
    pub events: Vec<NewEvent>,
    /// As in [`Publish`], for all of them.
    pub idempotency_key: Option<String>,
}

/// An event to publish.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewEvent {
    /// A type of the catalogue, such as `application.created`.
    pub event_type: String,
    /// What to send: JSON of at most 256 KiB, nested at most 64 deep. Receivers get these very
    /// bytes.
    pub payload: Bytes,
}

/// What the sender of an event is told once it is durable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The event's id; receivers see it as `webhook-id`.
    pub id: EventId,
    /// Its type.
    pub event_type: String,
    /// When it was accepted, in milliseconds since the Unix epoch.
    pub created_at: Timestamp,
    /// How many endpoints receive it.
    pub deliveries: u64,
}

impl PublishBatch {
    pub(super) fn check_counts(&self) -> Result<(), CallError> {
        let bytes: usize = self.events.iter().map(NewEvent::len).sum();
        if self.events.is_empty() {
            let message = "a batch must have at least one event";
            Err(CallError::new(CallErrorKind::Malformed, message))
        } else if self.events.len() > MAX_EVENTS {
            let message = format!("a batch can have at most {MAX_EVENTS} events");
            Err(CallError::new(CallErrorKind::TooLarge, message))
        } else if bytes > MAX_EVENTS_BYTES {
            let message = format!("a batch can have at most {MAX_EVENTS_BYTES} bytes of events");
            Err(CallError::new(CallErrorKind::TooLarge, message))
        } else {
            Ok(())
        }
    }
}

impl NewEvent {
    /// How many bytes it counts for in a batch.
    #[expect(clippy::len_without_is_empty, reason = "no event is empty")]
    #[must_use]
    pub fn len(&self) -> usize {
        self.event_type.len() + self.payload.len()
    }
}
