//! Replays.
//!
//! | Key | Value | Written by |
//! |---|---|---|
//! | `a account replay` | [`Replay`] | `replays`, when a replay is created, paused, resumed or cancelled, and after every step |
//! | `s shard replay` | the account, while the replay is running | the same transactions |

use bytes::Bytes;
use postrider_domain::assignment::Shard;
use postrider_domain::delivery::DeliveryState;
use postrider_domain::event::EventTypeName;
use postrider_domain::ids::{AccountId, DeliveryId, EndpointId, ReplayId};
use postrider_domain::replay::{Filter, Replay, ReplayState};
use postrider_domain::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Key, Table, Tail};
use crate::codec::{self, Record};
use crate::kv::Error;

#[derive(Serialize, Deserialize)]
struct V1<'a> {
    id: ReplayId,
    account: AccountId,
    #[serde(borrow)]
    filter: FilterV1<'a>,
    rate: u32,
    state: StateV1,
    total: u64,
    done: u64,
    cursor: Option<DeliveryId>,
    created_at: Timestamp,
    finished_at: Option<Timestamp>,
}

#[derive(Serialize, Deserialize)]
struct FilterV1<'a> {
    endpoint: Option<EndpointId>,
    #[serde(borrow)]
    event_types: Option<Vec<&'a str>>,
    states: Option<Vec<DeliveryStateV1>>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
}

#[derive(Serialize, Deserialize)]
enum StateV1 {
    Running,
    Paused,
    Cancelled,
    Completed,
}

#[derive(Serialize, Deserialize)]
enum DeliveryStateV1 {
    Pending,
    Delivered,
    Exhausted,
    Held,
    Discarded,
}

impl<'a> From<&'a Replay> for V1<'a> {
    fn from(replay: &'a Replay) -> Self {
        Self {
            id: replay.id,
            account: replay.account,
            filter: FilterV1::from(&replay.filter),
            rate: replay.rate,
            state: match replay.state {
                ReplayState::Running => StateV1::Running,
                ReplayState::Paused => StateV1::Paused,
                ReplayState::Cancelled => StateV1::Cancelled,
                ReplayState::Completed => StateV1::Completed,
            },
            total: replay.total,
            done: replay.done,
            cursor: replay.cursor,
            created_at: replay.created_at,
            finished_at: replay.finished_at,
        }
    }
}

impl From<V1<'_>> for Replay {
    fn from(record: V1<'_>) -> Self {
        Self {
            id: record.id,
            account: record.account,
            filter: record.filter.into(),
            rate: record.rate,
            state: match record.state {
                StateV1::Running => ReplayState::Running,
                StateV1::Paused => ReplayState::Paused,
                StateV1::Cancelled => ReplayState::Cancelled,
                StateV1::Completed => ReplayState::Completed,
            },
            total: record.total,
            done: record.done,
            cursor: record.cursor,
            created_at: record.created_at,
            finished_at: record.finished_at,
        }
    }
}

impl<'a> From<&'a Filter> for FilterV1<'a> {
    fn from(Filter { endpoint, event_types, states, since, until }: &'a Filter) -> Self {
        let event_types = event_types.as_ref();
        let states = states.as_ref();
        Self {
            endpoint: *endpoint,
            event_types: event_types.map(|names| names.iter().map(EventTypeName::as_str).collect()),
            states: states.map(|states| states.iter().map(|&state| state.into()).collect()),
            since: *since,
            until: *until,
        }
    }
}

impl From<FilterV1<'_>> for Filter {
    fn from(FilterV1 { endpoint, event_types, states, since, until }: FilterV1<'_>) -> Self {
        let names = |names: Vec<&str>| names.into_iter().map(EventTypeName::from_stored).collect();
        let states = states.map(|states| states.into_iter().map(DeliveryState::from).collect());
        Self { endpoint, event_types: event_types.map(names), states, since, until }
    }
}

impl From<DeliveryState> for DeliveryStateV1 {
    fn from(state: DeliveryState) -> Self {
        match state {
            DeliveryState::Pending => Self::Pending,
            DeliveryState::Delivered => Self::Delivered,
            DeliveryState::Exhausted => Self::Exhausted,
            DeliveryState::Held => Self::Held,
            DeliveryState::Discarded => Self::Discarded,
        }
    }
}

impl From<DeliveryStateV1> for DeliveryState {
    fn from(state: DeliveryStateV1) -> Self {
        match state {
            DeliveryStateV1::Pending => Self::Pending,
            DeliveryStateV1::Delivered => Self::Delivered,
            DeliveryStateV1::Exhausted => Self::Exhausted,
            DeliveryStateV1::Held => Self::Held,
            DeliveryStateV1::Discarded => Self::Discarded,
        }
    }
}

impl Record for Replay {
    fn encode(&self) -> Bytes {
        codec::versioned(1, &V1::from(self))
    }

    fn decode(bytes: &[u8]) -> Result<Self, Error> {
        codec::version_1::<V1<'_>>("replay", bytes).map(Self::from)
    }
}

pub(crate) fn key(account: AccountId, replay: ReplayId) -> Vec<u8> {
    Key::account(account, Table::Replay).id(replay).done()
}

pub(crate) fn of_account(account: AccountId) -> Vec<u8> {
    Key::account(account, Table::Replay).done()
}

pub(crate) fn running(shard: Shard, replay: ReplayId) -> Vec<u8> {
    Key::shard(shard, Table::RunningReplay).id(replay).done()
}

pub(crate) fn running_in(shard: Shard) -> Vec<u8> {
    Key::shard(shard, Table::RunningReplay).done()
}

pub(crate) fn parse_key(key: &[u8]) -> Result<ReplayId, Error> {
    Tail(key).id()
}

#[cfg(test)]
mod tests {
    use postrider_domain::ids::{DeliveryId, EndpointId, Id};

    use super::*;
    use crate::codec::golden;

    #[test]
    fn round_trip() {
        assert_eq!(parse_key(&running(1, ReplayId::MAX)), Ok(ReplayId::MAX));
        assert!(key(AccountId::MIN, ReplayId::MAX).starts_with(&of_account(AccountId::MIN)));
    }

    #[test]
    fn golden() {
        let at = Timestamp::from_millis;
        let running = Replay {
            id: ReplayId::from_bytes([1; 16]),
            account: AccountId::from_bytes([2; 16]),
            filter: Filter::default(),
            rate: 100,
            state: ReplayState::Running,
            total: 300,
            done: 7,
            cursor: None,
            created_at: at(1_700_000_000_000),
            finished_at: None,
        };
        golden::check(
            &running,
            "\
             0101010101010101010101010101010101020202020202020202020202020202\
             0200000000006400ac02070080d095ffbc3100",
        );
        let completed = Replay {
            filter: Filter {
                endpoint: Some(EndpointId::from_bytes([3; 16])),
                event_types: Some([EventTypeName::parse("order.paid").expect("a name")].into()),
                states: Some(vec![
                    DeliveryState::Pending,
                    DeliveryState::Delivered,
                    DeliveryState::Exhausted,
                    DeliveryState::Held,
                    DeliveryState::Discarded,
                ]),
                since: Some(at(1_600_000_000_000)),
                until: Some(at(1_700_000_000_000)),
            },
            state: ReplayState::Completed,
            cursor: Some(DeliveryId::from_bytes([4; 16])),
            finished_at: Some(at(1_700_000_000_001)),
            ..running.clone()
        };
        golden::check(
            &completed,
            "\
             0101010101010101010101010101010101020202020202020202020202020202\
             02010303030303030303030303030303030301010a6f726465722e7061696401\
             050001020304018080babbc82e0180d095ffbc316403ac020701040404040404\
             0404040404040404040480d095ffbc310181d095ffbc31",
        );
        golden::check(
            &Replay { state: ReplayState::Paused, ..running.clone() },
            "\
             0101010101010101010101010101010101020202020202020202020202020202\
             0200000000006401ac02070080d095ffbc3100",
        );
        golden::check(
            &Replay { state: ReplayState::Cancelled, ..running },
            "\
             0101010101010101010101010101010101020202020202020202020202020202\
             0200000000006402ac02070080d095ffbc3100",
        );
    }
}
