//! Fan-outs: events with more subscribers than fit into one transaction, and the progress of
//! creating their deliveries.
//!
//! | Key | Value | Written by |
//! |---|---|---|
//! | `s shard event` | [`FanOut`] | `accept`; changed and removed by `fan_out` |
//!
//! | Version | Fields |
//! |---|---|
//! | 1 | account, whether the list of `*` is being read, the last endpoint served |
//! | 2 | account, the last endpoint served, the last endpoint to serve |
//!
//! Version 2 has its own table: during a rolling upgrade, nodes of an earlier version do not see
//! its rows, and continue with those that they can read.

use bytes::Bytes;
use postrider_domain::assignment::Shard;
use postrider_domain::ids::{AccountId, EndpointId, EventId};
use serde::{Deserialize, Serialize};

use super::{Key, Table, Tail};
use crate::codec::{self, Record, Versioned};
use crate::kv::Error;

/// A fan-out in progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FanOut {
    pub(crate) account: AccountId,
    pub(crate) cursor: Cursor,
}

/// The progress of a fan-out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cursor {
    /// Merges both lists, the subscribers to the type and those to every type, in the order of
    /// their ids. An endpoint that moves between the lists meanwhile keeps its position.
    Merged {
        /// The last endpoint served.
        after: Option<EndpointId>,
        /// The greatest endpoint id that the accepting transaction read.
        last: EndpointId,
    },
    /// Version 1: reads one list after the other. An endpoint that moves between them meanwhile may
    /// be served twice or not at all. Only fan-outs started by an earlier version use it.
    ListByList {
        /// The list being read: first the subscribers to the type, then those to every type.
        all_types: bool,
        /// The last endpoint of that list served.
        after: Option<EndpointId>,
    },
}

#[derive(Serialize, Deserialize)]
pub(super) struct V1 {
    account: AccountId,
    all_types: bool,
    after: Option<EndpointId>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct V2 {
    account: AccountId,
    after: Option<EndpointId>,
    last: EndpointId,
}

/// The record in the version that its cursor requires.
pub(super) enum Layout {
    V1(V1),
    V2(V2),
}

impl FanOut {
    /// A fan-out that has not served any endpoint yet.
    pub(crate) fn new(account: AccountId, last: EndpointId) -> Self {
        Self { account, cursor: Cursor::Merged { after: None, last } }
    }

    pub(super) fn is_merged(&self) -> bool {
        matches!(self.cursor, Cursor::Merged { .. })
    }

    pub(super) fn layout(self) -> Layout {
        let Self { account, cursor } = self;
        match cursor {
            Cursor::Merged { after, last } => Layout::V2(V2 { account, after, last }),
            Cursor::ListByList { all_types, after } => Layout::V1(V1 { account, all_types, after }),
        }
    }
}

impl Record for FanOut {
    fn encode(&self) -> Bytes {
        match self.layout() {
            Layout::V1(record) => codec::versioned(1, &record),
            Layout::V2(record) => codec::versioned(2, &record),
        }
    }

    fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let versioned = Versioned::split("fan-out", bytes)?;
        match versioned.version {
            1 => versioned.fields::<V1>().map(Self::from),
            2 => versioned.fields::<V2>().map(Self::from),
            _ => Err(versioned.unknown()),
        }
    }
}

impl From<V1> for FanOut {
    fn from(V1 { account, all_types, after }: V1) -> Self {
        Self { account, cursor: Cursor::ListByList { all_types, after } }
    }
}

impl From<V2> for FanOut {
    fn from(V2 { account, after, last }: V2) -> Self {
        Self { account, cursor: Cursor::Merged { after, last } }
    }
}

pub(crate) fn key(shard: Shard, event: EventId, fan_out: &FanOut) -> Vec<u8> {
    let table = if fan_out.is_merged() { Table::MergedFanOut } else { Table::FanOut };
    Key::shard(shard, table).id(event).done()
}

/// The key prefixes of both versions.
pub(crate) fn of_shard(shard: Shard) -> [Vec<u8>; 2] {
    [Table::FanOut, Table::MergedFanOut].map(|table| Key::shard(shard, table).done())
}

pub(crate) fn parse_key(key: &[u8]) -> Result<EventId, Error> {
    Tail(key).id()
}

#[cfg(test)]
mod tests {
    use postrider_domain::ids::Id;

    use super::*;

    #[test]
    fn round_trip() {
        let [first, second] = of_shard(1);
        let merged = FanOut::new(AccountId::MIN, EndpointId::MAX);
        let cursor = Cursor::ListByList { all_types: false, after: None };
        let list_by_list = FanOut { cursor, ..merged };
        for (fan_out, prefix) in [(list_by_list, first), (merged, second)] {
            let key = key(1, EventId::MAX, &fan_out);
            assert!(key.starts_with(&prefix));
            assert_eq!(parse_key(&key), Ok(EventId::MAX));
        }
    }

    #[test]
    fn every_version_keeps_its_bytes() {
        let (account, endpoint) = (AccountId::from_bytes([1; 16]), EndpointId::from_bytes([2; 16]));
        let first = FanOut {
            account,
            cursor: Cursor::ListByList { all_types: true, after: Some(endpoint) },
        };
        let second = FanOut { account, cursor: Cursor::Merged { after: None, last: endpoint } };
        let golden_first = [&[1][..], &[1; 16], &[1, 1], &[2; 16]].concat();
        let golden_second = [&[2][..], &[1; 16], &[0], &[2; 16]].concat();
        for (record, golden) in [(first, golden_first), (second, golden_second)] {
            assert_eq!(record.encode(), golden);
            assert_eq!(FanOut::decode(&golden), Ok(record));
        }
        for garbage in [&[][..], &[1], &[2], &[3, 0]] {
            assert!(matches!(FanOut::decode(garbage), Err(Error::Corrupt(_))), "{garbage:?}");
        }
    }
}
