//! An endpoint's health. It is separate from [`super::dispatch_state`] because it changes with
//! every failure.
//!
//! | Key | Value | Written by |
//! |---|---|---|
//! | `a account endpoint` | [`Health`] | `apply`, after a failed attempt, and after the success that ends a series of failures; `step_back`, if that success or the series begins in the future; `endpoints`, which ends the series when the endpoint is enabled, and removes the row |

use bytes::Bytes;
use postrider_domain::endpoint::{Health, LastError};
use postrider_domain::ids::{AccountId, EndpointId};
use postrider_domain::notice::{Exhaustion, FailureSeries};
use postrider_domain::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::parts::{ExhaustionV1, LastErrorV1};
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
struct RecoveryV1 {
    recovered_at: Option<Timestamp>,
}

/// Appended after [`RecoveryV1`]. If an earlier build drops it, the series starts again with the
/// next failure.
#[derive(Default, PartialEq, Serialize, Deserialize)]
struct FailuresV1 {
    series: Option<FailureSeriesV1>,
}

#[derive(PartialEq, Serialize, Deserialize)]
struct FailureSeriesV1 {
    since: Timestamp,
    exhaustion: Option<ExhaustionV1>,
    warned: bool,
}

impl From<FailureSeries> for FailureSeriesV1 {
    fn from(FailureSeries { since, exhaustion, warned }: FailureSeries) -> Self {
        Self { since, exhaustion: exhaustion.map(ExhaustionV1::from), warned }
    }
}

impl From<FailureSeriesV1> for FailureSeries {
    fn from(FailureSeriesV1 { since, exhaustion, warned }: FailureSeriesV1) -> Self {
        Self { since, exhaustion: exhaustion.map(Exhaustion::from), warned }
    }
}

impl Record for Health {
    fn encode(&self) -> Bytes {
        let Self { failure_count, last_error, recovered_at, series } = self;
        let last_error = last_error.as_ref().map(LastErrorV1::from);
        codec::appended_twice(
            1,
            &V1 { failure_count: *failure_count, last_error },
            &RecoveryV1 { recovered_at: *recovered_at },
            &FailuresV1 { series: series.map(FailureSeriesV1::from) },
        )
    }

    fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let (V1 { failure_count, last_error }, RecoveryV1 { recovered_at }, FailuresV1 { series }) =
            codec::version_1_appended_twice("health", bytes)?;
        Ok(Self {
            failure_count,
            last_error: last_error.map(LastError::from),
            recovered_at,
            series: series.map(FailureSeries::from),
        })
    }
}

pub(crate) fn key(account: AccountId, endpoint: EndpointId) -> Vec<u8> {
    Key::account(account, Table::Health).id(endpoint).done()
}

#[cfg(test)]
mod tests {
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
        let at = Timestamp::from_millis(1_700_000_000_000);
        let last_error = LastError {
            at,
            kind: ErrorKind::Status,
            status: Some(503),
            message: "answered 503".to_owned(),
            delivery: DeliveryId::from_bytes([1; 16]),
        };
        let recovered = Health { recovered_at: Some(at), ..Health::default() };
        golden::check(&recovered, "0100000180d095ffbc31");
        let failing =
            Health { failure_count: 3, last_error: Some(last_error), ..Health::default() };
        golden::check(
            &failing,
            "\
             01030180d095ffbc310401f7030c616e73776572656420353033010101010101\
             01010101010101010101",
        );
        let exhaustion = Exhaustion {
            delivery: DeliveryId::from_bytes([2; 16]),
            at: Timestamp::from_millis(1_700_000_000_002),
        };
        let series = FailureSeries {
            since: Timestamp::from_millis(1_700_000_000_001),
            exhaustion: Some(exhaustion),
            warned: true,
        };
        golden::check(
            &Health { series: Some(series), ..failing.clone() },
            "\
             01030180d095ffbc310401f7030c616e73776572656420353033010101010101\
             01010101010101010101000181d095ffbc310102020202020202020202020202\
             02020282d095ffbc3101",
        );
        let series = FailureSeries { exhaustion: None, warned: false, ..series };
        golden::check(
            &Health { recovered_at: Some(at), series: Some(series), ..failing },
            "\
             01030180d095ffbc310401f7030c616e73776572656420353033010101010101\
             010101010101010101010180d095ffbc310181d095ffbc310000",
        );
    }
}
