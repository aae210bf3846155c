//! `s shard mark` → [`Resend`]: a past event that is sent again to more endpoints than one
//! transaction takes, and how far that has come. The mark, an id that no delivery has, names it,
//! so that it is apart from the event's own fan-out and from other resends of it.

use postrider_domain::ids::{DeliveryId, EventId};
use postrider_domain::ownership::Shard;
use postrider_domain::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::fan_out::FanOut;
use super::{Key, Table, Tail};
use crate::kv::Error;

/// What is sent again, and its cursor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Resend {
    pub(crate) event: EventId,
    /// When it was asked for. Endpoints that were made later do not receive it.
    pub(crate) asked_at: Timestamp,
    pub(crate) cursor: FanOut,
}

pub(crate) fn key(shard: Shard, mark: DeliveryId) -> Vec<u8> {
    Key::shard(shard, Table::Resend).id(mark).done()
}

pub(crate) fn of_shard(shard: Shard) -> Vec<u8> {
    Key::shard(shard, Table::Resend).done()
}

pub(crate) fn of_key(key: &[u8]) -> Result<DeliveryId, Error> {
    Tail(key).id()
}

#[cfg(test)]
mod tests {
    use postrider_domain::ids::AccountId;

    use super::*;
    use crate::codec;

    #[test]
    fn round_trip() {
        assert_eq!(of_key(&key(1, DeliveryId::MAX)), Ok(DeliveryId::MAX));
        assert!(key(1, DeliveryId::MIN).starts_with(&of_shard(1)));
        let cursor = FanOut { account: AccountId::MAX, all_types: true, after: None };
        let resend = Resend { event: EventId::MAX, asked_at: Timestamp::EPOCH, cursor };
        assert_eq!(codec::decode(&codec::encode(&resend)), Ok(resend));
    }
}
