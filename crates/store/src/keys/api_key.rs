//! API keys.
//!
//! | Key | Value | Written by |
//! |---|---|---|
//! | `a account key` | [`ApiKey`] | `accounts`, when a key is created |
//! | `g sha256` | [`Reference`], to look up the key of a request | the same transaction |

use bytes::Bytes;
use postrider_domain::account::{ApiKey, Name};
use postrider_domain::ids::{AccountId, KeyId};
use postrider_domain::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Key, Table};
use crate::codec::{self, Record};
use crate::kv::Error;

/// Points from a hash to the API key.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reference {
    pub(crate) account: AccountId,
    pub(crate) key: KeyId,
}

#[derive(Serialize, Deserialize)]
struct V1<'a> {
    id: KeyId,
    account: AccountId,
    name: &'a str,
    sha256: [u8; 32],
    created_at: Timestamp,
}

impl<'a> From<&'a ApiKey> for V1<'a> {
    fn from(ApiKey { id, account, name, sha256, created_at }: &'a ApiKey) -> Self {
        Self {
            id: *id,
            account: *account,
            name: name.as_str(),
            sha256: *sha256,
            created_at: *created_at,
        }
    }
}

impl From<V1<'_>> for ApiKey {
    fn from(V1 { id, account, name, sha256, created_at }: V1<'_>) -> Self {
        Self { id, account, name: Name::from_stored(name), sha256, created_at }
    }
}

impl Record for ApiKey {
    fn encode(&self) -> Bytes {
        codec::versioned(1, &V1::from(self))
    }

    fn decode(bytes: &[u8]) -> Result<Self, Error> {
        codec::version_1::<V1<'_>>("API key", bytes).map(Self::from)
    }
}

impl Record for Reference {
    fn encode(&self) -> Bytes {
        codec::versioned(1, self)
    }

    fn decode(bytes: &[u8]) -> Result<Self, Error> {
        codec::version_1("API key reference", bytes)
    }
}

pub(crate) fn key(account: AccountId, key: KeyId) -> Vec<u8> {
    Key::account(account, Table::ApiKey).id(key).done()
}

pub(crate) fn of_account(account: AccountId) -> Vec<u8> {
    Key::account(account, Table::ApiKey).done()
}

pub(crate) fn by_hash(sha256: &[u8; 32]) -> Vec<u8> {
    Key::global(Table::ApiKeyByHash).hash(sha256).done()
}

#[cfg(test)]
mod tests {
    use postrider_domain::ids::Id;

    use super::*;
    use crate::codec::golden;

    #[test]
    fn round_trip() {
        let reference = Reference { account: AccountId::MIN, key: KeyId::MAX };
        assert_eq!(Reference::decode(&reference.encode()), Ok(reference));
        assert!(key(AccountId::MIN, KeyId::MAX).starts_with(&of_account(AccountId::MIN)));
        assert!(by_hash(&[7; 32]).ends_with(&[7; 32]));
    }

    #[test]
    fn golden() {
        let (account, key) = (AccountId::from_bytes([1; 16]), KeyId::from_bytes([2; 16]));
        let record = ApiKey {
            id: key,
            account,
            name: Name::parse("production").expect("a name"),
            sha256: [3; 32],
            created_at: Timestamp::from_millis(1_700_000_000_000),
        };
        golden::check(
            &record,
            "\
             0102020202020202020202020202020202010101010101010101010101010101\
             010a70726f64756374696f6e0303030303030303030303030303030303030303\
             03030303030303030303030380d095ffbc31",
        );
        golden::check(
            &Reference { account, key },
            "\
             0101010101010101010101010101010101020202020202020202020202020202\
             02",
        );
    }
}
