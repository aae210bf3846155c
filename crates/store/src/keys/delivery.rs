//! Deliveries.
//!
//! | Key | Value | Written by |
//! |---|---|---|
//! | `a account delivery` | [`Delivery`] | `endpoint_key`, when a delivery is created, and whenever it changes |
//! | `a account endpoint delivery` | empty; an endpoint's deliveries, oldest first | `endpoint_key`, when a delivery is created |

use bytes::Bytes;
use postrider_domain::delivery::{Delivery, FinalState, Progress, Schedule};
use postrider_domain::event::EventTypeName;
use postrider_domain::ids::{AccountId, DeliveryId, EndpointId, EventId};
use postrider_domain::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Key, Table, Tail};
use crate::codec::{self, Record};
use crate::kv::Error;

#[derive(Serialize, Deserialize)]
struct V1<'a> {
    id: DeliveryId,
    account: AccountId,
    event: EventId,
    event_type: &'a str,
    endpoint: EndpointId,
    created_at: Timestamp,
    attempt_count: u8,
    first_attempt_at: Option<Timestamp>,
    progress: ProgressV1,
}

/// Appended to [`V1`]. Without it, all attempts are in the first schedule.
#[derive(Default, PartialEq, Serialize, Deserialize)]
struct ScheduleV1 {
    resumptions: u32,
    earlier_attempts: u8,
    brought_forward: bool,
}

#[derive(Serialize, Deserialize)]
enum ProgressV1 {
    Pending { due: Timestamp },
    Finished { end: EndV1, at: Timestamp },
}

#[derive(Serialize, Deserialize)]
enum EndV1 {
    Delivered,
    Exhausted,
    Discarded,
}

impl<'a> From<&'a Delivery> for V1<'a> {
    fn from(delivery: &'a Delivery) -> Self {
        Self {
            id: delivery.id,
            account: delivery.account,
            event: delivery.event,
            event_type: delivery.event_type.as_str(),
            endpoint: delivery.endpoint,
            created_at: delivery.created_at,
            attempt_count: delivery.attempt_count,
            first_attempt_at: delivery.first_attempt_at,
            progress: delivery.progress.into(),
        }
    }
}

fn delivery_of(record: V1<'_>, schedule: ScheduleV1) -> Delivery {
    let ScheduleV1 { resumptions, earlier_attempts, brought_forward } = schedule;
    Delivery {
        id: record.id,
        account: record.account,
        event: record.event,
        event_type: EventTypeName::from_stored(record.event_type),
        endpoint: record.endpoint,
        created_at: record.created_at,
        attempt_count: record.attempt_count,
        first_attempt_at: record.first_attempt_at,
        schedule: Schedule { resumptions, earlier_attempts, brought_forward },
        progress: record.progress.into(),
    }
}

impl From<Progress> for ProgressV1 {
    fn from(progress: Progress) -> Self {
        match progress {
            Progress::Pending { due } => Self::Pending { due },
            Progress::Finished { end, at } => {
                let end = match end {
                    FinalState::Delivered => EndV1::Delivered,
                    FinalState::Exhausted => EndV1::Exhausted,
                    FinalState::Discarded => EndV1::Discarded,
                };
                Self::Finished { end, at }
            }
        }
    }
}

impl From<ProgressV1> for Progress {
    fn from(progress: ProgressV1) -> Self {
        match progress {
            ProgressV1::Pending { due } => Self::Pending { due },
            ProgressV1::Finished { end, at } => {
                let end = match end {
                    EndV1::Delivered => FinalState::Delivered,
                    EndV1::Exhausted => FinalState::Exhausted,
                    EndV1::Discarded => FinalState::Discarded,
                };
                Self::Finished { end, at }
            }
        }
    }
}

impl Record for Delivery {
    fn encode(&self) -> Bytes {
        let Schedule { resumptions, earlier_attempts, brought_forward } = self.schedule;
        let schedule = ScheduleV1 { resumptions, earlier_attempts, brought_forward };
        codec::appended(1, &V1::from(self), &schedule)
    }

    fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let (record, schedule) = codec::version_1_appended("delivery", bytes)?;
        Ok(delivery_of(record, schedule))
    }
}

pub(crate) fn key(account: AccountId, delivery: DeliveryId) -> Vec<u8> {
    Key::account(account, Table::Delivery).id(delivery).done()
}

pub(crate) fn of_account(account: AccountId) -> Vec<u8> {
    Key::account(account, Table::Delivery).done()
}

pub(crate) fn of_endpoint(
    account: AccountId,
    endpoint: EndpointId,
    delivery: DeliveryId,
) -> Vec<u8> {
    Key::account(account, Table::DeliveryOfEndpoint).id(endpoint).id(delivery).done()
}

/// The id in a key of either table.
pub(crate) fn parse_key(key: &[u8]) -> Result<DeliveryId, Error> {
    Tail(key).id()
}

#[cfg(test)]
mod tests {
    use postrider_domain::ids::{EventId, Id};

    use super::*;
    use crate::codec::golden;

    #[test]
    fn round_trip() {
        let (account, endpoint, delivery) = (AccountId::MIN, EndpointId::MIN, DeliveryId::MAX);
        assert_eq!(parse_key(&key(account, delivery)), Ok(delivery));
        assert_eq!(parse_key(&of_endpoint(account, endpoint, delivery)), Ok(delivery));
    }

    #[test]
    fn golden() {
        let delivery = |progress| Delivery {
            id: DeliveryId::from_bytes([1; 16]),
            account: AccountId::from_bytes([2; 16]),
            event: EventId::from_bytes([3; 16]),
            event_type: EventTypeName::parse("order.paid").expect("a name"),
            endpoint: EndpointId::from_bytes([4; 16]),
            created_at: Timestamp::from_millis(1_700_000_000_000),
            attempt_count: 2,
            first_attempt_at: Some(Timestamp::from_millis(1_700_000_000_001)),
            schedule: Schedule::default(),
            progress,
        };
        let at = Timestamp::from_millis(1_700_000_060_000);
        let schedule = Schedule { resumptions: 3, earlier_attempts: 1, brought_forward: true };
        golden::check(
            &Delivery { schedule, ..delivery(Progress::Pending { due: at }) },
            "\
             0101010101010101010101010101010101020202020202020202020202020202\
             02030303030303030303030303030303030a6f726465722e7061696404040404\
             04040404040404040404040480d095ffbc31020181d095ffbc3100e0a499ffbc\
             31030101",
        );
        golden::check(
            &delivery(Progress::Pending { due: at }),
            "\
             0101010101010101010101010101010101020202020202020202020202020202\
             02030303030303030303030303030303030a6f726465722e7061696404040404\
             04040404040404040404040480d095ffbc31020181d095ffbc3100e0a499ffbc\
             31",
        );
        for (end, last) in
            [(FinalState::Delivered, 0), (FinalState::Exhausted, 1), (FinalState::Discarded, 2)]
        {
            let bytes = delivery(Progress::Finished { end, at }).encode();
            assert_eq!(bytes[bytes.len() - 8..bytes.len() - 6], [1, last], "{end:?}");
            assert_eq!(Delivery::decode(&bytes), Ok(delivery(Progress::Finished { end, at })));
        }
    }
}
