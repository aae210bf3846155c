//! The deliveries of an event.
//!
//! | Key | Value | Written by |
//! |---|---|---|
//! | `a account event mark` | the ids of deliveries that were created together, in order | `receivers`, when deliveries are created |
//!
//! The mark is an id that is not greater than the first of them, and mostly is that id. So the
//! common case, an event and its deliveries, takes one small row.

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

pub(crate) fn key(account: AccountId, event: EventId, mark: DeliveryId) -> Vec<u8> {
    Key::account(account, Table::DeliveriesOfEvent).id(event).id(mark).done()
}

pub(crate) fn of_event(account: AccountId, event: EventId) -> Vec<u8> {
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
        let key = |mark| key(AccountId::MIN, EventId::MAX, mark);
        assert!(key(DeliveryId::MIN) < key(DeliveryId::MAX));
        assert!(key(DeliveryId::MAX).starts_with(&of_event(AccountId::MIN, EventId::MAX)));
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
