//! Deleted accounts whose data may not be completely removed yet.
//!
//! | Key | Value | Written by |
//! |---|---|---|
//! | `s shard account` | empty | `accounts`, when an account is deleted; removed by `sweep` with the last of its data |

use postrider_domain::assignment::Shard;
use postrider_domain::ids::AccountId;

use super::{Key, Table, Tail};
use crate::kv::Error;

pub(crate) fn key(shard: Shard, account: AccountId) -> Vec<u8> {
    Key::shard(shard, Table::Removal).id(account).done()
}

pub(crate) fn of_shard(shard: Shard) -> Vec<u8> {
    Key::shard(shard, Table::Removal).done()
}

pub(crate) fn parse_key(key: &[u8]) -> Result<AccountId, Error> {
    Tail(key).id()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        assert_eq!(parse_key(&key(3, AccountId::MAX)), Ok(AccountId::MAX));
        assert!(key(3, AccountId::MIN).starts_with(&of_shard(3)));
    }
}
