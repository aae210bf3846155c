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
    use crate::codec::golden;
    use postrider_domain::delivery::RequestHead;
    use postrider_domain::delivery::{AttemptError, Response};
    use postrider_domain::ids::Id;
    use postrider_domain::ids::{AttemptId, BootId};
    use postrider_domain::outcome::ErrorKind;
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

    #[test]
    fn golden() {
        let at = Timestamp::from_millis(1_700_000_000_000);
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let delivered = Attempt {
            id: AttemptId::from_bytes([1; 16]),
            number: 1,
            at,
            duration_ms: 300,
            request: RequestHead {
                url: "https://hooks.example/".to_owned(),
                headers: vec![header("host", "hooks.example")],
            },
            response: Some(Response {
                status: 200,
                headers: vec![header("server", "x")],
                body: "ok".into(),
            }),
            error: None,
            next_attempt_at: None,
        };
        let fence = Fence { shard: 300, epoch: 8, node: BootId::from_bytes([2; 16]) };
        golden::check_bytes(
            &encode(&delivered, fence),
            "\
             02010101010101010101010101010101010180d095ffbc31ac02166874747073\
             3a2f2f686f6f6b732e6578616d706c652f0104686f73740d686f6f6b732e6578\
             616d706c6501c80101067365727665720178026f6b0000ac0208020202020202\
             02020202020202020202",
        );
        golden::check_bytes(
            &codec::encode(&delivered),
            "\
             01010101010101010101010101010101010180d095ffbc31ac02166874747073\
             3a2f2f686f6f6b732e6578616d706c652f0104686f73740d686f6f6b732e6578\
             616d706c6501c80101067365727665720178026f6b0000",
        );
        for (kind, number) in [
            (ErrorKind::Timeout, 0),
            (ErrorKind::Dns, 1),
            (ErrorKind::Connect, 2),
            (ErrorKind::Tls, 3),
            (ErrorKind::Status, 4),
            (ErrorKind::Blocked, 5),
            (ErrorKind::Protocol, 6),
        ] {
            let failed = Attempt {
                response: None,
                error: Some(AttemptError { kind, message: "m".to_owned() }),
                next_attempt_at: Some(at),
                ..delivered.clone()
            };
            let bytes = codec::encode(&failed);
            // The error, its kind and message, and the next attempt.
            let end = [&[0, 1, number, 1, b'm', 1][..], &golden::bytes("80d095ffbc31")].concat();
            assert!(bytes.ends_with(&end), "{kind:?}");
        }
    }
}
