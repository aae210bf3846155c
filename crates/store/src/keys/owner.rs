//! The owners of shards. Every write of an owner reads this row.
//!
//! | Key | Value | Written by |
//! |---|---|---|
//! | `s shard` | [`Owner`] | `owners`, when a shard is claimed, taken over or handed over |

use bytes::Bytes;
use postrider_domain::assignment::Shard;
use postrider_domain::ids::BootId;
use serde::{Deserialize, Serialize};

use super::{Key, Table};
use crate::codec::{self, Record};
use crate::kv::Error;

/// The current owner of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Incremented with every change of owner.
    pub epoch: u64,
    /// The node, in one of its runs. It may no longer be alive.
    pub node: BootId,
}

impl Record for Owner {
    fn encode(&self) -> Bytes {
        codec::versioned(1, self)
    }

    fn decode(bytes: &[u8]) -> Result<Self, Error> {
        codec::version_1("owner", bytes)
    }
}

pub(crate) fn key(shard: Shard) -> Vec<u8> {
    Key::shard(shard, Table::Owner).done()
}

#[cfg(test)]
mod tests {
    use postrider_domain::ids::Id;

    use super::*;
    use crate::codec::golden;

    #[test]
    fn round_trip() {
        let owner = Owner { epoch: 1 << 40, node: BootId::from_bytes([5; 16]) };
        assert_eq!(Owner::decode(&owner.encode()), Ok(owner));
        assert!(key(255) < key(256));
    }

    #[test]
    fn golden() {
        golden::check(
            &Owner { epoch: 1 << 40, node: BootId::from_bytes([5; 16]) },
            "0180808080802005050505050505050505050505050505",
        );
    }
}
