//! `a account key` → [`ApiKey`](postrider_domain::account::ApiKey), and `g hash` →
//! [`Reference`], by which a request's key is found.

use postrider_domain::ids::{AccountId, KeyId};
use serde::{Deserialize, Serialize};

use super::{Key, Table};

/// Where the key of a hash is recorded.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reference {
    pub(crate) account: AccountId,
    pub(crate) key: KeyId,
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
    use super::*;
    use crate::codec;
    use crate::codec::golden;
    use postrider_domain::account::{ApiKey, Name};
    use postrider_domain::ids::Id;
    use postrider_domain::time::Timestamp;

    #[test]
    fn round_trip() {
        let reference = Reference { account: AccountId::MIN, key: KeyId::MAX };
        let Reference { account, key: id } =
            codec::decode(&codec::encode(&reference)).expect("its own bytes");
        assert_eq!((account, id), (AccountId::MIN, KeyId::MAX));
        assert!(key(account, id).starts_with(&of_account(account)));
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
