//! Notices: failing and disabled endpoints that an account's contacts must be emailed about.
//!
//! | Key | Value | Written by |
//! |---|---|---|
//! | `s shard disabled_at endpoint` | [`Notice`] of a disabled endpoint | `apply`, in the transaction that disables the endpoint; `notices` removes it when the email has been sent |
//! | `s shard due endpoint`, in the table of later notices | [`Notice`] that is a warning or a reminder | `apply`, in the transaction of the attempt that a warning reports; `notices`, when the email about the disabled endpoint has been sent; removed like the others |
//!
//! Version 1 is a disabled endpoint, and version 2 is a warning or a reminder. An earlier build would
//! email that the endpoint was disabled, so they are in a table that it does not read. It leaves them
//! to a later owner of the shard.

use bytes::Bytes;
use postrider_domain::assignment::Shard;
use postrider_domain::endpoint::LastError;
use postrider_domain::ids::{AccountId, EndpointId};
use postrider_domain::notice::{Exhaustion, Notice, Reminder, Report, Warning};
use postrider_domain::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::parts::{DisabledV1, ExhaustionV1, LastErrorV1};
use super::{Key, Table};
use crate::codec::{self, Record, Versioned};
use crate::kv::{Error, Range};

#[derive(Serialize, Deserialize)]
struct V1<'a> {
    account: AccountId,
    endpoint: EndpointId,
    disabled: DisabledV1,
    failure_count: u32,
    #[serde(borrow)]
    last_error: Option<LastErrorV1<'a>>,
}

#[derive(Serialize, Deserialize)]
struct V2<'a> {
    account: AccountId,
    endpoint: EndpointId,
    report: ReportV2,
    failure_count: u32,
    #[serde(borrow)]
    last_error: Option<LastErrorV1<'a>>,
}

#[derive(Serialize, Deserialize)]
enum ReportV2 {
    Warning { at: Timestamp, failing_since: Timestamp, exhaustion: ExhaustionV1 },
    Reminder { disabled: DisabledV1, due: Timestamp },
}

impl From<ReportV2> for Report {
    fn from(record: ReportV2) -> Self {
        match record {
            ReportV2::Warning { at, failing_since, exhaustion } => {
                let exhaustion = Exhaustion::from(exhaustion);
                Self::Warning(Warning { at, failing_since, exhaustion })
            }
            ReportV2::Reminder { disabled, due } => {
                Self::Reminder(Reminder { disabled: disabled.into(), due })
            }
        }
    }
}

impl Record for Notice {
    fn encode(&self) -> Bytes {
        let &Self { account, endpoint, ref report, failure_count, ref last_error } = self;
        let last_error = last_error.as_ref().map(LastErrorV1::from);
        let report = match report {
            Report::Disabled(disabled) => {
                let disabled = disabled.into();
                let fields = V1 { account, endpoint, disabled, failure_count, last_error };
                return codec::versioned(1, &fields);
            }
            &Report::Warning(Warning { at, failing_since, exhaustion }) => {
                ReportV2::Warning { at, failing_since, exhaustion: exhaustion.into() }
            }
            Report::Reminder(Reminder { disabled, due }) => {
                ReportV2::Reminder { disabled: disabled.into(), due: *due }
            }
        };
        codec::versioned(2, &V2 { account, endpoint, report, failure_count, last_error })
    }

    fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let versioned = Versioned::split("notice", bytes)?;
        match versioned.version {
            1 => versioned.fields::<V1<'_>>().map(Self::from),
            2 => versioned.fields::<V2<'_>>().map(Self::from),
            _ => Err(versioned.unknown()),
        }
    }
}

impl From<V1<'_>> for Notice {
    fn from(record: V1<'_>) -> Self {
        let V1 { account, endpoint, disabled, failure_count, last_error } = record;
        let report = Report::Disabled(disabled.into());
        let last_error = last_error.map(LastError::from);
        Self { account, endpoint, report, failure_count, last_error }
    }
}

impl From<V2<'_>> for Notice {
    fn from(record: V2<'_>) -> Self {
        let V2 { account, endpoint, report, failure_count, last_error } = record;
        let (report, last_error) = (report.into(), last_error.map(LastError::from));
        Self { account, endpoint, report, failure_count, last_error }
    }
}

pub(crate) fn key(shard: Shard, notice: &Notice) -> Vec<u8> {
    let table = match notice.report {
        Report::Disabled(_) => Table::Notice,
        Report::Warning(_) | Report::Reminder(_) => Table::LaterNotice,
    };
    Key::shard(shard, table).time(notice.at()).id(notice.endpoint).done()
}

/// A shard's notices that are due at `now`. They are in two ranges.
pub(crate) fn due(shard: Shard, now: Timestamp) -> [Range; 2] {
    let later = Timestamp::from_millis(now.millis().saturating_add(1));
    [
        Range::prefix(Key::shard(shard, Table::Notice).done()),
        Range::new(
            Key::shard(shard, Table::LaterNotice).done(),
            Key::shard(shard, Table::LaterNotice).time(later).done(),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use postrider_domain::endpoint::{Disabled, DisabledReason, LastError};
    use postrider_domain::ids::{AccountId, DeliveryId, Id};
    use postrider_domain::outcome::ErrorKind;

    use super::*;
    use crate::codec::golden;

    const AT: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    fn notice(report: Report) -> Notice {
        let last_error = LastError {
            at: AT,
            kind: ErrorKind::Timeout,
            status: None,
            message: "timed out".to_owned(),
            delivery: DeliveryId::from_bytes([3; 16]),
        };
        Notice {
            account: AccountId::from_bytes([1; 16]),
            endpoint: EndpointId::from_bytes([2; 16]),
            report,
            failure_count: 11,
            last_error: Some(last_error),
        }
    }

    fn disabled(at: Timestamp) -> Disabled {
        let delivery = Some(DeliveryId::from_bytes([3; 16]));
        Disabled { reason: DisabledReason::Exhausted, at, delivery }
    }

    fn warning() -> Report {
        let delivery = DeliveryId::from_bytes([3; 16]);
        let exhaustion = Exhaustion { delivery, at: Timestamp::from_millis(1_700_000_000_002) };
        let failing_since = Timestamp::from_millis(1_700_000_000_001);
        Report::Warning(Warning { at: AT, failing_since, exhaustion })
    }

    fn reminder(due: Timestamp) -> Report {
        Report::Reminder(Reminder { disabled: disabled(AT), due })
    }

    #[test]
    fn notices_sort_by_age() {
        let key =
            |millis| key(2, &notice(Report::Disabled(disabled(Timestamp::from_millis(millis)))));
        assert!(key(9) < key(300));
    }

    #[test]
    fn reminders_are_read_when_they_are_due() {
        let includes = |report: Report, shard| {
            let key = key(shard, &notice(report));
            due(2, AT).iter().any(|range| range.begin <= key && key < range.end)
        };
        let millis = Timestamp::from_millis;
        for report in [warning(), Report::Disabled(disabled(millis(u64::MAX))), reminder(AT)] {
            assert!(includes(report.clone(), 2), "{report:?}");
            assert!(!includes(report.clone(), 1) && !includes(report, 3));
        }
        assert!(!includes(reminder(millis(AT.millis() + 1)), 2));
    }

    #[test]
    fn golden() {
        golden::check(
            &notice(Report::Disabled(disabled(AT))),
            "\
             0101010101010101010101010101010101020202020202020202020202020202\
             020080d095ffbc3101030303030303030303030303030303030b0180d095ffbc\
             3100000974696d6564206f757403030303030303030303030303030303",
        );
        golden::check(
            &notice(warning()),
            "\
             0201010101010101010101010101010101020202020202020202020202020202\
             020080d095ffbc3181d095ffbc310303030303030303030303030303030382d0\
             95ffbc310b0180d095ffbc3100000974696d6564206f75740303030303030303\
             0303030303030303",
        );
        golden::check(
            &notice(reminder(Timestamp::from_millis(1_700_000_000_003))),
            "\
             0201010101010101010101010101010101020202020202020202020202020202\
             02010080d095ffbc31010303030303030303030303030303030383d095ffbc31\
             0b0180d095ffbc3100000974696d6564206f7574030303030303030303030303\
             03030303",
        );
    }
}
