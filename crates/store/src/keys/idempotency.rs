//! The requests that used an idempotency key: the events that were accepted with it, or the answer
//! that was given.
//!
//! | Key | Value | Written by |
//! |---|---|---|
//! | `a account sha256` | [`IdempotencyRecord`] | `accept`, and every change with an idempotency key; removed by `sweep` after [`IDEMPOTENCY_TTL`] |
//!
//! The keys of requests outside any account are in the space of [`AccountId::MIN`], which no account
//! has.

use std::time::Duration;

use bytes::Bytes;
use postrider_domain::ids::{self, AccountId, EventId};
use postrider_domain::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Key, Table};
use crate::codec::{self, Record};
use crate::kv::Error;

/// How long an idempotency key is kept.
pub const IDEMPOTENCY_TTL: Duration = Duration::from_secs(24 * 3600);

/// The request that used a key, and the events that it created or the answer that it got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IdempotencyRecord {
    pub(crate) body_sha256: [u8; 32],
    pub(crate) events: Vec<EventId>,
    /// `None` if it published events.
    pub(crate) answered: Option<Answered>,
}

/// A request other than publishing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Answered {
    /// When it was made, in milliseconds.
    pub(crate) requested_at: u64,
    pub(crate) progress: Progress,
}

/// How far a request has come. The order is durable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Progress {
    /// The attempt `by` has begun it. An attempt that takes over from an interrupted one acts under
    /// the same id.
    Begun { id: EventId, by: EventId },
    /// The answer that it got.
    Done { status: u16, body: Bytes },
    /// It took effect; its answer was too large to be kept.
    TooLarge,
}

/// The fields of version 1 that have been there from the beginning.
#[derive(Serialize, Deserialize)]
struct V1 {
    body_sha256: [u8; 32],
    events: Vec<EventId>,
}

impl IdempotencyRecord {
    /// When the key expires, whether or not its row has been swept.
    pub(crate) fn expires_at(&self) -> Timestamp {
        let made_at = match &self.answered {
            Some(answered) => Timestamp::from_millis(answered.requested_at),
            None => self.events.first().map_or(Timestamp::EPOCH, |first| ids::created_at(*first)),
        };
        made_at.plus(IDEMPOTENCY_TTL)
    }
}

impl Record for IdempotencyRecord {
    fn encode(&self) -> Bytes {
        let Self { body_sha256, events, answered } = self.clone();
        codec::appended(1, &V1 { body_sha256, events }, &answered)
    }

    fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let (V1 { body_sha256, events }, answered) =
            codec::version_1_appended("idempotency", bytes)?;
        Ok(Self { body_sha256, events, answered })
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
    fn golden() {
        let events = vec![EventId::MIN, EventId::from_bytes([2; 16])];
        let remembered = IdempotencyRecord { body_sha256: [1; 32], events, answered: None };
        let golden = [&[1][..], &[1; 32], &[2], &[0; 16], &[2; 16]].concat();
        assert_eq!(remembered.encode(), golden);
        assert_eq!(IdempotencyRecord::decode(&golden), Ok(remembered));
        assert!(key(AccountId::MIN, &[7; 32]).ends_with(&[7; 32]));
    }

    #[test]
    fn golden_answers() {
        let mut remembered = IdempotencyRecord {
            body_sha256: [1; 32],
            events: Vec::new(),
            answered: Some(Answered {
                requested_at: 1_700_000_000_000,
                progress: Progress::TooLarge,
            }),
        };
        let begin = [&[1][..], &[1; 32], &[0, 1, 0x80, 0xd0, 0x95, 0xff, 0xbc, 0x31]].concat();
        for (progress, golden) in [
            (
                Progress::Begun {
                    id: EventId::from_bytes([2; 16]),
                    by: EventId::from_bytes([3; 16]),
                },
                [&[0][..], &[2; 16], &[3; 16]].concat(),
            ),
            (
                Progress::Done { status: 201, body: b"{}".as_slice().into() },
                vec![1, 0xc9, 1, 2, b'{', b'}'],
            ),
            (Progress::TooLarge, vec![2]),
        ] {
            remembered.answered.as_mut().expect("answered").progress = progress;
            let golden = [&begin[..], &golden].concat();
            assert_eq!(remembered.encode(), golden);
            assert_eq!(IdempotencyRecord::decode(&golden).as_ref(), Ok(&remembered));
            // An earlier build reads a key that has expired.
            let earlier: V1 = codec::version_1("idempotency", &golden).expect("version 1");
            assert!(earlier.body_sha256 == [1; 32] && earlier.events.is_empty());
        }
        let made_at = Timestamp::from_millis(1_700_000_000_000);
        assert_eq!(remembered.expires_at(), made_at.plus(IDEMPOTENCY_TTL));
    }

    #[test]
    fn a_key_expires_a_day_after_its_events() {
        let made_at = Timestamp::from_millis(1_700_000_000_000);
        let events = vec![ids::floor(made_at)];
        let remembered = IdempotencyRecord { body_sha256: [1; 32], events, answered: None };
        assert_eq!(remembered.expires_at(), made_at.plus(IDEMPOTENCY_TTL));
    }
}
