use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use postrider_cluster::pulse::Pulse;
use postrider_cluster::route::Workers;
use postrider_cluster::tenure::Tenure;
use postrider_domain::endpoint::{Ordering, State};
use postrider_domain::event::Payload;
use postrider_domain::ids::BootId;
use postrider_domain::retry;
use postrider_domain::time::Clock;
use postrider_store::{Held, Wake};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::hindered::With;
use super::world::{
    Answer, BROKEN, OK, PATIENCE, RealClock, Receiver, StoppedTime, World, eventually, hasty,
    large, patient, settle,
};
use crate::context::Bounds;

#[tokio::test]
async fn an_event_arrives_once() {
    let mut receiver = Receiver::start(|_| OK).await;
    let world = World::new(hasty()).await;
    let endpoint = world.endpoint(&receiver.url, Ordering::Parallel).await;
    for number in 0..200 {
        world.publish(&format!("{number}")).await;
    }
    let mut bodies = HashSet::new();
    for _ in 0..200 {
        assert!(bodies.insert(receiver.next().await.1), "twice");
    }
    world.until(endpoint, |view| view.unfinished == 0).await;
}

#[tokio::test]
async fn what_nobody_told_of_is_found() {
    let mut receiver = Receiver::start(|_| OK).await;
    let world = World::new(hasty()).await;
    let endpoint = world.endpoint(&receiver.url, Ordering::Parallel).await;
    world.accept_silently("1").await;
    receiver.next().await;
    world.until(endpoint, |view| view.unfinished == 0).await;
    // The actor lives and is idle; a lost wake is made up for by the next look.
    world.accept_silently("2").await;
    assert_eq!(receiver.next().await.1, "2");
}

#[tokio::test]
async fn busy_endpoints_hide_no_other_from_a_scan() {
    let time = StoppedTime::new();
    let hanging = Receiver::start(|_| Answer::Hang).await;
    let mut receiver = Receiver::start(|_| OK).await;
    let bounds = Bounds { pointers: 4 };
    let world = World::within(bounds, patient(), 1).await;
    for _ in 0..2 * bounds.pointers {
        world.endpoint(&hanging.url, Ordering::Parallel).await;
    }
    world.publish("1").await;
    eventually(async || hanging.waiting() == 2 * bounds.pointers).await;
    // Its pointer comes behind those of the busy ones, which stay where they are.
    world.endpoint(&receiver.url, Ordering::Parallel).await;
    time.pass(Duration::from_millis(100)).await;
    world.accept_silently("2").await;
    time.pass(Duration::from_secs(6)).await;
    assert_eq!(receiver.next().await.1, "2");
}

#[tokio::test]
async fn failures_are_retried_on_schedule_then_the_endpoint_is_disabled() {
    let mut receiver = Receiver::start(|_| BROKEN).await;
    let policy = hasty();
    let world = World::new(policy.clone()).await;
    let endpoint = world.endpoint(&receiver.url, Ordering::Parallel).await;
    world.publish("1").await;
    let mut last: Option<Instant> = None;
    for attempt in 0..3_u8 {
        receiver.next().await;
        if let Some(last) = last {
            assert!(last.elapsed() >= policy.delay_bounds(attempt).0, "attempt {attempt} is early");
        }
        last = Some(Instant::now());
    }
    world.until(endpoint, |view| matches!(view.state, State::Disabled(_))).await;
    world.publish("2").await;
    world.until(endpoint, |view| view.unfinished == 1).await;
    let notified = async {
        while world.nudges.0.load(SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), notified).await.expect("the notifier is told");
}

#[tokio::test]
async fn what_is_read_while_its_endpoint_is_disabled_is_not_sent() {
    let _time = StoppedTime::new();
    let mut receiver = Receiver::start(|_| OK).await;
    let world = World::new(patient()).await;
    let endpoint = world.endpoint(&receiver.url, Ordering::Parallel).await;
    let turns = Arc::new(Semaphore::new(0));
    let event = world.build_event(&large());
    world.engine.hinder(event.id, With::Turns(turns.clone()));
    world.accept_and_wake(event).await;
    eventually(async || world.engine.met() == 1).await;

    world.records.disable_endpoint(world.account, endpoint, RealClock.now()).await.unwrap();
    turns.add_permits(1);
    // What is held is given up, so the next request is another delivery's.
    settle().await;
    world.engine.clear_the_way();
    world.records.enable_endpoint(world.account, endpoint, Held::Discard).await.unwrap();
    let (shard, account) = (world.records.shard_of(endpoint), world.account);
    assert!(world.delivery.wake(vec![Wake::Changed { shard, account, endpoint }]).is_empty());
    world.publish("2").await;
    assert_eq!(receiver.next().await.1, "2");
    assert_eq!(receiver.waiting(), 0);
}

#[tokio::test]
async fn what_another_node_brings_along_is_sent_as_the_store_has_it_or_not_at_all() {
    let _time = StoppedTime::new();
    let mut receiver = Receiver::start(|_| OK).await;
    let world = World::new(patient()).await;
    let endpoint = world.endpoint(&receiver.url, Ordering::Parallel).await;
    let (_, mut wakes) = world.accept_silently("1").await;
    let Wake::Endpoint { ready: Some(ready), .. } = &mut wakes[0] else { panic!("{wakes:?}") };
    ready.payload = Payload::from_stored("another one".into());
    assert!(world.delivery.wake_from_peer(wakes.clone()).is_empty());
    assert_eq!(receiver.next().await.1, "1");
    world.until(endpoint, |view| view.unfinished == 0).await;

    // It is no longer pending; and one that was never accepted.
    let mut unknown = wakes.clone();
    let Wake::Endpoint { ready: Some(ready), .. } = &mut unknown[0] else { panic!("{wakes:?}") };
    ready.delivery.id = world.mint.id(RealClock.now());
    wakes.extend(unknown);
    assert!(world.delivery.wake_from_peer(wakes).is_empty());
    settle().await;
    world.publish("2").await;
    assert_eq!(receiver.next().await.1, "2");
    world.until(endpoint, |view| view.unfinished == 0).await;
    assert_eq!(receiver.waiting(), 0);
}

#[tokio::test]
async fn held_deliveries_resume() {
    let mut receiver = Receiver::start(|_| OK).await;
    let world = World::new(hasty()).await;
    let endpoint = world.endpoint(&receiver.url, Ordering::Parallel).await;
    let now = || RealClock.now();
    world.records.disable_endpoint(world.account, endpoint, now()).await.unwrap();
    world.publish("1").await;
    world.records.enable_endpoint(world.account, endpoint, Held::Resume).await.unwrap();
    let shard = world.records.shard_of(endpoint);
    let account = world.account;
    world.delivery.wake(vec![Wake::Changed { shard, account, endpoint }]);
    receiver.next().await;
    world.until(endpoint, |view| view.unfinished == 0).await;
}

#[tokio::test]
async fn strict_order_survives_failures() {
    let mut receiver = Receiver::start(|request| if request % 2 == 0 { BROKEN } else { OK }).await;
    let world = World::new(hasty()).await;
    let endpoint = world.endpoint(&receiver.url, Ordering::Strict).await;
    for number in 0..4 {
        world.publish(&format!("{number}")).await;
    }
    let mut bodies = Vec::new();
    for _ in 0..8 {
        bodies.push(receiver.next().await.1);
    }
    assert_eq!(bodies, ["0", "0", "1", "1", "2", "2", "3", "3"]);
    world.until(endpoint, |view| view.unfinished == 0).await;
}

#[tokio::test]
async fn hanging_endpoints_slow_nobody() {
    let hanging = Receiver::start(|_| Answer::Hang).await;
    let mut healthy = Receiver::start(|_| OK).await;
    let policy = retry::Policy::new(2, Duration::from_secs(60), 2.0, 0.1, Duration::from_secs(15))
        .expect("fits");
    let world = World::new(policy).await;
    for _ in 0..100 {
        world.endpoint(&hanging.url, Ordering::Parallel).await;
    }
    world.endpoint(&healthy.url, Ordering::Parallel).await;
    for number in 0..20 {
        world.publish(&format!("{number}")).await;
    }
    // All within one request's time to hang.
    for _ in 0..20 {
        healthy.next().await;
    }
    assert!(world.delivery.in_flight() >= 100, "the others are still hanging");
}

#[tokio::test]
async fn a_tenure_is_held_until_what_is_in_flight_is_on_record() {
    let mut receiver = Receiver::start(|_| Answer::Hang).await;
    let mut world = World::new(hasty()).await;
    let endpoint = world.endpoint(&receiver.url, Ordering::Parallel).await;
    world.publish("1").await;
    receiver.next().await;
    world.disown_all().await;
    let view = world.records.endpoint(world.account, endpoint).await.unwrap().unwrap();
    assert_eq!((view.health.failure_count, view.unfinished), (1, 1));
    assert_eq!(world.delivery.in_flight(), 0);
}

#[tokio::test]
async fn a_tenure_that_is_over_before_its_actor_starts_leaves_nothing() {
    let mut world = World::new(hasty()).await;
    let endpoint = world.endpoint("http://127.0.0.1:9/hook", Ordering::Parallel).await;
    world.disown_all().await;
    let shard = world.records.shard_of(endpoint);
    for fence in world.records.claim(&[shard], BootId::MIN).await.expect("claimed") {
        let (tenure, mut tenancy) = Tenure::begin(fence, Pulse::steady());
        tenancy.end();
        world.delivery.own(tenure).await.expect("started");
        let released = tokio::time::timeout(PATIENCE, tenancy.released());
        released.await.expect("released in time");
    }
    let (_, wakes) = world.accept_silently("1").await;
    assert!(!wakes.is_empty());
    assert_eq!(world.delivery.wake(wakes.clone()).len(), wakes.len(), "nobody here is woken");
}

#[tokio::test]
async fn what_came_between_two_tenures_is_sent_in_the_second_one() {
    let mut receiver = Receiver::start(|_| OK).await;
    let mut world = World::new(hasty()).await;
    let endpoint = world.endpoint(&receiver.url, Ordering::Parallel).await;
    world.publish("1").await;
    receiver.next().await;
    world.disown_all().await;
    let (_, wakes) = world.accept_silently("2").await;
    assert_eq!(world.delivery.wake(wakes).len(), 1, "nobody here works on it");
    world.own_all().await;
    assert_eq!(receiver.next().await.1, "2");
    world.until(endpoint, |view| view.unfinished == 0).await;
}

#[tokio::test]
async fn an_owner_that_was_superseded_records_nothing_and_gives_up() {
    let mut receiver = Receiver::start(|_| OK).await;
    let mut world = World::new(hasty()).await;
    let endpoint = world.endpoint(&receiver.url, Ordering::Parallel).await;
    let shard = world.records.shard_of(endpoint);
    world.records.claim(&[shard], BootId::MAX).await.unwrap();
    world.publish("1").await;
    receiver.next().await;
    let tenancy = &mut world.tenancies[usize::from(shard)];
    tokio::time::timeout(PATIENCE, tenancy.released()).await.expect("it gives up");
    let view = world.records.endpoint(world.account, endpoint).await.unwrap().unwrap();
    assert_eq!(view.unfinished, 1, "the new owner finds it");
}

#[tokio::test]
async fn a_panic_costs_time_and_no_more() {
    let mut receiver = Receiver::start(|_| OK).await;
    let world = World::new(hasty()).await;
    let endpoint = world.endpoint(&receiver.url, Ordering::Parallel).await;
    world.publish("1").await;
    receiver.next().await;
    world.until(endpoint, |view| view.unfinished == 0).await;
    // The endpoint's actor panics, then its shard's, which is told of it, then that one again.
    world.clock.panics.store(3, SeqCst);
    world.publish("2").await;
    assert_eq!(receiver.next().await.1, "2");
    assert_eq!(world.clock.panics.load(SeqCst), 0);
    world.until(endpoint, |view| view.unfinished == 0).await;
}

#[tokio::test]
async fn nobody_keeps_anothers_endpoint_from_being_worked_on() {
    let mut receiver = Receiver::start(|_| OK).await;
    let world = World::new(hasty()).await;
    let endpoint = world.endpoint(&receiver.url, Ordering::Parallel).await;
    let shard = world.records.shard_of(endpoint);
    let stranger = postrider_domain::ids::AccountId::MAX;
    let changed = || vec![Wake::Changed { shard, account: stranger, endpoint }];
    let _ = world.delivery.wake(changed());
    world.publish("1").await;
    let _ = world.delivery.wake(changed());
    receiver.next().await;
    world.until(endpoint, |view| view.unfinished == 0).await;
}
