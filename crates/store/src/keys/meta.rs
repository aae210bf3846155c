//! `g` → [`Meta`]: what was settled when the store was created.

use serde::{Deserialize, Serialize};

use super::{Key, Table};

/// The store's own description. Its layout never changes, so that every version can tell
/// whether it understands the rest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Meta {
    /// The layout of all other records.
    pub(crate) format: u32,
    /// How many shards there are.
    pub(crate) shards: u16,
}

pub(crate) fn key() -> Vec<u8> {
    Key::global(Table::Meta).done()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec;

    #[test]
    fn it_never_changes() {
        let meta = Meta { format: 1, shards: 300 };
        let bytes = codec::encode(&meta);
        assert_eq!((key(), bytes.as_ref()), (vec![b'g', 1], &[1, 1, 0xac, 0x02][..]));
        assert_eq!(codec::decode(&bytes), Ok(meta));
    }
}
