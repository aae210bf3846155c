//! Which clock is used where: webhooks are signed by the wall clock, because receivers compare it
//! with their own, and deliveries are scheduled by the smoothed clock. And what a step of that clock
//! does to pending retries.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use postrider_domain::endpoint::{Ordering, State};
use postrider_domain::event::{Event, Payload};
use postrider_domain::ids::{BootId, EndpointId};
use postrider_domain::time::{Clock, Timestamp};

use super::fixture::{
    BROKEN, Fixture, OK, PausedTime, RealClock, Receiver, fast_retries, name, slow_retries,
};

/// How far the wall clock is stepped forward.
const STEP: Duration = Duration::from_secs(600);
/// Much longer than a request takes, and much shorter than the step.
const NEAR: Duration = Duration::from_secs(60);

/// The time in the request's `webhook-timestamp` header.
fn signed_at(head: &str) -> Timestamp {
    let seconds = head.lines().find_map(|line| line.strip_prefix("webhook-timestamp: "));
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

const DAY: Duration = Duration::from_secs(24 * 3600);
/// How often a shard looks at the clock, with some reserve.
const NOTICED: Duration = Duration::from_secs(60);

async fn wait_for_failures(fixture: &Fixture, endpoint: EndpointId, count: u32) {
    fixture.wait_for_endpoint(endpoint, |view| view.health.failure_count == count).await;
}

/// An endpoint that fails once, with two deliveries, of which the first waits for its retry.
async fn failed_once(ordering: Ordering) -> (Fixture, Receiver) {
    let answer = |request| if request == 0 { BROKEN } else { OK };
    let mut receiver = Receiver::start(answer).await;
    let fixture = Fixture::new(slow_retries()).await;
    let endpoint = fixture.endpoint(&receiver.url, ordering).await;
    fixture.publish("1").await;
    receiver.next().await;
    wait_for_failures(&fixture, endpoint, 1).await;
    (fixture, receiver)
}

#[tokio::test]
async fn a_clock_set_back_by_a_day_delays_no_retry() {
    for ordering in [Ordering::Parallel, Ordering::Strict] {
        let time = PausedTime::new();
        let (fixture, mut receiver) = failed_once(ordering).await;
        if ordering == Ordering::Strict {
            fixture.publish("2").await;
        }
        time.advance(NOTICED).await;
        fixture.clock.set_back(DAY);
        time.advance(NOTICED).await;
        assert_eq!(receiver.waiting(), 0, "the retry keeps its delay");
        time.advance(slow_retries().delay_bounds(1).1 + NOTICED).await;
        assert_eq!(receiver.next().await.1, "1", "{ordering:?}");
        if ordering == Ordering::Strict {
            assert_eq!(receiver.next().await.1, "2");
        }
        tokio::time::resume();
    }
}

/// The step is seen only in the times that the store has.
#[tokio::test]
async fn a_clock_set_back_while_no_node_ran_delays_no_retry() {
    let time = PausedTime::new();
    let (mut fixture, mut receiver) = failed_once(Ordering::Parallel).await;
    let earlier_run = fixture.records.record_clock(BootId::MAX, fixture.clock.now(), &[]);
    earlier_run.await.expect("recorded");
    fixture.revoke_all().await;
    fixture.clock.set_back(DAY);
    fixture.own_all().await;
    time.advance(slow_retries().delay_bounds(1).1 + NOTICED).await;
    assert_eq!(receiver.next().await.1, "1");
}

#[tokio::test]
async fn a_clock_set_forward_by_a_day_makes_one_attempt_early_and_costs_none() {
    let time = PausedTime::new();
    let mut receiver = Receiver::start(|_| BROKEN).await;
    let fixture = Fixture::new(slow_retries()).await;
    let endpoint = fixture.endpoint(&receiver.url, Ordering::Parallel).await;
    fixture.publish("1").await;
    receiver.next().await;
    wait_for_failures(&fixture, endpoint, 1).await;
    fixture.clock.set_forward(DAY);
    time.advance(NOTICED).await;
    receiver.next().await;
    wait_for_failures(&fixture, endpoint, 2).await;
    let (shortest, longest) = slow_retries().delay_bounds(2);
    time.advance(shortest - NOTICED).await;
    assert_eq!(receiver.waiting(), 0, "the last retry keeps its delay");
    let view = fixture.records.endpoint(fixture.account, endpoint).await.unwrap().unwrap();
    assert_eq!(view.state, State::Enabled, "an attempt is left");
    time.advance(longest - shortest + 2 * NOTICED).await;
    receiver.next().await;
    fixture.wait_for_endpoint(endpoint, |view| view.state != State::Enabled).await;
}
