//! `a account hash` → [`Remembered`]: what was answered to an idempotency key. An accepting
//! transaction writes it; the owner of the first event's shard removes it when its time is over.
//!
//! | Version | Fields |
//! |---|---|
//! | 1 | SHA-256 of the request, the events |
//! | 2 | SHA-256 of the request, the events, when it expires |

use bytes::Bytes;
use postrider_domain::ids::{AccountId, EventId};
use postrider_domain::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Key, Table};
use crate::codec;
use crate::kv::Error;

/// The request that used a key, and the events that it made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Remembered {
    pub(crate) body_sha256: [u8; 32],
    pub(crate) events: Vec<EventId>,
    /// From then on the key is unknown, whether or not its row is there. None in version 1, which
    /// counts from the time of its events.
    pub(crate) expires_at: Option<Timestamp>,
}

#[derive(Serialize, Deserialize)]
struct V1 {
    body_sha256: [u8; 32],
    events: Vec<EventId>,
}

#[derive(Serialize, Deserialize)]
struct V2 {
    body_sha256: [u8; 32],
    events: Vec<EventId>,
    expires_at: Timestamp,
}

/// The version that knows when it expires.
const EXPIRING: u8 = 2;

impl Remembered {
    pub(crate) fn encode(self) -> Bytes {
        let Self { body_sha256, events, expires_at } = self;
        match expires_at {
            None => codec::encode(&V1 { body_sha256, events }),
            Some(expires_at) => codec::encode_as(EXPIRING, &V2 { body_sha256, events, expires_at }),
        }
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.first() == Some(&EXPIRING) {
            let V2 { body_sha256, events, expires_at } = codec::decode_as(EXPIRING, bytes)?;
            return Ok(Self { body_sha256, events, expires_at: Some(expires_at) });
        }
        let V1 { body_sha256, events } = codec::decode(bytes)?;
        Ok(Self { body_sha256, events, expires_at: None })
    }
}

pub(crate) fn key(account: AccountId, sha256: &[u8; 32]) -> Vec<u8> {
    Key::account(account, Table::Idempotency).hash(sha256).done()
}

#[cfg(test)]
mod tests {
    use postrider_domain::ids::Id;

    use super::*;

    #[test]
    fn every_version_keeps_its_bytes() {
        let events = vec![EventId::MIN, EventId::from_bytes([2; 16])];
        let first = Remembered { body_sha256: [1; 32], events, expires_at: None };
        let second = Remembered { expires_at: Some(Timestamp::from_millis(300)), ..first.clone() };
        let fields = [&[1; 32][..], &[2], &[0; 16], &[2; 16]].concat();
        let golden_first = [&[1][..], &fields].concat();
        let golden_second = [&[2][..], &fields, &[172, 2]].concat();
        for (record, golden) in [(first, golden_first), (second, golden_second)] {
            assert_eq!(record.clone().encode(), golden);
            assert_eq!(Remembered::decode(&golden), Ok(record));
        }
        for garbage in [&[][..], &[1], &[2], &[3, 0]] {
            assert!(matches!(Remembered::decode(garbage), Err(Error::Corrupt(_))), "{garbage:?}");
        }
        assert!(key(AccountId::MIN, &[7; 32]).ends_with(&[7; 32]));
    }
}
