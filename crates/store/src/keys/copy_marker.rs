//! An unfinished copy of another store into this one. While this row exists, the store is
//! incomplete and cannot be opened.
//!
//! | Key | Value | Written by |
//! |---|---|---|
//! | `g` | [`Marker`] | `copy`, with every batch of rows; removed once the copy is complete and compared |

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Key, Table};
use crate::codec::{self, Record};
use crate::kv::Error;

/// A digest of a store's contents. Stores with equal contents have equal digests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digest {
    /// The number of rows.
    pub rows: u64,
    /// The size of all keys and values in bytes.
    pub bytes: u64,
    /// SHA-256 over all keys and values in order, each preceded by its length.
    pub sha256: [u8; 32],
}

/// The source of the copy, and its progress.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Marker {
    /// The digest of the complete source.
    pub(crate) source: Digest,
    /// How many rows have been copied.
    pub(crate) rows: u64,
    /// The key of the last row copied.
    pub(crate) last: Option<Vec<u8>>,
}

impl Record for Marker {
    fn encode(&self) -> Bytes {
        codec::versioned(1, self)
    }

    fn decode(bytes: &[u8]) -> Result<Self, Error> {
        codec::version_1("copy", bytes)
    }
}

pub(crate) fn key() -> Vec<u8> {
    Key::global(Table::Copying).done()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::golden;

    #[test]
    fn round_trip() {
        let source = Digest { rows: 1 << 40, bytes: 1 << 50, sha256: [7; 32] };
        let marker = Marker { source, rows: 9, last: Some(key()) };
        assert_eq!(Marker::decode(&marker.encode()), Ok(marker));
    }

    #[test]
    fn golden() {
        let source = Digest { rows: 300, bytes: 1 << 40, sha256: [7; 32] };
        golden::check(
            &Marker { source, rows: 9, last: Some(vec![b'g', 1]) },
            "\
             01ac028080808080200707070707070707070707070707070707070707070707\
             0707070707070707070901026701",
        );
        golden::check(
            &Marker { source, rows: 0, last: None },
            "\
             01ac028080808080200707070707070707070707070707070707070707070707\
             0707070707070707070000",
        );
    }
}
