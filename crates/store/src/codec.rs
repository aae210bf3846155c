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

/// Checks of the bytes that a store may hold.
#[cfg(test)]
pub(crate) mod golden {
    use std::fmt::Debug;

    use super::*;

    /// Bytes as hexadecimal digits, in lines of 32 bytes.
    fn hex(bytes: &[u8]) -> String {
        let line = |line: &[u8]| line.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        bytes.chunks(32).map(line).collect::<Vec<_>>().join("\n")
    }

    /// The bytes of hexadecimal digits, in which white space does not count.
    pub(crate) fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<_> = hex.chars().filter_map(|digit| digit.to_digit(16)).collect();
        digits.chunks(2).map(|pair| u8::try_from(pair[0] << 4 | pair[1]).expect("a byte")).collect()
    }

    /// Checks that `record` is written as `golden` and read from it.
    ///
    /// A failure means that stores of earlier versions would be misread, or that earlier versions
    /// would misread this one's: the record needs a new version, and the old one stays readable.
    #[track_caller]
    pub(crate) fn check<R: Serialize + DeserializeOwned + PartialEq + Debug>(
        record: &R,
        golden: &str,
    ) {
        check_bytes(&encode(record), golden);
        assert_eq!(decode::<R>(&bytes(golden)).as_ref(), Ok(record));
    }

    /// Checks that `bytes` are `golden`.
    #[track_caller]
    pub(crate) fn check_bytes(found: &[u8], golden: &str) {
        assert_eq!(hex(found), hex(&bytes(golden)));
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
