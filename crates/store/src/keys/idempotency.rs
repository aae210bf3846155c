//! The events that were accepted with an idempotency key.
//!
//! | Key | Value | Written by |
//! |---|---|---|
//! | `a account sha256` | [`IdempotencyRecord`] | `accept`; removed by `sweep`, in the shard of the first event, after [`IDEMPOTENCY_TTL`] |

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

/// The request that used a key, and the events that it created.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct IdempotencyRecord {
    pub(crate) body_sha256: [u8; 32],
    pub(crate) events: Vec<EventId>,
}

impl IdempotencyRecord {
    /// When the key expires, whether or not its row has been swept.
    pub(crate) fn expires_at(&self) -> Timestamp {
        let made_at = self.events.first().map_or(Timestamp::EPOCH, |first| ids::created_at(*first));
        made_at.plus(IDEMPOTENCY_TTL)
    }
}

impl Record for IdempotencyRecord {
    fn encode(&self) -> Bytes {
        codec::versioned(1, self)
    }

    fn decode(bytes: &[u8]) -> Result<Self, Error> {
        codec::version_1("idempotency", bytes)
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
        let remembered = IdempotencyRecord { body_sha256: [1; 32], events };
        let golden = [&[1][..], &[1; 32], &[2], &[0; 16], &[2; 16]].concat();
        assert_eq!(remembered.encode(), golden);
        assert_eq!(IdempotencyRecord::decode(&golden), Ok(remembered));
        assert!(key(AccountId::MIN, &[7; 32]).ends_with(&[7; 32]));
    }

    #[test]
    fn a_key_expires_a_day_after_its_events() {
        let made_at = Timestamp::from_millis(1_700_000_000_000);
        let remembered =
            IdempotencyRecord { body_sha256: [1; 32], events: vec![ids::floor(made_at)] };
        assert_eq!(remembered.expires_at(), made_at.plus(IDEMPOTENCY_TTL));
    }
}
