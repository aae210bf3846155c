//! Wakes as they travel between nodes: work for the owner of a shard.
//!
//! An endpoint's shard does not travel: the receiver derives it, so that no message can make a
//! node work on an endpoint under another shard's fence.

use bytes::Bytes;
use postrider_domain::delivery::{Delivery, Progress};
use postrider_domain::event::{EventTypeName, Payload};
use postrider_domain::ids::{AccountId, DeliveryId, EndpointId, EventId};
use postrider_domain::ownership::{Shard, shard_of};
use postrider_domain::time::Timestamp;
use postrider_store::{Ready, Wake};
use serde::{Deserialize, Serialize};

use super::{CallError, CallErrorKind, MAX_WAKE_BYTES, MAX_WAKE_PAYLOAD_BYTES, MAX_WAKES};

/// More than one wake has beside its texts and its payload: four ids, numbers, lengths.
const WAKE_BYTES: usize = 128;

/// Work for shards that the receiver owns, at most [`MAX_WAKES`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WakeMany {
    /// The work.
    pub nudges: Vec<Nudge>,
}

/// One piece of work, and where it belongs in a trace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nudge {
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
    /// Packs work into as few messages as its bounds allow.
    pub fn pack(wakes: impl IntoIterator<Item = Wake>) -> Vec<Self> {
        let mut packed = Vec::new();
        let mut many = Self::default();
        let mut bytes = 0;
        for wake in wakes {
            let traceparent = wake.trace().map(|trace| trace.to_string());
            let nudge = Nudge { work: wake.into(), traceparent };
            let size = nudge.size();
            let full = many.nudges.len() == MAX_WAKES || bytes + size > MAX_WAKE_BYTES;
            if full && !many.nudges.is_empty() {
                packed.push(std::mem::take(&mut many));
                bytes = 0;
            }
            many.nudges.push(nudge);
            bytes += size;
        }
        if !many.nudges.is_empty() {
            packed.push(many);
        }
        packed
    }

    /// The work, in a store of so many shards.
    ///
    /// # Errors
    /// `Malformed` when something of it cannot be: nothing of it is to be done.
    pub fn unpack(self, shards: u16) -> Result<Vec<Wake>, CallError> {
        let unpack = |Nudge { work, traceparent }: Nudge| {
            let mut wake = work.wake(shards)?;
            if let Wake::Endpoint { ready: Some(ready), .. } = &mut wake {
                // A trace that cannot be read breaks off, and the work goes on.
                ready.trace = traceparent.and_then(|text| text.parse().ok());
            }
            Ok(wake)
        };
        self.nudges.into_iter().map(unpack).collect()
    }

    pub(super) fn check_counts(&self) -> Result<(), CallError> {
        if self.nudges.len() <= MAX_WAKES {
            return Ok(());
        }
        let message = format!("a message can have at most {MAX_WAKES} wakes");
        Err(CallError::new(CallErrorKind::TooLarge, message))
    }
}

impl Nudge {
    /// At most how many bytes it has in a message.
    fn size(&self) -> usize {
        let ready = match &self.work {
            Work::Endpoint { ready: Some(ready), .. } => {
                ready.event_type.len() + ready.payload.len()
            }
            _ => 0,
        };
        WAKE_BYTES + self.traceparent.as_ref().map_or(0, String::len) + ready
    }
}

impl From<Wake> for Work {
    fn from(wake: Wake) -> Self {
        match wake {
            Wake::Endpoint { account, endpoint, ready, .. } => {
                let ready = ready.and_then(|ready| ReadyDelivery::of(*ready)).map(Box::new);
                Self::Endpoint { account, endpoint, ready }
            }
            Wake::Changed { account, endpoint, .. } => Self::Changed { account, endpoint },
            Wake::Jobs { shard } => Self::Jobs { shard },
        }
    }
}

impl Work {
    fn wake(self, shards: u16) -> Result<Wake, CallError> {
        Ok(match self {
            Self::Endpoint { account, endpoint, ready } => {
                let ready = ready.map(|ready| ready.ready(account, endpoint)).transpose()?;
                let shard = shard_of(endpoint, shards);
                Wake::Endpoint { shard, account, endpoint, ready: ready.map(Box::new) }
            }
            Self::Changed { account, endpoint } => {
                Wake::Changed { shard: shard_of(endpoint, shards), account, endpoint }
            }
            Self::Jobs { shard } if shard < shards => Wake::Jobs { shard },
            Self::Jobs { shard } => {
                return Err(malformed(format!("there is no shard {shard} of {shards}")));
            }
        })
    }
}

impl ReadyDelivery {
    /// The delivery, if it is due and small.
    fn of(Ready { delivery, payload, .. }: Ready) -> Option<Self> {
        let Progress::Pending { due } = delivery.progress else { return None };
        (payload.bytes().len() <= MAX_WAKE_PAYLOAD_BYTES).then(|| Self {
            id: delivery.id,
            event: delivery.event,
            event_type: delivery.event_type.as_str().to_owned(),
            created_at: delivery.created_at,
            attempt_count: delivery.attempt_count,
            first_attempt_at: delivery.first_attempt_at,
            due,
            payload: payload.bytes().clone(),
        })
    }

    fn ready(self, account: AccountId, endpoint: EndpointId) -> Result<Ready, CallError> {
        let event_type = EventTypeName::parse(&self.event_type)
            .map_err(|error| malformed(format!("a wake's event type {error}")))?;
        // A node has accepted it, and the bytes are what it made durable.
        let payload = Payload::of_json(self.payload)
            .map_err(|error| malformed(format!("a wake's payload {error}")))?;
        let delivery = Delivery {
            id: self.id,
            account,
            event: self.event,
            event_type,
            endpoint,
            created_at: self.created_at,
            attempt_count: self.attempt_count,
            first_attempt_at: self.first_attempt_at,
            progress: Progress::Pending { due: self.due },
        };
        Ok(Ready { delivery, payload, trace: None })
    }
}

fn malformed(message: String) -> CallError {
    CallError::new(CallErrorKind::Malformed, message)
}
