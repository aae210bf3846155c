//! Publishing events.

use bytes::Bytes;
use postrider_domain::ids::{AccountId, EventId};
use postrider_domain::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::{CallError, CallErrorKind, MAX_EVENTS, MAX_EVENTS_BYTES};

/// The parameters of [`Request::Publish`](super::Request::Publish).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publish {
    /// The account whose endpoints receive the event.
    pub account: AccountId,
    /// The event.
    pub event: NewEvent,
    /// The idempotency key: 1 to 256 visible ASCII characters. Repeating the same request with the
    /// same key within 24 hours returns the same reply and has no further effect. Messages and the
    /// HTTP API share one set of keys per account.
    pub idempotency_key: Option<String>,
}

/// The parameters of [`Request::PublishBatch`](super::Request::PublishBatch).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishBatch {
    /// The account whose endpoints receive the events.
    pub account: AccountId,
    /// 1 to [`MAX_EVENTS`] events, of at most [`MAX_EVENTS_BYTES`] in total.
    pub events: Vec<NewEvent>,
    /// The idempotency key of the whole batch, as in [`Publish`].
    pub idempotency_key: Option<String>,
}

/// An event to publish.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewEvent {
    /// The name of an event type in the catalogue, such as `application.created`.
    pub event_type: String,
    /// The payload: JSON of at most 256 KiB, nested at most 64 levels deep. Receivers get exactly
    /// these bytes.
    ///
    /// Whether its event type has a schema or not, a payload is rejected if a string has half of a
    /// surrogate pair (`"\ud800"`), a number is beyond the range of a 64-bit float (`1e400`), or
    /// all of it is a string that contains a JSON object or array. A schema that names the type
    /// `string` allows such a string.
    pub payload: Bytes,
}

/// Confirms that an event is durable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The id of the event. Receivers see it in the header `webhook-id`.
    pub id: EventId,
    /// The name of the event's type.
    pub event_type: String,
    /// When the event was accepted, in milliseconds since the Unix epoch.
    pub created_at: Timestamp,
    /// The number of endpoints that receive the event.
    pub deliveries: u64,
}

impl PublishBatch {
    pub(super) fn check_counts(&self) -> Result<(), CallError> {
        let bytes: usize = self.events.iter().map(NewEvent::len).sum();
        if self.events.is_empty() {
            let message = "a batch must contain at least one event";
            Err(CallError::new(CallErrorKind::Malformed, message))
        } else if self.events.len() > MAX_EVENTS {
            let message = format!("a batch can contain at most {MAX_EVENTS} events");
            Err(CallError::new(CallErrorKind::TooLarge, message))
        } else if bytes > MAX_EVENTS_BYTES {
            let message = format!("a batch can contain at most {MAX_EVENTS_BYTES} bytes of events");
            Err(CallError::new(CallErrorKind::TooLarge, message))
        } else {
            Ok(())
        }
    }
}

impl NewEvent {
    /// The size that counts towards [`MAX_EVENTS_BYTES`]: type and payload, in bytes.
    #[expect(clippy::len_without_is_empty, reason = "an event is never empty")]
    #[must_use]
    pub fn len(&self) -> usize {
        self.event_type.len() + self.payload.len()
    }
}
