//! The times that the nodes' clocks have shown, one for each run of a node.
//!
//! | Key | Value | Written by |
//! |---|---|---|
//! | `g boot` | a [`Timestamp`] | `clocks`, at short intervals while the node runs; removed once it is over and later times are recorded |

use bytes::Bytes;
use postrider_domain::ids::BootId;
use postrider_domain::time::Timestamp;

use super::{Key, Table, Tail};
use crate::codec::{self, Record};
use crate::kv::Error;

pub(crate) fn key(node: BootId) -> Vec<u8> {
    Key::global(Table::Clock).id(node).done()
}

/// The prefix of all times.
pub(crate) fn all() -> Vec<u8> {
    Key::global(Table::Clock).done()
}

/// The run in a key.
pub(crate) fn node_of(key: &[u8]) -> Result<BootId, Error> {
    Tail(key).id()
}

impl Record for Timestamp {
    fn encode(&self) -> Bytes {
        codec::versioned(1, self)
    }

    fn decode(bytes: &[u8]) -> Result<Self, Error> {
        codec::version_1("time", bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::golden;

    #[test]
    fn round_trip() {
        assert_eq!(node_of(&key(BootId::MAX)), Ok(BootId::MAX));
        assert!(key(BootId::MIN).starts_with(&all()));
    }

    #[test]
    fn golden() {
        golden::check(&Timestamp::from_millis(1_700_000_000_000), "0180d095ffbc31");
    }
}
