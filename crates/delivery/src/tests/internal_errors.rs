//! Attempts that fail with internal errors, in paused time.

use std::time::Duration;

use postrider_domain::endpoint::{Endpoint, Ordering, Subscription};
use postrider_domain::event::Event;
use postrider_store::kv::Error;

use super::faulty_engine::Fault;
use super::fixture::{Fixture, OK, OK_AND_CLOSE, PausedTime, Receiver, name, slow_retries};
use crate::internal_errors::STREAK_LIMIT;

/// The engine's pause after an internal error.
const INTERNAL_ERROR_PAUSE: Duration = Duration::from_secs(10);

#[tokio::test]
async fn internal_errors_of_one_delivery_count_only_while_others_succeed() {
    let time = PausedTime::new();
    let fixture = Fixture::new(slow_retries()).await;
    let mut receiver = Receiver::start(|_| OK).await;
    let broken = Endpoint {
        event_types: Subscription::Only([name("b")].into()),
        ..fixture.build_endpoint(&receiver.url, Ordering::Parallel)
    };
    assert!(fixture.records.create_endpoint(&broken).await.expect("created"));
    let event =
        Event { event_type: name("b"), ..fixture.build_event(&super::fixture::large_payload()) };
    fixture
        .engine
        .inject(event.id, Fault::Error(Error::Corrupt("injected by the test".to_owned())));
    fixture.accept_and_wake(event).await;

    time.advance(INTERNAL_ERROR_PAUSE * 2 * STREAK_LIMIT).await;
    assert!(fixture.engine.faults_hit() > STREAK_LIMIT as usize, "it is retried");
    let failures = async || {
        let view = fixture.records.endpoint(fixture.account, broken.id).await.expect("read");
        view.expect("there").health.failure_count
    };
    assert_eq!(failures().await, 0, "nothing succeeds");

    let mut others = Receiver::start(|_| OK_AND_CLOSE).await;
    let other = fixture.endpoint(&others.url, Ordering::Parallel).await;
    for _ in 0..STREAK_LIMIT {
        assert_eq!(failures().await, 0, "not yet");
        fixture.publish("1").await;
        others.next().await;
        fixture.wait_for_endpoint(other, |view| view.backlog.count() == 0).await;
        time.advance(INTERNAL_ERROR_PAUSE + Duration::from_secs(1)).await;
    }
    fixture.wait_for_endpoint(broken.id, |view| view.health.failure_count == 1).await;
    assert_eq!(receiver.waiting(), 0);

    // Its retry is on time and succeeds, as the store works again.
    fixture.engine.clear_fault();
    time.advance(Duration::from_secs(24 * 3600)).await;
    receiver.next().await;
}
