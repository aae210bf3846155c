//! Wakes as they travel between nodes: work for the owner of a shard.
//!
//! An endpoint's shard does not travel: the receiver derives it, so that no message can make a
//! node work on an endpoint under another shard's fence.

use bytes::Bytes;
use postrider_domain::assignment::Shard;
use postrider_domain::ids::{AccountId, DeliveryId, EndpointId, EventId};
use postrider_domain::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::{CallError, CallErrorKind, MAX_WAKES};

/// Work for shards that the receiver owns, at most [`MAX_WAKES`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WakeMany {
    /// The work.
    pub wakes: Vec<WakeItem>,
}

/// One piece of work, and where it belongs in a trace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WakeItem {
    /// What there is to do.
    pub work: Work,
    /// The span of what made the work, as a W3C `traceparent`.
    pub traceparent: Option<String>,
}

/// What there is to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Work {
    /// An endpoint has a delivery due.
    Endpoint {
        /// Whose it is.
        account: AccountId,
        /// The endpoint.
        endpoint: EndpointId,
        /// The delivery itself, if it is small. It saves reading it.
        ready: Option<Box<ReadyDelivery>>,
    },
    /// What may be remembered of an endpoint is out of date.
    Changed {
        /// Whose it is.
        account: AccountId,
        /// The endpoint.
        endpoint: EndpointId,
    },
    /// A shard has a fan-out or a replay to work on.
    Jobs {
        /// The shard.
        shard: Shard,
    },
}

/// A delivery that is due, with what it sends. It is durable already.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadyDelivery {
    /// Its id.
    pub id: DeliveryId,
    /// The event.
    pub event: EventId,
    /// The event's type.
    pub event_type: String,
    /// When it was made, in milliseconds since the Unix epoch.
    pub created_at: Timestamp,
    /// Attempts that are on record.
    pub attempt_count: u8,
    /// When the first attempt began, in milliseconds since the Unix epoch.
    pub first_attempt_at: Option<Timestamp>,
    /// When the next attempt is due, in milliseconds since the Unix epoch.
    pub due: Timestamp,
    /// The payload, at most 16 KiB.
    pub payload: Bytes,
}

impl WakeMany {
    pub(super) fn check_counts(&self) -> Result<(), CallError> {
        if self.wakes.len() <= MAX_WAKES {
            return Ok(());
        }
        let message = format!("a message can have at most {MAX_WAKES} wakes");
        Err(CallError::new(CallErrorKind::TooLarge, message))
    }
}
