//! The attempts of a delivery.
//!
//! | Key | Value | Written by |
//! |---|---|---|
//! | `a account delivery number` | [`RecordedAttempt`] | `apply`, under the fence of the shard's owner, when an attempt has finished |
//!
//! Version 1 has no fence. It was written before there were several nodes.

use bytes::Bytes;
use postrider_domain::assignment::{Fence, Shard};
use postrider_domain::attempt::{Attempt, RequestHead, Response};
use postrider_domain::ids::{AccountId, AttemptId, BootId, DeliveryId};
use postrider_domain::outcome::AttemptError;
use postrider_domain::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::parts::{ErrorKindV1, borrowed, owned};
use super::{Key, Table};
use crate::codec::{self, Record, Versioned};
use crate::kv::Error;

/// An attempt, and the fence under which it was recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedAttempt {
    pub attempt: Attempt,
    /// `None` in version 1, which was written before there were several nodes.
    pub fence: Option<Fence>,
}

#[derive(Serialize, Deserialize)]
struct V1<'a> {
    id: AttemptId,
    number: u8,
    at: Timestamp,
    duration_ms: u32,
    #[serde(borrow)]
    request: RequestV1<'a>,
    response: Option<ResponseV1<'a>>,
    error: Option<ErrorV1<'a>>,
    next_attempt_at: Option<Timestamp>,
}

#[derive(Serialize, Deserialize)]
struct V2<'a> {
    #[serde(borrow)]
    attempt: V1<'a>,
    shard: Shard,
    epoch: u64,
    node: BootId,
}

#[derive(Serialize, Deserialize)]
struct RequestV1<'a> {
    url: &'a str,
    #[serde(borrow)]
    headers: Vec<(&'a str, &'a str)>,
}

#[derive(Serialize, Deserialize)]
struct ResponseV1<'a> {
    status: u16,
    #[serde(borrow)]
    headers: Vec<(&'a str, &'a str)>,
    body: Bytes,
}

#[derive(Serialize, Deserialize)]
struct ErrorV1<'a> {
    kind: ErrorKindV1,
    message: &'a str,
}

/// Encodes an attempt recorded under `fence`.
pub(crate) fn encode(attempt: &Attempt, fence: Fence) -> Bytes {
    let Fence { shard, epoch, node } = fence;
    codec::versioned(2, &V2 { attempt: attempt.into(), shard, epoch, node })
}

impl Record for RecordedAttempt {
    fn encode(&self) -> Bytes {
        match self.fence {
            Some(fence) => encode(&self.attempt, fence),
            None => codec::versioned(1, &V1::from(&self.attempt)),
        }
    }

    fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let versioned = Versioned::split("attempt", bytes)?;
        match versioned.version {
            1 => Ok(Self { attempt: versioned.fields::<V1<'_>>()?.into(), fence: None }),
            2 => {
                let V2 { attempt, shard, epoch, node } = versioned.fields()?;
                let fence = Some(Fence { shard, epoch, node });
                Ok(Self { attempt: attempt.into(), fence })
            }
            _ => Err(versioned.unknown()),
        }
    }
}

impl<'a> From<&'a Attempt> for V1<'a> {
    fn from(attempt: &'a Attempt) -> Self {
        let RequestHead { url, headers } = &attempt.request;
        Self {
            id: attempt.id,
            number: attempt.number,
            at: attempt.at,
            duration_ms: attempt.duration_ms,
            request: RequestV1 { url, headers: borrowed(headers) },
            response: attempt.response.as_ref().map(|Response { status, headers, body }| {
                ResponseV1 { status: *status, headers: borrowed(headers), body: body.clone() }
            }),
            error: attempt
                .error
                .as_ref()
                .map(|AttemptError { kind, message }| ErrorV1 { kind: (*kind).into(), message }),
            next_attempt_at: attempt.next_attempt_at,
        }
    }
}

impl From<V1<'_>> for Attempt {
    fn from(record: V1<'_>) -> Self {
        let RequestV1 { url, headers } = record.request;
        Self {
            id: record.id,
            number: record.number,
            at: record.at,
            duration_ms: record.duration_ms,
            request: RequestHead { url: url.to_owned(), headers: owned(headers) },
            response: record.response.map(|ResponseV1 { status, headers, body }| Response {
                status,
                headers: owned(headers),
                body,
            }),
            error: record.error.map(|ErrorV1 { kind, message }| AttemptError {
                kind: kind.into(),
                message: message.to_owned(),
            }),
            next_attempt_at: record.next_attempt_at,
        }
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
    use postrider_domain::attempt::RequestHead;
    use postrider_domain::attempt::Response;
    use postrider_domain::ids::Id;
    use postrider_domain::ids::{AttemptId, BootId};
    use postrider_domain::outcome::AttemptError;
    use postrider_domain::outcome::ErrorKind;

    use super::*;
    use crate::codec::golden;

    #[test]
    fn attempts_sort_by_number() {
        let key = |number| key(AccountId::MIN, DeliveryId::MAX, number);
        assert!(key(1) < key(2) && key(9) < key(11));
        assert!(key(1).starts_with(&of_delivery(AccountId::MIN, DeliveryId::MAX)));
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
        let recorded = |fence| RecordedAttempt { attempt: delivered.clone(), fence };
        golden::check(
            &recorded(Some(fence)),
            "\
             02010101010101010101010101010101010180d095ffbc31ac02166874747073\
             3a2f2f686f6f6b732e6578616d706c652f0104686f73740d686f6f6b732e6578\
             616d706c6501c80101067365727665720178026f6b0000ac0208020202020202\
             02020202020202020202",
        );
        golden::check(
            &recorded(None),
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
            let bytes = RecordedAttempt { attempt: failed, fence: None }.encode();
            // The error (kind and message) and the next attempt.
            let end = [&[0, 1, number, 1, b'm', 1][..], &golden::bytes("80d095ffbc31")].concat();
            assert!(bytes.ends_with(&end), "{kind:?}");
        }
    }
}
