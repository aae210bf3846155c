//! Wakes between nodes: announcements of work to the owner of a shard.
//!
//! A wake does not contain an endpoint's shard. The receiver derives it, so that no message can
//! make a node work on an endpoint under another shard's fence.

use bytes::Bytes;
use postrider_domain::assignment::Shard;
use postrider_domain::ids::{AccountId, DeliveryId, EndpointId, EventId};
use postrider_domain::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::{CallError, CallErrorKind, MAX_WAKES};

/// The parameters of [`Request::WakeMany`](super::Request::WakeMany).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WakeMany {
    /// At most [`MAX_WAKES`] wakes, for shards that the receiver owns.
    pub wakes: Vec<WakeItem>,
}

/// A wake and its trace context.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WakeItem {
    /// The work.
    pub work: Work,
    /// The trace context of the request that caused the work, as a W3C `traceparent`.
    pub traceparent: Option<String>,
}

/// The work that a wake announces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Work {
    /// An endpoint has a due delivery.
    Endpoint {
        /// The account that owns the endpoint.
        account: AccountId,
        /// The endpoint.
        endpoint: EndpointId,
        /// The delivery itself, if its payload has at most
        /// [`MAX_WAKE_PAYLOAD_BYTES`](super::MAX_WAKE_PAYLOAD_BYTES).
        ready: Option<Box<ReadyDelivery>>,
    },
    /// An endpoint was changed: cached data about it is stale.
    Changed {
        /// The account that owns the endpoint.
        account: AccountId,
        /// The endpoint.
        endpoint: EndpointId,
    },
    /// A shard has a fan-out or a replay to run.
    Jobs {
        /// The shard.
        shard: Shard,
    },
}

/// A pending delivery with its payload. It is already durable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadyDelivery {
    /// The id of the delivery.
    pub id: DeliveryId,
    /// The id of the event.
    pub event: EventId,
    /// The name of the event's type.
    pub event_type: String,
    /// When the delivery was created, in milliseconds since the Unix epoch.
    pub created_at: Timestamp,
    /// The number of recorded attempts.
    pub attempt_count: u8,
    /// When the first attempt started, in milliseconds since the Unix epoch.
    pub first_attempt_at: Option<Timestamp>,
    /// When the next attempt is due, in milliseconds since the Unix epoch.
    pub due: Timestamp,
    /// The payload, of at most 16 KiB.
    pub payload: Bytes,
}

impl WakeMany {
    pub(super) fn check_counts(&self) -> Result<(), CallError> {
        if self.wakes.len() <= MAX_WAKES {
            return Ok(());
        }
        let message = format!("a message can contain at most {MAX_WAKES} wakes");
        Err(CallError::new(CallErrorKind::TooLarge, message))
    }
}
