//! An endpoint's health. It is separate from [`super::dispatch_state`] because it changes with
//! every failure.
//!
//! | Key | Value | Written by |
//! |---|---|---|
//! | `a account endpoint` | [`Health`] | `apply`, after a failed attempt, and after the success that ends a series of failures; `step_back`, if that success is in the future; `endpoints`, which removes it |

use bytes::Bytes;
use postrider_domain::endpoint::{Health, LastError};
use postrider_domain::ids::{AccountId, EndpointId};
use postrider_domain::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::parts::LastErrorV1;
use super::{Key, Table};
use crate::codec::{self, Record};
use crate::kv::Error;

#[derive(Serialize, Deserialize)]
struct V1<'a> {
    failure_count: u32,
    #[serde(borrow)]
    last_error: Option<LastErrorV1<'a>>,
}

/// Appended to [`V1`].
#[derive(Default, PartialEq, Serialize, Deserialize)]
struct AppendedV1 {
    recovered_at: Option<Timestamp>,
}

impl<'a> From<&'a Health> for V1<'a> {
    fn from(Health { failure_count, last_error, .. }: &'a Health) -> Self {
        let last_error = last_error.as_ref().map(LastErrorV1::from);
        Self { failure_count: *failure_count, last_error }
    }
}

fn health_of(record: V1<'_>, appended: &AppendedV1) -> Health {
    let V1 { failure_count, last_error } = record;
    let AppendedV1 { recovered_at } = *appended;
    Health { failure_count, last_error: last_error.map(LastError::from), recovered_at }
}

impl Record for Health {
    fn encode(&self) -> Bytes {
        let appended = AppendedV1 { recovered_at: self.recovered_at };
        codec::appended(1, &V1::from(self), &appended)
    }

    fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let (record, appended) = codec::version_1_appended("health", bytes)?;
        Ok(health_of(record, &appended))
    }
}

pub(crate) fn key(account: AccountId, endpoint: EndpointId) -> Vec<u8> {
    Key::account(account, Table::Health).id(endpoint).done()
}

#[cfg(test)]
mod tests {
    use postrider_domain::endpoint::Health;
    use postrider_domain::endpoint::LastError;
    use postrider_domain::ids::{DeliveryId, Id};
    use postrider_domain::outcome::ErrorKind;

    use super::*;
    use crate::codec::golden;

    #[test]
    fn round_trip() {
        let health = Health { failure_count: 3, ..Health::default() };
        assert_eq!(Health::decode(&health.encode()), Ok(health));
        assert_ne!(key(AccountId::MIN, EndpointId::MIN), key(AccountId::MIN, EndpointId::MAX));
    }

    #[test]
    fn golden() {
        golden::check(&Health::default(), "010000");
        let last_error = LastError {
            at: Timestamp::from_millis(1_700_000_000_000),
            kind: ErrorKind::Status,
            status: Some(503),
            message: "answered 503".to_owned(),
            delivery: DeliveryId::from_bytes([1; 16]),
        };
        let at = Timestamp::from_millis(1_700_000_000_000);
        let recovered = Health { recovered_at: Some(at), ..Health::default() };
        golden::check(&recovered, "0100000180d095ffbc31");
        golden::check(
            &Health { failure_count: 3, last_error: Some(last_error), ..Health::default() },
            "\
             01030180d095ffbc310401f7030c616e73776572656420353033010101010101\
             01010101010101010101",
        );
    }
}
