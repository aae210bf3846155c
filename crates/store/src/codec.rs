//! Record encoding: a version byte, then the fields in postcard format.
//!
//! postcard is compact but not self-describing, so the fields of a version never change. Each record
//! has its own structs per version, in its file in `keys/`, so domain types can change freely. A
//! record that needs other fields gets a new version, and all old versions stay readable.
//!
//! During a rolling upgrade, nodes of two versions read each other's records. Fields that an earlier
//! build can do without are therefore appended instead: it ignores the extra bytes, and drops them
//! when it writes the record. They are absent while they have their default values.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::kv::{Error, Tx};

/// A value in the store.
pub(crate) trait Record: Sized {
    /// Encodes the record in its latest version.
    fn encode(&self) -> Bytes;

    /// Decodes a record of any known version.
    fn decode(bytes: &[u8]) -> Result<Self, Error>;
}

/// Encodes the fields of a version.
pub(crate) fn versioned(version: u8, fields: &impl Serialize) -> Bytes {
    let bytes = postcard::to_extend(fields, vec![version]);
    bytes.expect("records are plain data, which always serializes").into()
}

/// Encodes the fields of a version, and the fields appended to it unless they have their default
/// values.
pub(crate) fn appended<T>(version: u8, fields: &impl Serialize, appended: &T) -> Bytes
where
    T: Serialize + Default + PartialEq,
{
    let bytes = versioned(version, fields);
    if *appended == T::default() {
        return bytes;
    }
    let bytes = postcard::to_extend(appended, bytes.to_vec());
    bytes.expect("records are plain data, which always serializes").into()
}

/// Like [`appended`], with fields that a later build appended after `first`.
pub(crate) fn appended_twice<A, B>(
    version: u8,
    fields: &impl Serialize,
    first: &A,
    then: &B,
) -> Bytes
where
    A: Serialize + Default + PartialEq,
    B: Serialize + Default + PartialEq,
{
    if *then == B::default() {
        return appended(version, fields, first);
    }
    versioned(version, &(fields, first, then))
}

/// A record split into its version and its encoded fields.
pub(crate) struct Versioned<'a> {
    record: &'static str,
    pub(crate) version: u8,
    fields: &'a [u8],
}

impl<'a> Versioned<'a> {
    /// `record` is its name in error messages.
    pub(crate) fn split(record: &'static str, bytes: &'a [u8]) -> Result<Self, Error> {
        match bytes.split_first() {
            Some((&version, fields)) => Ok(Self { record, version, fields }),
            None => Err(Error::Corrupt(format!("the {record} record is empty"))),
        }
    }

    /// Decodes the fields.
    pub(crate) fn fields<T: Deserialize<'a>>(&self) -> Result<T, Error> {
        postcard::from_bytes(self.fields).map_err(|error| self.damaged(&error))
    }

    /// Decodes the fields, and those appended to them if there are any.
    pub(crate) fn appended<T, A>(&self) -> Result<(T, A), Error>
    where
        T: Deserialize<'a>,
        A: Deserialize<'a> + Default,
    {
        let (fields, rest) = self.take(self.fields)?;
        let (appended, _) = self.take_appended(rest)?;
        Ok((fields, appended))
    }

    /// Decodes the fields, and those that two builds appended to them if there are any.
    pub(crate) fn appended_twice<T, A, B>(&self) -> Result<(T, A, B), Error>
    where
        T: Deserialize<'a>,
        A: Deserialize<'a> + Default,
        B: Deserialize<'a> + Default,
    {
        let (fields, rest) = self.take(self.fields)?;
        let (first, rest) = self.take_appended(rest)?;
        let (then, _) = self.take_appended(rest)?;
        Ok((fields, first, then))
    }

    fn take_appended<A: Deserialize<'a> + Default>(
        &self,
        rest: &'a [u8],
    ) -> Result<(A, &'a [u8]), Error> {
        if rest.is_empty() { Ok((A::default(), rest)) } else { self.take(rest) }
    }

    fn take<T: Deserialize<'a>>(&self, bytes: &'a [u8]) -> Result<(T, &'a [u8]), Error> {
        postcard::take_from_bytes(bytes).map_err(|error| self.damaged(&error))
    }

    fn damaged(&self, error: &postcard::Error) -> Error {
        let Self { record, version, .. } = self;
        Error::Corrupt(format!("the {record} record, version {version}, is damaged: {error}"))
    }

    /// The error for a version that this build does not know.
    pub(crate) fn unknown(&self) -> Error {
        let Self { record, version, .. } = self;
        Error::Corrupt(format!("the {record} record has the unknown version {version}"))
    }
}

/// Decodes a record that has only had version 1 so far.
pub(crate) fn version_1<'a, T: Deserialize<'a>>(
    record: &'static str,
    bytes: &'a [u8],
) -> Result<T, Error> {
    let versioned = Versioned::split(record, bytes)?;
    if versioned.version == 1 { versioned.fields() } else { Err(versioned.unknown()) }
}

/// Like [`version_1`], with the fields appended to version 1.
pub(crate) fn version_1_appended<'a, T, A>(
    record: &'static str,
    bytes: &'a [u8],
) -> Result<(T, A), Error>
where
    T: Deserialize<'a>,
    A: Deserialize<'a> + Default,
{
    let versioned = Versioned::split(record, bytes)?;
    if versioned.version == 1 { versioned.appended() } else { Err(versioned.unknown()) }
}

/// Like [`version_1_appended`], with fields appended by two builds.
pub(crate) fn version_1_appended_twice<'a, T, A, B>(
    record: &'static str,
    bytes: &'a [u8],
) -> Result<(T, A, B), Error>
where
    T: Deserialize<'a>,
    A: Deserialize<'a> + Default,
    B: Deserialize<'a> + Default,
{
    let versioned = Versioned::split(record, bytes)?;
    if versioned.version == 1 { versioned.appended_twice() } else { Err(versioned.unknown()) }
}

/// Records in a transaction.
pub(crate) trait RecordTx {
    /// The record at `key`, checked at commit.
    async fn load<T: Record>(&self, key: &[u8]) -> Result<Option<T>, Error>;

    /// The record at `key`, not checked at commit.
    async fn snap_load<T: Record>(&self, key: &[u8]) -> Result<Option<T>, Error>;

    /// Writes `record` at `key`.
    fn save(&self, key: Vec<u8>, record: &impl Record);
}

impl RecordTx for Tx {
    async fn load<T: Record>(&self, key: &[u8]) -> Result<Option<T>, Error> {
        self.get(key).await?.map(|bytes| T::decode(&bytes)).transpose()
    }

    async fn snap_load<T: Record>(&self, key: &[u8]) -> Result<Option<T>, Error> {
        self.snap_get(key).await?.map(|bytes| T::decode(&bytes)).transpose()
    }

    fn save(&self, key: Vec<u8>, record: &impl Record) {
        self.set(key, record.encode());
    }
}

/// Golden tests of encoded records.
#[cfg(test)]
pub(crate) mod golden {
    use std::fmt::Debug;

    use super::*;

    /// Bytes as hexadecimal digits, in lines of 32 bytes.
    fn hex(bytes: &[u8]) -> String {
        let line = |line: &[u8]| line.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        bytes.chunks(32).map(line).collect::<Vec<_>>().join("\n")
    }

    /// Parses hexadecimal digits, ignoring white space.
    pub(crate) fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<_> = hex.chars().filter_map(|digit| digit.to_digit(16)).collect();
        digits.chunks(2).map(|pair| u8::try_from(pair[0] << 4 | pair[1]).expect("a byte")).collect()
    }

    /// Checks that `record` encodes to `golden` and decodes from it.
    ///
    /// A failure means that this version would misread existing stores, or earlier versions would
    /// misread new ones: the record needs a new version, and the old one must stay readable.
    #[track_caller]
    pub(crate) fn check<R: Record + PartialEq + Debug>(record: &R, golden: &str) {
        check_bytes(&record.encode(), golden);
        assert_eq!(R::decode(&bytes(golden)).as_ref(), Ok(record));
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
    fn appended_fields_are_optional_and_ignored_by_earlier_builds() {
        let plain = appended(1, &7_u64, &0_u32);
        assert_eq!(plain, versioned(1, &7_u64));
        let longer = appended(1, &7_u64, &300_u32);
        assert_eq!(longer.as_ref(), [1, 7, 0xac, 2]);
        assert_eq!(version_1::<u64>("test", &longer), Ok(7));
        assert_eq!(version_1_appended::<u64, u32>("test", &longer), Ok((7, 300)));
        assert_eq!(version_1_appended::<u64, u32>("test", &plain), Ok((7, 0)));
        let damaged = version_1_appended::<u64, u32>("test", &longer[..3]);
        assert!(matches!(damaged, Err(Error::Corrupt(_))), "{damaged:?}");
    }

    #[test]
    fn fields_can_be_appended_twice() {
        let encode = |first, then| appended_twice(1, &7_u64, &first, &then);
        assert_eq!(encode(0_u32, 0_u8), versioned(1, &7_u64));
        assert_eq!(encode(300, 0), appended(1, &7_u64, &300_u32));
        assert_eq!(encode(0, 9).as_ref(), [1, 7, 0, 9]);
        for (first, then) in [(0, 0), (300, 0), (0, 9), (300, 9)] {
            let bytes = encode(first, then);
            let decoded = version_1_appended_twice::<u64, u32, u8>("test", &bytes);
            assert_eq!(decoded, Ok((7, first, then)));
            assert_eq!(version_1_appended::<u64, u32>("test", &bytes), Ok((7, first)));
        }
    }

    #[test]
    fn unknown_versions_and_garbage_are_corrupt() {
        assert_eq!(version_1::<u64>("test", &versioned(1, &7_u64)), Ok(7));
        for (bytes, message) in [
            (&[][..], "the test record is empty"),
            (&[2, 7], "the test record has the unknown version 2"),
            (&[1], "the test record, version 1, is damaged"),
            (&[1, 0xff], "the test record, version 1, is damaged"),
        ] {
            match version_1::<u64>("test", bytes) {
                Err(Error::Corrupt(found)) => assert!(found.starts_with(message), "{found}"),
                other => panic!("{bytes:?}: {other:?}"),
            }
        }
    }
}
