//! `s shard event` → [`FanOut`]: an event with more subscribers than one transaction takes,
//! and how far its deliveries have been made.

use postrider_domain::ids::{AccountId, EndpointId, EventId};
use postrider_domain::ownership::Shard;
use serde::{Deserialize, Serialize};

use super::{Key, Table, Tail};
use crate::kv::Error;

/// The cursor of a fan-out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FanOut {
    pub(crate) account: AccountId,
    /// Which list is being read: first those that name the type, then those of all types.
    pub(crate) all_types: bool,
    /// The last endpoint of that list that was dealt with.
    pub(crate) after: Option<EndpointId>,
}

impl FanOut {
    /// The cursor before anything has been made.
    pub(crate) fn begin(account: AccountId) -> Self {
        Self { account, all_types: false, after: None }
    }
}

pub(crate) fn key(shard: Shard, event: EventId) -> Vec<u8> {
    Key::shard(shard, Table::FanOut).id(event).done()
}

pub(crate) fn of_shard(shard: Shard) -> Vec<u8> {
    Key::shard(shard, Table::FanOut).done()
}

pub(crate) fn of_key(key: &[u8]) -> Result<EventId, Error> {
    Tail(key).id()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        assert_eq!(of_key(&key(1, EventId::MAX)), Ok(EventId::MAX));
    }
}
