//! What receivers hold against their own clocks, and what is scheduled by ours.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use postrider_cluster::route::Workers;
use postrider_domain::endpoint::Ordering;
use postrider_domain::event::{Event, Payload};
use postrider_domain::time::{Clock, Timestamp};

use super::world::{BROKEN, RealClock, Receiver, World, hasty, name};

/// A clock that was wrong by so much has just been set right.
const STEP: Duration = Duration::from_secs(600);
/// Far more than a request takes, and far less than the step.
const NEAR: Duration = Duration::from_secs(60);

/// When a request says that it was signed.
fn signed_at(head: &str) -> Timestamp {
    let seconds = head.lines().find_map(|line| line.strip_prefix("webhook-timestamp: "));
    let seconds: u64 = seconds.expect("a time").parse().expect("seconds");
    Timestamp::from_millis(seconds * 1_000)
}

fn is_near(a: Timestamp, b: Timestamp) -> bool {
    a.since(b).max(b.since(a)) < NEAR
}

#[tokio::test]
async fn webhooks_are_signed_by_the_wall_clock_and_scheduled_by_the_steadied_one() {
    let mut receiver = Receiver::start(|_| BROKEN).await;
    let world = World::new(hasty()).await;
    let endpoint = world.endpoint(&receiver.url, Ordering::Parallel).await;
    world.clock.wall_ahead_ms.store(u64::try_from(STEP.as_millis()).expect("small"), SeqCst);
    world.publish("1").await;
    let (first, _) = receiver.next().await;
    assert!(is_near(signed_at(&first), RealClock.now().plus(STEP)), "{first}");
    // A schedule that had heard of the step would let the second one come when it is tried next.
    let (second, _) = receiver.next().await;
    assert!(is_near(signed_at(&second), RealClock.now().plus(STEP)), "{second}");
    world.until(endpoint, |view| view.health.failure_count >= 2).await;
    let view = world.records.endpoint(world.account, endpoint).await.unwrap().unwrap();
    let at = view.health.last_error.expect("it failed").at;
    assert!(is_near(at, RealClock.now()), "recorded by the steadied clock: {at}");
}

#[tokio::test]
async fn test_events_are_signed_by_the_wall_clock() {
    let mut receiver = Receiver::start(|_| BROKEN).await;
    let world = World::new(hasty()).await;
    let endpoint = world.build_endpoint(&receiver.url, Ordering::Parallel);
    world.clock.wall_ahead_ms.store(u64::try_from(STEP.as_millis()).expect("small"), SeqCst);
    let now = RealClock.now();
    let event = Event {
        id: world.mint.id(now),
        account: world.account,
        event_type: name("a"),
        created_at: now,
        payload: Payload::from_stored("1".to_owned().into()),
    };
    world.delivery.send_test(endpoint, event).await;
    let (head, _) = receiver.next().await;
    assert!(is_near(signed_at(&head), RealClock.now().plus(STEP)), "{head}");
}
