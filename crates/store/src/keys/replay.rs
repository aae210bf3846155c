//! `a account replay` → [`Replay`](postrider_domain::replay::Replay), and `s shard replay` →
//! the account, while it runs.

use postrider_domain::ids::{AccountId, ReplayId};
use postrider_domain::ownership::Shard;

use super::{Key, Table, Tail};
use crate::kv::Error;

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

pub(crate) fn of_key(key: &[u8]) -> Result<ReplayId, Error> {
    Tail(key).id()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::golden;
    use postrider_domain::delivery::DeliveryState;
    use postrider_domain::event::EventTypeName;
    use postrider_domain::ids::{DeliveryId, EndpointId, Id};
    use postrider_domain::replay::{Filter, Replay, ReplayState};
    use postrider_domain::time::Timestamp;

    #[test]
    fn round_trip() {
        assert_eq!(of_key(&running(1, ReplayId::MAX)), Ok(ReplayId::MAX));
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
