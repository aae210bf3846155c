//! Resends to more endpoints than fit into one transaction.
//!
//! | Key | Value | Written by |
//! |---|---|---|
//! | `s shard batch_id` | [`Resend`] | `resend`; changed and removed by `fan_out` |
//!
//! The batch id, which no delivery has, distinguishes a resend from the event's own fan-out and
//! from other resends of the event.

use bytes::Bytes;
use postrider_domain::assignment::Shard;
use postrider_domain::ids::{DeliveryId, EventId};
use postrider_domain::time::Timestamp;

use super::fan_out::{FanOut, Layout, V1, V2};
use super::{Key, Table, Tail};
use crate::codec::{self, Record, Versioned};
use crate::kv::Error;

/// A resend and its progress. Its versions and tables are those of its [`FanOut`], preceded by the
/// event and the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Resend {
    pub(crate) event: EventId,
    pub(crate) requested_at: Timestamp,
    pub(crate) fan_out: FanOut,
}

impl Record for Resend {
    fn encode(&self) -> Bytes {
        let Self { event, requested_at, fan_out } = self;
        match fan_out.layout() {
            Layout::V1(fan_out) => codec::versioned(1, &(event, requested_at, fan_out)),
            Layout::V2(fan_out) => codec::versioned(2, &(event, requested_at, fan_out)),
        }
    }

    fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let versioned = Versioned::split("resend", bytes)?;
        let (event, requested_at, fan_out) = match versioned.version {
            1 => {
                let (event, requested_at, fan_out): (_, _, V1) = versioned.fields()?;
                (event, requested_at, fan_out.into())
            }
            2 => {
                let (event, requested_at, fan_out): (_, _, V2) = versioned.fields()?;
                (event, requested_at, fan_out.into())
            }
            _ => return Err(versioned.unknown()),
        };
        Ok(Self { event, requested_at, fan_out })
    }
}

pub(crate) fn key(shard: Shard, batch_id: DeliveryId, fan_out: &FanOut) -> Vec<u8> {
    let table = if fan_out.is_merged() { Table::MergedResend } else { Table::Resend };
    Key::shard(shard, table).id(batch_id).done()
}

/// The key prefixes of both versions.
pub(crate) fn of_shard(shard: Shard) -> [Vec<u8>; 2] {
    [Table::Resend, Table::MergedResend].map(|table| Key::shard(shard, table).done())
}

pub(crate) fn parse_key(key: &[u8]) -> Result<DeliveryId, Error> {
    Tail(key).id()
}

#[cfg(test)]
mod tests {
    use postrider_domain::ids::{AccountId, EndpointId, Id};

    use super::super::fan_out::Cursor;
    use super::*;

    #[test]
    fn round_trip() {
        let [first, second] = of_shard(1);
        let merged = FanOut::new(AccountId::MIN, EndpointId::MAX);
        let cursor = Cursor::ListByList { all_types: false, after: None };
        let list_by_list = FanOut { cursor, ..merged };
        for (fan_out, prefix) in [(list_by_list, first), (merged, second)] {
            let key = key(1, DeliveryId::MAX, &fan_out);
            assert!(key.starts_with(&prefix));
            assert_eq!(parse_key(&key), Ok(DeliveryId::MAX));
        }
    }

    #[test]
    fn every_version_keeps_its_bytes() {
        let (account, endpoint) = (AccountId::from_bytes([1; 16]), EndpointId::from_bytes([2; 16]));
        let cursors = [
            Cursor::ListByList { all_types: false, after: None },
            Cursor::Merged { after: Some(endpoint), last: EndpointId::MAX },
        ];
        let [first, second] = cursors.map(|cursor| Resend {
            event: EventId::from_bytes([3; 16]),
            requested_at: Timestamp::from_millis(300),
            fan_out: FanOut { account, cursor },
        });
        let golden_first = [&[1][..], &[3; 16], &[172, 2], &[1; 16], &[0, 0]].concat();
        let golden_second =
            [&[2][..], &[3; 16], &[172, 2], &[1; 16], &[1], &[2; 16], &[255; 16]].concat();
        for (record, golden) in [(first, golden_first), (second, golden_second)] {
            assert_eq!(record.encode(), golden);
            assert_eq!(Resend::decode(&golden), Ok(record));
        }
        for garbage in [&[][..], &[1], &[2], &[3, 0]] {
            assert!(matches!(Resend::decode(garbage), Err(Error::Corrupt(_))), "{garbage:?}");
        }
    }
}
