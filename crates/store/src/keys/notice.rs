//! Notices: disabled endpoints that an account's contacts must be emailed about.
//!
//! | Key | Value | Written by |
//! |---|---|---|
//! | `s shard disabled_at endpoint` | [`Notice`] | `notices`, in the transaction that disables an endpoint; removed when the email has been sent |

use bytes::Bytes;
use postrider_domain::assignment::Shard;
use postrider_domain::endpoint::LastError;
use postrider_domain::ids::{AccountId, EndpointId};
use postrider_domain::notice::Notice;
use postrider_domain::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::parts::{DisabledV1, LastErrorV1};
use super::{Key, Table};
use crate::codec::{self, Record};
use crate::kv::Error;

#[derive(Serialize, Deserialize)]
struct V1<'a> {
    account: AccountId,
    endpoint: EndpointId,
    disabled: DisabledV1,
    failure_count: u32,
    #[serde(borrow)]
    last_error: Option<LastErrorV1<'a>>,
}

impl<'a> From<&'a Notice> for V1<'a> {
    fn from(notice: &'a Notice) -> Self {
        let Notice { account, endpoint, disabled, failure_count, last_error } = notice;
        Self {
            account: *account,
            endpoint: *endpoint,
            disabled: disabled.into(),
            failure_count: *failure_count,
            last_error: last_error.as_ref().map(LastErrorV1::from),
        }
    }
}

impl From<V1<'_>> for Notice {
    fn from(record: V1<'_>) -> Self {
        let V1 { account, endpoint, disabled, failure_count, last_error } = record;
        Self {
            account,
            endpoint,
            disabled: disabled.into(),
            failure_count,
            last_error: last_error.map(LastError::from),
        }
    }
}

impl Record for Notice {
    fn encode(&self) -> Bytes {
        codec::versioned(1, &V1::from(self))
    }

    fn decode(bytes: &[u8]) -> Result<Self, Error> {
        codec::version_1::<V1<'_>>("notice", bytes).map(Self::from)
    }
}

pub(crate) fn key(shard: Shard, at: Timestamp, endpoint: EndpointId) -> Vec<u8> {
    Key::shard(shard, Table::Notice).time(at).id(endpoint).done()
}

pub(crate) fn of_shard(shard: Shard) -> Vec<u8> {
    Key::shard(shard, Table::Notice).done()
}

#[cfg(test)]
mod tests {
    use postrider_domain::endpoint::{Disabled, DisabledReason, LastError};
    use postrider_domain::ids::{AccountId, DeliveryId, Id};
    use postrider_domain::outcome::ErrorKind;

    use super::*;
    use crate::codec::golden;

    #[test]
    fn notices_sort_by_age() {
        let key = |millis| key(2, Timestamp::from_millis(millis), EndpointId::MAX);
        assert!(key(9) < key(300));
        assert!(key(9).starts_with(&of_shard(2)) && !key(9).starts_with(&of_shard(3)));
    }

    #[test]
    fn golden() {
        let (at, delivery) =
            (Timestamp::from_millis(1_700_000_000_000), DeliveryId::from_bytes([3; 16]));
        let last_error = LastError {
            at,
            kind: ErrorKind::Timeout,
            status: None,
            message: "timed out".to_owned(),
            delivery,
        };
        let notice = Notice {
            account: AccountId::from_bytes([1; 16]),
            endpoint: EndpointId::from_bytes([2; 16]),
            disabled: Disabled { reason: DisabledReason::Exhausted, at, delivery: Some(delivery) },
            failure_count: 11,
            last_error: Some(last_error),
        };
        golden::check(
            &notice,
            "\
             0101010101010101010101010101010101020202020202020202020202020202\
             020080d095ffbc3101030303030303030303030303030303030b0180d095ffbc\
             3100000974696d6564206f757403030303030303030303030303030303",
        );
    }
}
