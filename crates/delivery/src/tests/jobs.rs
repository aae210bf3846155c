//! Fan-outs, replays and sweeps, while the time is stopped.

use std::time::Duration;

use postrider_cluster::route::Workers;
use postrider_domain::endpoint::Ordering;
use postrider_domain::ids::EndpointId;
use postrider_domain::replay::{Filter, Replay, ReplayState};
use postrider_domain::time::Clock;

use super::world::{RealClock, StoppedTime, World, patient};

impl World {
    /// Adds a replay of everything that went to an endpoint, and tells nobody of it.
    async fn replay_silently(&self, endpoint: EndpointId, rate: u32) -> Replay {
        let now = RealClock.now();
        let replay = Replay {
            id: self.mint.id(now),
            account: self.account,
            filter: Filter { endpoint: Some(endpoint), ..Filter::default() },
            rate,
            state: ReplayState::Running,
            total: 0,
            done: 0,
            cursor: None,
            created_at: now,
            finished_at: None,
        };
        self.records.create_replay(&replay).await.expect("created");
        replay
    }

    /// How many deliveries a replay has made.
    async fn done(&self, replay: &Replay) -> u64 {
        let replay = self.records.replay(replay.account, replay.id).await.expect("read");
        replay.expect("there").done
    }

    /// An endpoint that is disabled, with so many deliveries that are held.
    async fn disabled_endpoint(&self, held: usize) -> EndpointId {
        let endpoint = self.endpoint("http://127.0.0.1:9/hook", Ordering::Parallel).await;
        let now = RealClock.now();
        self.records.disable_endpoint(self.account, endpoint, now).await.expect("disabled");
        for _ in 0..held {
            self.accept_silently("{}").await;
        }
        endpoint
    }
}

#[tokio::test]
async fn a_replay_to_a_disabled_endpoint_keeps_its_rate() {
    let time = StoppedTime::new();
    let world = World::new(patient()).await;
    let endpoint = world.disabled_endpoint(50).await;
    let replay = world.replay_silently(endpoint, 10).await;
    let shard = world.records.shard_of(replay.id);
    assert!(world.delivery.wake(vec![postrider_store::Wake::Jobs { shard }]).is_empty());
    time.pass(Duration::from_secs(1)).await;
    let made = world.done(&replay).await;
    assert!((5..=12).contains(&made), "{made} in a second");
}
