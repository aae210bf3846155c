//! Which clock is used where: webhooks are signed by the wall clock, because receivers compare it
//! with their own, and deliveries are scheduled by the smoothed clock.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use postrider_domain::endpoint::Ordering;
use postrider_domain::event::{Event, Payload};
use postrider_domain::time::{Clock, Timestamp};

use super::fixture::{BROKEN, Fixture, RealClock, Receiver, fast_retries, name};

/// How far the wall clock is stepped forward.
const STEP: Duration = Duration::from_secs(600);
/// Much longer than a request takes, and much shorter than the step.
const NEAR: Duration = Duration::from_secs(60);

/// The time in the request's `webhook-timestamp` header.
fn signed_at(head: &str) -> Timestamp {
    let seconds = head.lines().find_map(|line| line.strip_prefix("Webhook-Timestamp: "));
    let seconds: u64 = seconds.expect("a time").parse().expect("seconds");
    Timestamp::from_millis(seconds * 1_000)
}

fn is_near(a: Timestamp, b: Timestamp) -> bool {
    a.since(b).max(b.since(a)) < NEAR
}

#[tokio::test]
async fn webhooks_are_signed_by_the_wall_clock_and_scheduled_by_the_smoothed_one() {
    let mut receiver = Receiver::start(|_| BROKEN).await;
    let fixture = Fixture::new(fast_retries()).await;
    let endpoint = fixture.endpoint(&receiver.url, Ordering::Parallel).await;
    fixture.clock.wall_ahead_ms.store(u64::try_from(STEP.as_millis()).expect("small"), SeqCst);
    fixture.publish("1").await;
    let (first, _) = receiver.next().await;
    assert!(is_near(signed_at(&first), RealClock.now().plus(STEP)), "{first}");
    // If the schedule followed the step, the second attempt would not come in time.
    let (second, _) = receiver.next().await;
    assert!(is_near(signed_at(&second), RealClock.now().plus(STEP)), "{second}");
    fixture.wait_for_endpoint(endpoint, |view| view.health.failure_count >= 2).await;
    let view = fixture.records.endpoint(fixture.account, endpoint).await.unwrap().unwrap();
    let at = view.health.last_error.expect("it failed").at;
    assert!(is_near(at, RealClock.now()), "recorded by the smoothed clock: {at}");
}

#[tokio::test]
async fn test_events_are_signed_by_the_wall_clock() {
    let mut receiver = Receiver::start(|_| BROKEN).await;
    let fixture = Fixture::new(fast_retries()).await;
    let endpoint = fixture.build_endpoint(&receiver.url, Ordering::Parallel);
    fixture.clock.wall_ahead_ms.store(u64::try_from(STEP.as_millis()).expect("small"), SeqCst);
    let now = RealClock.now();
    let event = Event {
        id: fixture.id_generator.id(now),
        account: fixture.account,
        event_type: name("a"),
        created_at: now,
        payload: Payload::from_stored("1".to_owned().into()),
    };
    fixture.delivery.send_test(&endpoint, &event).await;
    let (head, _) = receiver.next().await;
    assert!(is_near(signed_at(&head), RealClock.now().plus(STEP)), "{head}");
}
