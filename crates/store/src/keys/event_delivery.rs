//! The index of an event's deliveries.
//!
//! | Key | Value | Written by |
//! |---|---|---|
//! | `a account event batch_id` | the ids of a batch of deliveries, in order | `event_deliveries`, when deliveries are created |
//!
//! The batch id is not greater than the first delivery's id, and usually equals it. In the common
//! case an event has one small row.

use bytes::Bytes;
use postrider_domain::ids::{AccountId, DeliveryId, EventId};

use super::{Key, Table};
use crate::codec::{self, Record};
use crate::kv::Error;

impl Record for Vec<DeliveryId> {
    fn encode(&self) -> Bytes {
        codec::versioned(1, self)
    }

    fn decode(bytes: &[u8]) -> Result<Self, Error> {
        codec::version_1("deliveries of an event", bytes)
    }
}

pub(crate) fn key(account: AccountId, event: EventId, batch_id: DeliveryId) -> Vec<u8> {
    Key::account(account, Table::DeliveriesOfEvent).id(event).id(batch_id).done()
}

pub(crate) fn prefix(account: AccountId, event: EventId) -> Vec<u8> {
    Key::account(account, Table::DeliveriesOfEvent).id(event).done()
}

#[cfg(test)]
mod tests {
    use postrider_domain::ids::Id;
    use postrider_domain::limits::MAX_FAN_OUT_PER_TRANSACTION;

    use super::*;
    use crate::codec::golden;
    use crate::kv::MAX_VALUE;

    #[test]
    fn round_trip() {
        let key = |batch_id| key(AccountId::MIN, EventId::MAX, batch_id);
        assert!(key(DeliveryId::MIN) < key(DeliveryId::MAX));
        assert!(key(DeliveryId::MAX).starts_with(&prefix(AccountId::MIN, EventId::MAX)));
        let ids = vec![DeliveryId::from_bytes([7; 16]); MAX_FAN_OUT_PER_TRANSACTION];
        let value = ids.encode();
        assert!(value.len() <= MAX_VALUE);
        assert_eq!(Record::decode(&value), Ok(ids));
    }

    #[test]
    fn golden() {
        let ids = [[1; 16], [2; 16]].map(DeliveryId::from_bytes);
        golden::check(
            &ids.to_vec(),
            "\
             0102010101010101010101010101010101010202020202020202020202020202\
             0202",
        );
    }
}
