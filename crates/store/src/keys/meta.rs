//! The store's format and number of shards.
//!
//! | Key | Value | Written by |
//! |---|---|---|
//! | `g` | [`Meta`] | `records`, when a store is created, or first opened by a version with a later format |

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Key, Table};
use crate::codec::{self, Record};
use crate::kv::Error;

/// The store's metadata. Its layout never changes, so that every version can tell whether it can
/// read the rest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Meta {
    /// The format of all other records.
    pub(crate) format: u32,
    pub(crate) shards: u16,
}

impl Record for Meta {
    fn encode(&self) -> Bytes {
        codec::versioned(1, self)
    }

    fn decode(bytes: &[u8]) -> Result<Self, Error> {
        codec::version_1("meta", bytes)
    }
}

pub(crate) fn key() -> Vec<u8> {
    Key::global(Table::Meta).done()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_encoding_is_stable() {
        let meta = Meta { format: 1, shards: 300 };
        let bytes = meta.encode();
        assert_eq!((key(), bytes.as_ref()), (vec![b'g', 1], &[1, 1, 0xac, 0x02][..]));
        assert_eq!(Meta::decode(&bytes), Ok(meta));
    }
}
