use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use postrider_cluster::lease_validity::LeaseValidity;
use postrider_cluster::route::LocalShards;
use postrider_cluster::shard_guard::ShardGuard;
use postrider_domain::endpoint::{Ordering, State};
use postrider_domain::event::Payload;
use postrider_domain::ids::BootId;
use postrider_domain::retry;
use postrider_domain::time::Clock;
use postrider_store::{HeldAction, Wake};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::faulty_engine::Fault;
use super::fixture::{
    Answer, BROKEN, Fixture, OK, PausedTime, RealClock, Receiver, TIMEOUT, eventually,
    fast_retries, large_payload, run_ready_tasks, slow_retries,
};
use crate::ConnectionLimits;
use crate::shard::Bounds;

#[tokio::test]
async fn an_event_is_delivered_once() {
    let mut receiver = Receiver::start(|_| OK).await;
    let fixture = Fixture::new(fast_retries()).await;
    let endpoint = fixture.endpoint(&receiver.url, Ordering::Parallel).await;
    for number in 0..200 {
        fixture.publish(&format!("{number}")).await;
    }
    let mut bodies = HashSet::new();
    for _ in 0..200 {
        assert!(bodies.insert(receiver.next().await.1), "delivered twice");
    }
    fixture.wait_for_endpoint(endpoint, |view| view.backlog.count() == 0).await;
}

#[tokio::test]
async fn a_delivery_without_a_wake_is_found_by_a_scan() {
    let mut receiver = Receiver::start(|_| OK).await;
    let fixture = Fixture::new(fast_retries()).await;
    let endpoint = fixture.endpoint(&receiver.url, Ordering::Parallel).await;
    fixture.accept_without_wake("1").await;
    receiver.next().await;
    fixture.wait_for_endpoint(endpoint, |view| view.backlog.count() == 0).await;
    // The actor is running but idle; the next scan compensates for the lost wake.
    fixture.accept_without_wake("2").await;
    assert_eq!(receiver.next().await.1, "2");
}

#[tokio::test]
async fn busy_endpoints_do_not_hide_others_from_a_scan() {
    let time = PausedTime::new();
    let hanging = Receiver::start(|_| Answer::Hang).await;
    let mut receiver = Receiver::start(|_| OK).await;
    let bounds = Bounds { pointers_per_scan: 4 };
    let fixture = Fixture::within(bounds, slow_retries(), 1).await;
    for _ in 0..2 * bounds.pointers_per_scan {
        fixture.endpoint(&hanging.url, Ordering::Parallel).await;
    }
    fixture.publish("1").await;
    eventually(async || hanging.waiting() == 2 * bounds.pointers_per_scan).await;
    // Its pointer comes after those of the busy endpoints, which do not move.
    fixture.endpoint(&receiver.url, Ordering::Parallel).await;
    time.advance(Duration::from_millis(100)).await;
    fixture.accept_without_wake("2").await;
    time.advance(Duration::from_secs(6)).await;
    assert_eq!(receiver.next().await.1, "2");
}

#[tokio::test]
async fn failures_are_retried_on_schedule_then_the_endpoint_is_disabled() {
    let mut receiver = Receiver::start(|_| BROKEN).await;
    let policy = fast_retries();
    let fixture = Fixture::new(policy.clone()).await;
    let endpoint = fixture.endpoint(&receiver.url, Ordering::Parallel).await;
    fixture.publish("1").await;
    let mut last: Option<Instant> = None;
    for attempt in 0..3_u8 {
        receiver.next().await;
        if let Some(last) = last {
            assert!(last.elapsed() >= policy.delay_bounds(attempt).0, "attempt {attempt} is early");
        }
        last = Some(Instant::now());
    }
    fixture.wait_for_endpoint(endpoint, |view| matches!(view.state, State::Disabled(_))).await;
    fixture.publish("2").await;
    fixture.wait_for_endpoint(endpoint, |view| view.backlog.count() == 1).await;
    let notified = async {
        while fixture.notifier_calls.0.load(SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), notified).await.expect("the notifier is called");
}

#[tokio::test]
async fn a_delivery_whose_endpoint_is_disabled_during_its_read_is_not_sent() {
    let _time = PausedTime::new();
    let mut receiver = Receiver::start(|_| OK).await;
    let fixture = Fixture::new(slow_retries()).await;
    let endpoint = fixture.endpoint(&receiver.url, Ordering::Parallel).await;
    let permits = Arc::new(Semaphore::new(0));
    let event = fixture.build_event(&large_payload());
    fixture.engine.inject(event.id, Fault::Block(permits.clone()));
    fixture.accept_and_wake(event).await;
    eventually(async || fixture.engine.faults_hit() == 1).await;

    fixture.records.disable_endpoint(fixture.account, endpoint, RealClock.now()).await.unwrap();
    permits.add_permits(1);
    // The held delivery is discarded, so the next request is for another delivery.
    run_ready_tasks().await;
    fixture.engine.clear_fault();
    fixture.records.enable_endpoint(fixture.account, endpoint, HeldAction::Discard).await.unwrap();
    let (shard, account) = (fixture.records.shard_of(endpoint), fixture.account);
    assert!(fixture.owned_shards.wake(vec![Wake::Changed { shard, account, endpoint }]).is_empty());
    fixture.publish("2").await;
    assert_eq!(receiver.next().await.1, "2");
    assert_eq!(receiver.waiting(), 0);
}

#[tokio::test]
async fn a_delivery_from_another_node_is_sent_as_stored_or_not_at_all() {
    let _time = PausedTime::new();
    let mut receiver = Receiver::start(|_| OK).await;
    let fixture = Fixture::new(slow_retries()).await;
    let endpoint = fixture.endpoint(&receiver.url, Ordering::Parallel).await;
    let (_, mut wakes) = fixture.accept_without_wake("1").await;
    let Wake::Endpoint { ready: Some(ready), .. } = &mut wakes[0] else { panic!("{wakes:?}") };
    ready.payload = Payload::from_stored("another one".into());
    assert!(fixture.owned_shards.wake_from_peer(wakes.clone()).is_empty());
    assert_eq!(receiver.next().await.1, "1");
    fixture.wait_for_endpoint(endpoint, |view| view.backlog.count() == 0).await;

    // One delivery that is no longer pending, and one that was never accepted.
    let mut unknown = wakes.clone();
    let Wake::Endpoint { ready: Some(ready), .. } = &mut unknown[0] else { panic!("{wakes:?}") };
    ready.delivery.id = fixture.id_generator.id(RealClock.now());
    wakes.extend(unknown);
    assert!(fixture.owned_shards.wake_from_peer(wakes).is_empty());
    run_ready_tasks().await;
    fixture.publish("2").await;
    assert_eq!(receiver.next().await.1, "2");
    fixture.wait_for_endpoint(endpoint, |view| view.backlog.count() == 0).await;
    assert_eq!(receiver.waiting(), 0);
}

#[tokio::test]
async fn held_deliveries_resume() {
    let mut receiver = Receiver::start(|_| OK).await;
    let fixture = Fixture::new(fast_retries()).await;
    let endpoint = fixture.endpoint(&receiver.url, Ordering::Parallel).await;
    let now = || RealClock.now();
    fixture.records.disable_endpoint(fixture.account, endpoint, now()).await.unwrap();
    fixture.publish("1").await;
    fixture.records.enable_endpoint(fixture.account, endpoint, HeldAction::Resume).await.unwrap();
    let shard = fixture.records.shard_of(endpoint);
    let account = fixture.account;
    fixture.owned_shards.wake(vec![Wake::Changed { shard, account, endpoint }]);
    receiver.next().await;
    fixture.wait_for_endpoint(endpoint, |view| view.backlog.count() == 0).await;
}

#[tokio::test]
async fn strict_order_survives_failures() {
    let mut receiver = Receiver::start(|request| if request % 2 == 0 { BROKEN } else { OK }).await;
    let fixture = Fixture::new(fast_retries()).await;
    let endpoint = fixture.endpoint(&receiver.url, Ordering::Strict).await;
    for number in 0..4 {
        fixture.publish(&format!("{number}")).await;
    }
    let mut bodies = Vec::new();
    for _ in 0..8 {
        bodies.push(receiver.next().await.1);
    }
    assert_eq!(bodies, ["0", "0", "1", "1", "2", "2", "3", "3"]);
    fixture.wait_for_endpoint(endpoint, |view| view.backlog.count() == 0).await;
}

#[tokio::test]
async fn hanging_endpoints_do_not_slow_down_others() {
    let hanging = Receiver::start(|_| Answer::Hang).await;
    let mut healthy = Receiver::start(|_| OK).await;
    let policy = retry::Policy::new(2, Duration::from_secs(60), 2.0, 0.1, Duration::from_secs(15))
        .expect("fits");
    let fixture = Fixture::new(policy).await;
    for _ in 0..100 {
        fixture.endpoint(&hanging.url, Ordering::Parallel).await;
    }
    let endpoint = fixture.endpoint(&healthy.url, Ordering::Parallel).await;
    for number in 0..20 {
        fixture.publish(&format!("{number}")).await;
    }
    // All complete before a hanging request times out.
    for _ in 0..20 {
        healthy.next().await;
    }
    fixture.wait_for_endpoint(endpoint, |view| view.backlog.count() == 0).await;
    // The others are still hanging, as many as their host may get.
    assert_eq!(fixture.delivery.in_flight(), ConnectionLimits::default().per_host);
}

#[tokio::test]
async fn a_guard_is_held_until_attempts_in_flight_are_recorded() {
    let mut receiver = Receiver::start(|_| Answer::Hang).await;
    let mut fixture = Fixture::new(fast_retries()).await;
    let endpoint = fixture.endpoint(&receiver.url, Ordering::Parallel).await;
    fixture.publish("1").await;
    receiver.next().await;
    fixture.revoke_all().await;
    let view = fixture.records.endpoint(fixture.account, endpoint).await.unwrap().unwrap();
    assert_eq!((view.health.failure_count, view.backlog.count()), (1, 1));
    assert_eq!(fixture.delivery.in_flight(), 0);
}

#[tokio::test]
async fn a_guard_revoked_before_its_actor_starts_leaves_no_actor() {
    let mut fixture = Fixture::new(fast_retries()).await;
    let endpoint = fixture.endpoint("http://127.0.0.1:9/hook", Ordering::Parallel).await;
    fixture.revoke_all().await;
    let shard = fixture.records.shard_of(endpoint);
    for fence in fixture.records.claim(&[shard], BootId::MIN).await.expect("claimed") {
        let (guard, mut grant) = ShardGuard::begin(fence, LeaseValidity::always());
        grant.revoke();
        fixture.delivery.own(guard).await.expect("started");
        let released = tokio::time::timeout(TIMEOUT, grant.released());
        released.await.expect("released in time");
    }
    let (_, wakes) = fixture.accept_without_wake("1").await;
    assert!(!wakes.is_empty());
    assert_eq!(
        fixture.owned_shards.wake(wakes.clone()).len(),
        wakes.len(),
        "no actor here is woken"
    );
}

#[tokio::test]
async fn a_delivery_accepted_between_two_ownerships_is_sent_in_the_second() {
    let mut receiver = Receiver::start(|_| OK).await;
    let mut fixture = Fixture::new(fast_retries()).await;
    let endpoint = fixture.endpoint(&receiver.url, Ordering::Parallel).await;
    fixture.publish("1").await;
    receiver.next().await;
    fixture.revoke_all().await;
    let (_, wakes) = fixture.accept_without_wake("2").await;
    assert_eq!(fixture.owned_shards.wake(wakes).len(), 1, "the shard is not owned here");
    fixture.own_all().await;
    assert_eq!(receiver.next().await.1, "2");
    fixture.wait_for_endpoint(endpoint, |view| view.backlog.count() == 0).await;
}

#[tokio::test]
async fn a_superseded_owner_records_nothing_and_gives_up_the_shard() {
    let mut receiver = Receiver::start(|_| OK).await;
    let mut fixture = Fixture::new(fast_retries()).await;
    let endpoint = fixture.endpoint(&receiver.url, Ordering::Parallel).await;
    let shard = fixture.records.shard_of(endpoint);
    fixture.records.claim(&[shard], BootId::MAX).await.unwrap();
    fixture.publish("1").await;
    receiver.next().await;
    let grant = &mut fixture.grants[usize::from(shard)];
    tokio::time::timeout(TIMEOUT, grant.released()).await.expect("the shard is given up");
    let view = fixture.records.endpoint(fixture.account, endpoint).await.unwrap().unwrap();
    assert_eq!(view.backlog.count(), 1, "the new owner finds it");
}

#[tokio::test]
async fn a_panic_only_delays_deliveries() {
    let mut receiver = Receiver::start(|_| OK).await;
    let fixture = Fixture::new(fast_retries()).await;
    let endpoint = fixture.endpoint(&receiver.url, Ordering::Parallel).await;
    fixture.publish("1").await;
    receiver.next().await;
    fixture.wait_for_endpoint(endpoint, |view| view.backlog.count() == 0).await;
    // The endpoint actor panics, then its shard actor on the supervision event, then the shard
    // actor again.
    fixture.clock.panics.store(3, SeqCst);
    fixture.publish("2").await;
    assert_eq!(receiver.next().await.1, "2");
    assert_eq!(fixture.clock.panics.load(SeqCst), 0);
    fixture.wait_for_endpoint(endpoint, |view| view.backlog.count() == 0).await;
}

#[tokio::test]
async fn an_account_cannot_block_deliveries_to_anothers_endpoint() {
    let mut receiver = Receiver::start(|_| OK).await;
    let fixture = Fixture::new(fast_retries()).await;
    let endpoint = fixture.endpoint(&receiver.url, Ordering::Parallel).await;
    let shard = fixture.records.shard_of(endpoint);
    let other_account = postrider_domain::ids::AccountId::MAX;
    let changed = || vec![Wake::Changed { shard, account: other_account, endpoint }];
    let _ = fixture.owned_shards.wake(changed());
    fixture.publish("1").await;
    let _ = fixture.owned_shards.wake(changed());
    receiver.next().await;
    fixture.wait_for_endpoint(endpoint, |view| view.backlog.count() == 0).await;
}
