//! Events. The payload is stored separately, so that listing events does not read payloads.
//!
//! | Key | Value | Written by |
//! |---|---|---|
//! | `a account event` | [`EventMeta`] | `accept` |
//! | `a account event number` | a chunk of the payload, at most [`CHUNK`] bytes | `accept` |

use bytes::Bytes;
use postrider_domain::event::EventTypeName;
use postrider_domain::ids::{AccountId, EventId};
use postrider_domain::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Key, Table, Tail};
use crate::codec::{self, Record};
use crate::kv::{Error, MAX_VALUE};

/// An event without its payload.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct EventMeta {
    pub(crate) event_type: EventTypeName,
    pub(crate) created_at: Timestamp,
    pub(crate) deliveries: u64,
    pub(crate) payload_bytes: u64,
}

/// The size of a payload chunk in bytes.
pub(crate) const CHUNK: usize = MAX_VALUE;

#[derive(Serialize, Deserialize)]
struct V1<'a> {
    event_type: &'a str,
    created_at: Timestamp,
    deliveries: u64,
    payload_bytes: u64,
}

impl<'a> From<&'a EventMeta> for V1<'a> {
    fn from(
        EventMeta { event_type, created_at, deliveries, payload_bytes }: &'a EventMeta,
    ) -> Self {
        Self {
            event_type: event_type.as_str(),
            created_at: *created_at,
            deliveries: *deliveries,
            payload_bytes: *payload_bytes,
        }
    }
}

impl From<V1<'_>> for EventMeta {
    fn from(V1 { event_type, created_at, deliveries, payload_bytes }: V1<'_>) -> Self {
        let event_type = EventTypeName::from_stored(event_type);
        Self { event_type, created_at, deliveries, payload_bytes }
    }
}

impl Record for EventMeta {
    fn encode(&self) -> Bytes {
        codec::versioned(1, &V1::from(self))
    }

    fn decode(bytes: &[u8]) -> Result<Self, Error> {
        codec::version_1::<V1<'_>>("event", bytes).map(Self::from)
    }
}

pub(crate) fn meta_key(account: AccountId, event: EventId) -> Vec<u8> {
    Key::account(account, Table::EventMeta).id(event).done()
}

pub(crate) fn of_account(account: AccountId) -> Vec<u8> {
    Key::account(account, Table::EventMeta).done()
}

pub(crate) fn chunk(account: AccountId, event: EventId, number: u8) -> Vec<u8> {
    Key::account(account, Table::EventPayload).id(event).byte(number).done()
}

pub(crate) fn chunks(account: AccountId, event: EventId) -> Vec<u8> {
    Key::account(account, Table::EventPayload).id(event).done()
}

/// The id in a metadata key.
pub(crate) fn parse_key(key: &[u8]) -> Result<EventId, Error> {
    Tail(key).id()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::golden;

    #[test]
    fn round_trip() {
        assert_eq!(parse_key(&meta_key(AccountId::MIN, EventId::MAX)), Ok(EventId::MAX));
        let chunk = chunk(AccountId::MIN, EventId::MAX, 2);
        assert!(chunk.starts_with(&chunks(AccountId::MIN, EventId::MAX)));
    }

    #[test]
    fn the_largest_payload_fits_in_numbered_chunks() {
        assert!(postrider_domain::limits::MAX_BODY_BYTES.div_ceil(CHUNK) <= usize::from(u8::MAX));
    }

    #[test]
    fn golden() {
        let meta = EventMeta {
            event_type: EventTypeName::parse("order.paid").expect("a name"),
            created_at: Timestamp::from_millis(1_700_000_000_000),
            deliveries: 300,
            payload_bytes: 17,
        };
        golden::check(&meta, "010a6f726465722e7061696480d095ffbc31ac0211");
    }
}
