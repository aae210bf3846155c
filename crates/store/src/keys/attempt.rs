//! `a account delivery number` → [`Attempt`], and since version 2 of its layout the [`Fence`] under
//! which it was recorded.

use bytes::Bytes;
use postrider_domain::delivery::Attempt;
use postrider_domain::ids::{AccountId, DeliveryId};
use postrider_domain::ownership::Fence;

use super::{Key, Table};
use crate::codec;
use crate::kv::Error;

/// The layout with a fence.
const FENCED: u8 = 2;

pub(crate) fn encode(attempt: &Attempt, fence: Fence) -> Bytes {
    codec::encode_as(FENCED, &(attempt, fence))
}

/// The attempt, and the fence if its record has one.
pub(crate) fn decode(bytes: &[u8]) -> Result<(Attempt, Option<Fence>), Error> {
    match bytes.first() {
        Some(&FENCED) => {
            codec::decode_as(FENCED, bytes).map(|(attempt, fence)| (attempt, Some(fence)))
        }
        _ => codec::decode(bytes).map(|attempt| (attempt, None)),
    }
}

pub(crate) fn key(account: AccountId, delivery: DeliveryId, number: u8) -> Vec<u8> {
    Key::account(account, Table::Attempt).id(delivery).byte(number).done()
}

pub(crate) fn of_delivery(account: AccountId, delivery: DeliveryId) -> Vec<u8> {
    Key::account(account, Table::Attempt).id(delivery).done()
}

#[cfg(test)]
mod tests {
    use super::*;
    use postrider_domain::delivery::RequestHead;
    use postrider_domain::ids::{AttemptId, BootId};
    use postrider_domain::time::Timestamp;

    #[test]
    fn attempts_sort_by_number() {
        let key = |number| key(AccountId::MIN, DeliveryId::MAX, number);
        assert!(key(1) < key(2) && key(9) < key(11));
        assert!(key(1).starts_with(&of_delivery(AccountId::MIN, DeliveryId::MAX)));
    }

    #[test]
    fn both_layouts_are_read() {
        let attempt = Attempt {
            id: AttemptId::MAX,
            number: 3,
            at: Timestamp::from_millis(5),
            duration_ms: 6,
            request: RequestHead { url: "http://a".to_owned(), headers: Vec::new() },
            response: None,
            error: None,
            next_attempt_at: None,
        };
        let fence = Fence { shard: 7, epoch: 8, node: BootId::MAX };
        assert_eq!(decode(&encode(&attempt, fence)), Ok((attempt.clone(), Some(fence))));
        assert_eq!(decode(&codec::encode(&attempt)), Ok((attempt, None)));
        assert!(decode(&[FENCED]).is_err() && decode(&[]).is_err());
    }
}
