//! How a record becomes bytes: one byte for the layout's version, then postcard.
//!
//! postcard is compact and not self-describing: a record whose fields change gets a new
//! version here, and the old one stays readable.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::kv::{Error, Tx};

/// The first layout, which most records still have.
const VERSION: u8 = 1;

pub(crate) fn encode(record: &impl Serialize) -> Bytes {
    encode_as(VERSION, record)
}

/// For a record that has more than one layout.
pub(crate) fn encode_as(version: u8, record: &impl Serialize) -> Bytes {
    let bytes = postcard::to_extend(record, vec![version]);
    bytes.expect("records are plain data, which always serializes").into()
}

pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    decode_as(VERSION, bytes)
}

/// For a record that has more than one layout.
pub(crate) fn decode_as<T: DeserializeOwned>(version: u8, bytes: &[u8]) -> Result<T, Error> {
    let what = std::any::type_name::<T>();
    match bytes.split_first() {
        Some((found, rest)) if *found == version => postcard::from_bytes(rest)
            .map_err(|error| Error::Corrupt(format!("a record of {what}: {error}"))),
        Some((found, _)) => Err(Error::Corrupt(format!("a record of {what} has version {found}"))),
        None => Err(Error::Corrupt(format!("a record of {what} is empty"))),
    }
}

impl Tx {
    /// The record at `key`, checked at commit.
    pub(crate) async fn load<T: DeserializeOwned>(&self, key: &[u8]) -> Result<Option<T>, Error> {
        self.get(key).await?.map(|bytes| decode(&bytes)).transpose()
    }

    /// The record at `key`, not checked at commit.
    pub(crate) async fn snap_load<T: DeserializeOwned>(
        &self,
        key: &[u8],
    ) -> Result<Option<T>, Error> {
        self.snap_get(key).await?.map(|bytes| decode(&bytes)).transpose()
    }

    /// Writes `record` at `key`.
    pub(crate) fn save(&self, key: Vec<u8>, record: &impl Serialize) {
        self.set(key, encode(record));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_versions_and_garbage_are_damage() {
        assert_eq!(decode::<u64>(&encode(&7_u64)), Ok(7));
        for bytes in [&[][..], &[2, 7], &[VERSION], &[VERSION, 0xff]] {
            assert!(matches!(decode::<u64>(bytes), Err(Error::Corrupt(_))), "{bytes:?}");
        }
    }
}
