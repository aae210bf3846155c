//! Fan-outs, replays and sweeps, in paused time.

use std::time::Duration;

use postrider_cluster::route::LocalShards;
use postrider_domain::endpoint::Ordering;
use postrider_domain::event::Event;
use postrider_domain::ids::{EndpointId, IdGenerator};
use postrider_domain::limits::MAX_FAN_OUT_PER_TRANSACTION;
use postrider_domain::replay::{Filter, Replay};
use postrider_domain::time::{Clock, Timestamp};
use postrider_store::kv::Range;
use postrider_store::{
    IDEMPOTENCY_TTL, Idempotency, MAX_RUNNING_REPLAYS_PAGE, ReplayRequest, WaitingJobs, Wake,
};

use super::fixture::{Fixture, PausedTime, RealClock, eventually, slow_retries};

/// An idempotency key's hash.
const KEY: [u8; 32] = [7; 32];

impl Fixture {
    /// Creates a replay of everything that was sent to an endpoint, without a wake.
    async fn replay_without_wake(&self, endpoint: EndpointId, rate: u32) -> Replay {
        let now = RealClock.now();
        let filter = Filter { endpoint: Some(endpoint), ..Filter::default() };
        let request = ReplayRequest { filter, rate, total: 0 };
        let made = self.records.create_replay(self.account, request, &self.id_generator, now).await;
        made.expect("created").expect("an account").0
    }

    /// How many deliveries a replay has created.
    async fn done(&self, replay: &Replay) -> u64 {
        let replay = self.records.replay(replay.account, replay.id).await.expect("read");
        replay.expect("there").done
    }

    /// Accepts an event with an idempotency key.
    async fn accept_with_key(&self, key_sha256: [u8; 32], now: Timestamp) {
        let idempotency = Idempotency { key_sha256, body_sha256: [8; 32] };
        // A separate id generator: this node's does not go back in time.
        let id = IdGenerator::new(2).id(now);
        let event = Event { id, created_at: now, ..self.build_event("{}") };
        let accept = self.records.accept(
            self.account,
            vec![event],
            Some(idempotency),
            &self.id_generator,
            now,
        );
        accept.await.expect("accepted");
    }

    /// How many rows have keys that contain these bytes.
    async fn rows_of(&self, bytes: &[u8]) -> usize {
        let rows = self.store.rows(Range::prefix([])).await.expect("read");
        let is_of = |key: &[u8]| key.windows(bytes.len()).any(|part| part == bytes);
        rows.iter().filter(|(key, _)| is_of(key)).count()
    }

    /// A disabled endpoint with `held` held deliveries.
    async fn disabled_endpoint(&self, held: usize) -> EndpointId {
        let endpoint = self.endpoint("http://127.0.0.1:9/hook", Ordering::Parallel).await;
        let now = RealClock.now();
        self.records.disable_endpoint(self.account, endpoint, now).await.expect("disabled");
        for _ in 0..held {
            self.accept_without_wake("{}").await;
        }
        endpoint
    }
}

#[tokio::test]
async fn a_replay_to_a_disabled_endpoint_keeps_its_rate() {
    let time = PausedTime::new();
    let fixture = Fixture::new(slow_retries()).await;
    let endpoint = fixture.disabled_endpoint(50).await;
    let replay = fixture.replay_without_wake(endpoint, 10).await;
    let shard = fixture.records.shard_of(replay.id);
    assert!(fixture.owned_shards.wake(vec![Wake::Jobs { shard }]).is_empty());
    time.advance(Duration::from_secs(1)).await;
    let made = fixture.done(&replay).await;
    assert!((5..=12).contains(&made), "{made} in a second");
}

#[tokio::test]
async fn a_running_replay_does_not_delay_the_sweep() {
    let time = PausedTime::new();
    let fixture = Fixture::with(slow_retries(), 1).await;
    let endpoint = fixture.disabled_endpoint(200).await;
    let replay = fixture.replay_without_wake(endpoint, 1).await;
    assert!(fixture.owned_shards.wake(vec![Wake::Jobs { shard: 0 }]).is_empty());
    time.advance(Duration::from_secs(2)).await;
    assert!(fixture.done(&replay).await >= 1, "it runs");

    // The idempotency key expires in five seconds.
    let at = RealClock.now().minus(IDEMPOTENCY_TTL).plus(Duration::from_secs(5));
    fixture.accept_with_key(KEY, at).await;
    assert_eq!(fixture.rows_of(&KEY).await, 2, "the key and its expiry");
    time.advance(Duration::from_secs(70)).await;
    let made = fixture.done(&replay).await;
    assert!((30..200).contains(&made), "still running, with {made} deliveries");
    assert_eq!(fixture.rows_of(&KEY).await, 0);
}

#[tokio::test]
async fn jobs_without_a_wake_start_at_the_next_scan() {
    let time = PausedTime::new();
    let fixture = Fixture::with(slow_retries(), 1).await;
    let endpoint = fixture.disabled_endpoint(50).await;
    // The shard has scanned and found nothing.
    time.advance(Duration::from_millis(100)).await;
    let replay = fixture.replay_without_wake(endpoint, 1_000).await;
    time.advance(Duration::from_secs(6)).await;
    assert_eq!(fixture.done(&replay).await, 50);

    // A fan-out to more endpoints than fit in one transaction.
    for _ in 0..=MAX_FAN_OUT_PER_TRANSACTION {
        fixture.endpoint("http://127.0.0.1:9/hook", Ordering::Parallel).await;
    }
    fixture.accept_without_wake("{}").await;
    assert!(fixture.records.waiting_jobs(0).await.expect("read").fan_outs);
    time.advance(Duration::from_secs(6)).await;
    assert_eq!(fixture.records.waiting_jobs(0).await.expect("read"), WaitingJobs::default());
}

#[tokio::test]
async fn a_requested_scan_finds_jobs_at_once() {
    let time = PausedTime::new();
    let fixture = Fixture::with(slow_retries(), 1).await;
    let endpoint = fixture.disabled_endpoint(1).await;
    time.advance(Duration::from_millis(100)).await;
    let replay = fixture.replay_without_wake(endpoint, 1_000).await;
    fixture.owned_shards.scan_now();
    eventually(async || fixture.done(&replay).await == 1).await;
}

#[tokio::test]
async fn slow_replays_do_not_block_others() {
    let time = PausedTime::new();
    let fixture = Fixture::with(slow_retries(), 1).await;
    let endpoint = fixture.disabled_endpoint(20).await;
    let mut replays = Vec::new();
    for _ in 0..=MAX_RUNNING_REPLAYS_PAGE {
        replays.push(fixture.replay_without_wake(endpoint, 1).await);
    }
    assert!(fixture.owned_shards.wake(vec![Wake::Jobs { shard: 0 }]).is_empty());
    time.advance(Duration::from_secs(3)).await;
    for replay in &replays {
        let made = fixture.done(replay).await;
        assert!((1..=5).contains(&made), "{made} in three seconds");
    }
}
