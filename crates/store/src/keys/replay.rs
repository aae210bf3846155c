//! `a account replay` → [`Replay`](postrider_domain::replay::Replay), and `s shard replay` →
//! the account, while it runs.

use postrider_domain::ids::{AccountId, ReplayId};
use postrider_domain::ownership::Shard;

use super::{Key, Table, Tail};
use crate::kv::Error;

pub(crate) fn key(account: AccountId, replay: ReplayId) -> Vec<u8> {
    Key::account(account, Table::Replay).id(replay).done()
}

pub(crate) fn of_account(account: AccountId) -> Vec<u8> {
    Key::account(account, Table::Replay).done()
}

pub(crate) fn running(shard: Shard, replay: ReplayId) -> Vec<u8> {
    Key::shard(shard, Table::RunningReplay).id(replay).done()
}

pub(crate) fn running_in(shard: Shard) -> Vec<u8> {
    Key::shard(shard, Table::RunningReplay).done()
}

pub(crate) fn of_key(key: &[u8]) -> Result<ReplayId, Error> {
    Tail(key).id()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        assert_eq!(of_key(&running(1, ReplayId::MAX)), Ok(ReplayId::MAX));
        assert!(key(AccountId::MIN, ReplayId::MAX).starts_with(&of_account(AccountId::MIN)));
    }
}
