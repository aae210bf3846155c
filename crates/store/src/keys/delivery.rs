//! `a account delivery` → [`Delivery`](postrider_domain::delivery::Delivery), and `a account
//! endpoint delivery` → nothing, an endpoint's deliveries by age.

use postrider_domain::ids::{AccountId, DeliveryId, EndpointId};

use super::{Key, Table, Tail};
use crate::kv::Error;

pub(crate) fn key(account: AccountId, delivery: DeliveryId) -> Vec<u8> {
    Key::account(account, Table::Delivery).id(delivery).done()
}

pub(crate) fn of_account(account: AccountId) -> Vec<u8> {
    Key::account(account, Table::Delivery).done()
}

pub(crate) fn of_endpoint(
    account: AccountId,
    endpoint: EndpointId,
    delivery: DeliveryId,
) -> Vec<u8> {
    Key::account(account, Table::DeliveryOfEndpoint).id(endpoint).id(delivery).done()
}

/// The id in either kind of key.
pub(crate) fn of_key(key: &[u8]) -> Result<DeliveryId, Error> {
    Tail(key).id()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{self, golden};
    use postrider_domain::delivery::{Delivery, End, Progress};
    use postrider_domain::event::EventTypeName;
    use postrider_domain::ids::{EventId, Id};
    use postrider_domain::time::Timestamp;

    #[test]
    fn round_trip() {
        let (account, endpoint, delivery) = (AccountId::MIN, EndpointId::MIN, DeliveryId::MAX);
        assert_eq!(of_key(&key(account, delivery)), Ok(delivery));
        assert_eq!(of_key(&of_endpoint(account, endpoint, delivery)), Ok(delivery));
    }

    #[test]
    fn golden() {
        let delivery = |progress| Delivery {
            id: DeliveryId::from_bytes([1; 16]),
            account: AccountId::from_bytes([2; 16]),
            event: EventId::from_bytes([3; 16]),
            event_type: EventTypeName::parse("order.paid").expect("a name"),
            endpoint: EndpointId::from_bytes([4; 16]),
            created_at: Timestamp::from_millis(1_700_000_000_000),
            attempt_count: 2,
            first_attempt_at: Some(Timestamp::from_millis(1_700_000_000_001)),
            progress,
        };
        let at = Timestamp::from_millis(1_700_000_060_000);
        golden::check(
            &delivery(Progress::Pending { due: at }),
            "\
             0101010101010101010101010101010101020202020202020202020202020202\
             02030303030303030303030303030303030a6f726465722e7061696404040404\
             04040404040404040404040480d095ffbc31020181d095ffbc3100e0a499ffbc\
             31",
        );
        for (end, last) in [(End::Delivered, 0), (End::Exhausted, 1), (End::Discarded, 2)] {
            let bytes = codec::encode(&delivery(Progress::Finished { end, at }));
            assert_eq!(bytes[bytes.len() - 8..bytes.len() - 6], [1, last], "{end:?}");
            assert_eq!(codec::decode(&bytes), Ok(delivery(Progress::Finished { end, at })));
        }
    }
}
