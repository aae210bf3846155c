//! Fan-outs, replays and sweeps, while the time is stopped.

use std::time::Duration;

use postrider_cluster::route::Workers;
use postrider_domain::endpoint::Ordering;
use postrider_domain::event::Event;
use postrider_domain::ids::{EndpointId, Mint};
use postrider_domain::limits::MAX_FAN_OUT_PER_TRANSACTION;
use postrider_domain::replay::{Filter, Replay};
use postrider_domain::time::{Clock, Timestamp};
use postrider_store::kv::Range;
use postrider_store::{
    IDEMPOTENCY_MEMORY, Idempotency, RUNNING_AT_ONCE, ReplayRequest, WaitingJobs, Wake,
};

use super::world::{RealClock, StoppedTime, World, eventually, patient};

/// An idempotency key's hash.
const KEY: [u8; 32] = [7; 32];

impl World {
    /// Adds a replay of everything that went to an endpoint, and tells nobody of it.
    async fn replay_silently(&self, endpoint: EndpointId, rate: u32) -> Replay {
        let now = RealClock.now();
        let filter = Filter { endpoint: Some(endpoint), ..Filter::default() };
        let request = ReplayRequest { filter, rate, total: 0 };
        let made = self.records.create_replay(self.account, request, &self.mint, now).await;
        made.expect("created").expect("an account").0
    }

    /// How many deliveries a replay has made.
    async fn done(&self, replay: &Replay) -> u64 {
        let replay = self.records.replay(replay.account, replay.id).await.expect("read");
        replay.expect("there").done
    }

    /// Accepts an event with an idempotency key.
    async fn accept_with_key(&self, key_sha256: [u8; 32], now: Timestamp) {
        let idempotency = Idempotency { key_sha256, body_sha256: [8; 32] };
        // A mint of its own: that of this node does not step back.
        let id = Mint::new().id(now);
        let event = Event { id, created_at: now, ..self.build_event("{}") };
        let accept =
            self.records.accept(self.account, vec![event], Some(idempotency), &self.mint, now);
        accept.await.expect("accepted");
    }

    /// How many rows have these bytes in their keys.
    async fn rows_of(&self, bytes: &[u8]) -> usize {
        let rows = self.store.rows(Range::prefix([])).await.expect("read");
        let is_of = |key: &[u8]| key.windows(bytes.len()).any(|part| part == bytes);
        rows.iter().filter(|(key, _)| is_of(key)).count()
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
    assert!(world.delivery.wake(vec![Wake::Jobs { shard }]).is_empty());
    time.pass(Duration::from_secs(1)).await;
    let made = world.done(&replay).await;
    assert!((5..=12).contains(&made), "{made} in a second");
}

#[tokio::test]
async fn a_replay_keeps_nothing_from_being_swept() {
    let time = StoppedTime::new();
    let world = World::with(patient(), 1).await;
    let endpoint = world.disabled_endpoint(200).await;
    let replay = world.replay_silently(endpoint, 1).await;
    assert!(world.delivery.wake(vec![Wake::Jobs { shard: 0 }]).is_empty());
    time.pass(Duration::from_secs(2)).await;
    assert!(world.done(&replay).await >= 1, "it runs");

    // What it is remembered by is over in five seconds.
    let at = RealClock.now().minus(IDEMPOTENCY_MEMORY).plus(Duration::from_secs(5));
    world.accept_with_key(KEY, at).await;
    assert_eq!(world.rows_of(&KEY).await, 2, "the memory, and when it ends");
    time.pass(Duration::from_secs(70)).await;
    let made = world.done(&replay).await;
    assert!((30..200).contains(&made), "it still runs, and has made {made}");
    assert_eq!(world.rows_of(&KEY).await, 0);
}

#[tokio::test]
async fn jobs_that_nobody_told_of_begin_at_the_next_scan() {
    let time = StoppedTime::new();
    let world = World::with(patient(), 1).await;
    let endpoint = world.disabled_endpoint(50).await;
    // The shard has looked for itself, and found nothing.
    time.pass(Duration::from_millis(100)).await;
    let replay = world.replay_silently(endpoint, 1_000).await;
    time.pass(Duration::from_secs(6)).await;
    assert_eq!(world.done(&replay).await, 50);

    // A fan-out: to more endpoints than one transaction reaches.
    for _ in 0..=MAX_FAN_OUT_PER_TRANSACTION {
        world.endpoint("http://127.0.0.1:9/hook", Ordering::Parallel).await;
    }
    world.accept_silently("{}").await;
    assert!(world.records.waiting_jobs(0).await.expect("read").fan_outs);
    time.pass(Duration::from_secs(6)).await;
    assert_eq!(world.records.waiting_jobs(0).await.expect("read"), WaitingJobs::default());
}

#[tokio::test]
async fn who_looks_after_a_loss_finds_jobs_at_once() {
    let time = StoppedTime::new();
    let world = World::with(patient(), 1).await;
    let endpoint = world.disabled_endpoint(1).await;
    time.pass(Duration::from_millis(100)).await;
    let replay = world.replay_silently(endpoint, 1_000).await;
    world.delivery.look();
    eventually(async || world.done(&replay).await == 1).await;
}

#[tokio::test]
async fn slow_replays_keep_no_other_from_running() {
    let time = StoppedTime::new();
    let world = World::with(patient(), 1).await;
    let endpoint = world.disabled_endpoint(20).await;
    let mut replays = Vec::new();
    for _ in 0..=RUNNING_AT_ONCE {
        replays.push(world.replay_silently(endpoint, 1).await);
    }
    assert!(world.delivery.wake(vec![Wake::Jobs { shard: 0 }]).is_empty());
    time.pass(Duration::from_secs(3)).await;
    for replay in &replays {
        let made = world.done(replay).await;
        assert!((1..=5).contains(&made), "{made} in three seconds");
    }
}
