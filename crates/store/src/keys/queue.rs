//! An endpoint's pending deliveries in the order of their due times: the lower level of the
//! two-level queue (see [`super::due`]).
//!
//! | Key | Value | Written by |
//! |---|---|---|
//! | `a account endpoint rank time delivery` | empty | `endpoint_key`; removed when the delivery finishes |

use postrider_domain::delivery::Delivery;
use postrider_domain::ids::{AccountId, DeliveryId, EndpointId};
use postrider_domain::time::Timestamp;

use super::{Key, Table, Tail};
use crate::kv::Error;

/// Retries are separate from first attempts: new deliveries for a failing endpoint, however many,
/// do not delay the retries of earlier ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Rank {
    Retry = 1,
    First = 2,
}

impl Rank {
    pub(crate) fn of(delivery: &Delivery) -> Self {
        if delivery.attempt_count > 0 { Self::Retry } else { Self::First }
    }
}

pub(crate) fn key(delivery: &Delivery, due: Timestamp) -> Vec<u8> {
    let Delivery { account, endpoint, id, .. } = *delivery;
    let rank = Rank::of(delivery) as u8;
    Key::account(account, Table::Queue).id(endpoint).byte(rank).time(due).id(id).done()
}

pub(crate) fn of_rank(account: AccountId, endpoint: EndpointId, rank: Rank) -> Vec<u8> {
    Key::account(account, Table::Queue).id(endpoint).byte(rank as u8).done()
}

/// The first key after a position in a queue.
pub(crate) fn after(
    account: AccountId,
    endpoint: EndpointId,
    rank: Rank,
    (due, delivery): (Timestamp, DeliveryId),
) -> Vec<u8> {
    let key = Key::account(account, Table::Queue).id(endpoint).byte(rank as u8);
    [key.time(due).id(delivery).done(), vec![0]].concat()
}

pub(crate) fn parse_key(key: &[u8]) -> Result<(Timestamp, DeliveryId), Error> {
    let mut tail = Tail(key);
    let delivery = tail.id()?;
    Ok((tail.time()?, delivery))
}

#[cfg(test)]
mod tests {
    use postrider_domain::delivery::{Progress, Schedule};
    use postrider_domain::event::EventTypeName;
    use postrider_domain::ids::EventId;

    use super::*;

    #[test]
    fn round_trip() {
        let due = Timestamp::from_millis(1 << 40);
        let delivery = Delivery {
            id: DeliveryId::MAX,
            account: AccountId::MIN,
            event: EventId::MIN,
            event_type: EventTypeName::parse("a").expect("a name"),
            endpoint: EndpointId::MIN,
            created_at: due,
            attempt_count: 1,
            first_attempt_at: None,
            schedule: Schedule::default(),
            progress: Progress::Pending { due },
        };
        let key = key(&delivery, due);
        assert_eq!(parse_key(&key), Ok((due, DeliveryId::MAX)));
        let of_rank = of_rank(AccountId::MIN, EndpointId::MIN, Rank::Retry);
        assert!(key.starts_with(&of_rank));
        let after = |position| after(AccountId::MIN, EndpointId::MIN, Rank::Retry, position);
        assert!(after((due, DeliveryId::MIN)) < key && key < after((due, DeliveryId::MAX)));
    }
}
