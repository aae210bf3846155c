//! The expiry of idempotency keys. The leading shard spreads the writes.
//!
//! | Key | Value | Written by |
//! |---|---|---|
//! | `s shard time account sha256` | empty | `accept`, with every idempotency key; `sweep`, when the key has been used again |

use postrider_domain::assignment::Shard;
use postrider_domain::ids::{AccountId, Id};
use postrider_domain::time::Timestamp;

use super::{Key, Table, Tail};
use crate::kv::Error;

pub(crate) fn key(shard: Shard, at: Timestamp, account: AccountId, sha256: &[u8; 32]) -> Vec<u8> {
    before(shard, at).into_iter().chain(account.bytes()).chain(*sha256).collect()
}

/// The end of the range of keys that expire before `at`.
pub(crate) fn before(shard: Shard, at: Timestamp) -> Vec<u8> {
    Key::shard(shard, Table::Expiry).time(at).done()
}

pub(crate) fn parse_key(key: &[u8]) -> Result<(Timestamp, AccountId, [u8; 32]), Error> {
    let mut tail = Tail(key);
    let sha256 = tail.take()?;
    let account = tail.id()?;
    Ok((tail.time()?, account, sha256))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        let time = Timestamp::from_millis(5);
        let key = key(9, time, AccountId::MAX, &[7; 32]);
        assert_eq!(parse_key(&key), Ok((time, AccountId::MAX, [7; 32])));
        assert!(before(9, time) < key);
    }
}
