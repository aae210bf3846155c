//! Rests, rate limits, recoveries and new schedules, in paused time.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use postrider_cluster::route::LocalShards;
use postrider_domain::endpoint::{Endpoint, Ordering, State};
use postrider_domain::ids::EndpointId;
use postrider_domain::rate_limit::RateLimit;
use postrider_domain::retry;
use postrider_store::{HeldAction, Wake};

use super::fixture::{Answer, BROKEN, Fixture, OK, PausedTime, Receiver, eventually, slow_retries};

const REFUSED: Answer =
    Answer::Bytes("HTTP/1.1 429 Slow\r\nretry-after: 10\r\ncontent-length: 0\r\n\r\n");

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Answers `down` while the switch is on.
async fn switched(down: Answer) -> (Receiver, Arc<AtomicBool>) {
    let switch = Arc::new(AtomicBool::new(true));
    let is_down = switch.clone();
    let receiver = Receiver::start(move |_| if is_down.load(SeqCst) { down } else { OK }).await;
    (receiver, switch)
}

fn changed(fixture: &Fixture, endpoint: EndpointId) {
    let (shard, account) = (fixture.records.shard_of(endpoint), fixture.account);
    assert!(fixture.owned_shards.wake(vec![Wake::Changed { shard, account, endpoint }]).is_empty());
}

async fn wait_for_failures(fixture: &Fixture, endpoint: EndpointId, count: u32) {
    fixture.wait_for_endpoint(endpoint, |view| view.health.failure_count == count).await;
}

#[tokio::test]
async fn an_endpoint_that_refuses_rests_as_a_whole() {
    let time = PausedTime::new();
    let (mut receiver, refuses) = switched(REFUSED).await;
    let fixture = Fixture::new(slow_retries()).await;
    let endpoint = fixture.endpoint(&receiver.url, Ordering::Parallel).await;
    fixture.publish("0").await;
    receiver.next().await;
    wait_for_failures(&fixture, endpoint, 1).await;
    for number in 1..20 {
        fixture.publish(&format!("{number}")).await;
    }
    time.advance(seconds(9)).await;
    assert_eq!(receiver.waiting(), 0, "it rests");
    time.advance(seconds(2)).await;
    // One probe.
    receiver.next().await;
    wait_for_failures(&fixture, endpoint, 2).await;
    time.advance(seconds(9)).await;
    assert_eq!(receiver.waiting(), 0);
    refuses.store(false, SeqCst);
    time.advance(seconds(2)).await;
    for _ in 0..20 {
        eventually(async || {
            time.advance(seconds(1)).await;
            receiver.waiting() > 0
        })
        .await;
        receiver.next().await;
    }
    fixture.wait_for_endpoint(endpoint, |view| view.backlog.count() == 0).await;
}

#[tokio::test]
async fn a_rate_limit_spaces_requests() {
    let time = PausedTime::new();
    let receiver = Receiver::start(|_| OK).await;
    let fixture = Fixture::new(slow_retries()).await;
    time.advance(seconds(10)).await;
    let limit = RateLimit::new(1.0, 3).expect("valid");
    let limited = Endpoint {
        rate_limit: Some(limit),
        ..fixture.build_endpoint(&receiver.url, Ordering::Parallel)
    };
    assert!(fixture.records.create_endpoint(&limited).await.expect("created"));
    for number in 0..8 {
        fixture.publish(&format!("{number}")).await;
    }
    eventually(async || receiver.waiting() == 3).await;
    for sent in 4..=8 {
        time.advance(Duration::from_millis(900)).await;
        assert_eq!(receiver.waiting(), sent - 1);
        // Timers have a resolution of a millisecond.
        time.advance(Duration::from_millis(110)).await;
        eventually(async || receiver.waiting() == sent).await;
    }
    // The actor does not forget what it sent by being idle.
    fixture.wait_for_endpoint(limited.id, |view| view.backlog.count() == 0).await;
    time.advance(Duration::from_millis(2_500)).await;
    for number in 8..12 {
        fixture.publish(&format!("{number}")).await;
    }
    eventually(async || receiver.waiting() == 10).await;
    time.advance(Duration::from_millis(400)).await;
    assert_eq!(receiver.waiting(), 10);
    time.advance(seconds(3)).await;
    eventually(async || receiver.waiting() == 12).await;
}

#[tokio::test]
async fn a_success_after_failures_brings_the_others_forward() {
    let time = PausedTime::new();
    let (receiver, is_down) = switched(BROKEN).await;
    let fixture = Fixture::new(slow_retries()).await;
    let endpoint = fixture.endpoint(&receiver.url, Ordering::Parallel).await;
    for number in 0..3 {
        fixture.publish(&format!("{number}")).await;
    }
    wait_for_failures(&fixture, endpoint, 3).await;
    is_down.store(false, SeqCst);
    time.advance(seconds(60)).await;
    assert_eq!(receiver.waiting(), 3, "the first retry is due after hours");
    fixture.publish("3").await;
    // The new one, then the other three.
    eventually(async || receiver.waiting() == 7).await;
    fixture.wait_for_endpoint(endpoint, |view| view.backlog.count() == 0).await;
}

#[tokio::test]
async fn a_recovery_is_noticed_although_the_actor_has_stopped() {
    const UNAVAILABLE: Answer = Answer::Bytes("HTTP/1.1 503 Down\r\ncontent-length: 0\r\n\r\n");
    let time = PausedTime::new();
    let (receiver, is_down) = switched(UNAVAILABLE).await;
    let fixture = Fixture::new(slow_retries()).await;
    time.advance(seconds(1)).await;
    let endpoint = fixture.endpoint(&receiver.url, Ordering::Parallel).await;
    fixture.publish("0").await;
    wait_for_failures(&fixture, endpoint, 1).await;
    time.advance(seconds(10)).await;
    is_down.store(false, SeqCst);
    fixture.publish("1").await;
    // Without a rest.
    eventually(async || receiver.waiting() == 3).await;
    fixture.wait_for_endpoint(endpoint, |view| view.backlog.count() == 0).await;
}

#[tokio::test]
async fn a_delivery_that_alone_fails_keeps_its_schedule() {
    let time = PausedTime::new();
    let mut receiver = Receiver::start(|_| BROKEN).await;
    let fixture = Fixture::new(slow_retries()).await;
    let poisoned = fixture.endpoint(&receiver.url, Ordering::Parallel).await;
    fixture.publish("poison").await;
    receiver.next().await;
    wait_for_failures(&fixture, poisoned, 1).await;
    // From now on, only the poisoned delivery fails.
    let mut healthy = Receiver::start(|number| if number == 1 { BROKEN } else { OK }).await;
    let url = healthy.url.clone();
    let change = |endpoint: &mut Endpoint| {
        endpoint.url =
            postrider_domain::target::TargetUrl::parse(&url, &super::fixture::loopback())
                .expect("a URL");
    };
    fixture.records.update_endpoint(fixture.account, poisoned, change).await.expect("updated");
    changed(&fixture, poisoned);
    // A success brings it forward once; it fails again.
    fixture.publish("1").await;
    healthy.next().await;
    assert_eq!(healthy.next().await.1, "poison");
    wait_for_failures(&fixture, poisoned, 1).await;
    for number in 2..6 {
        fixture.publish(&format!("{number}")).await;
        assert_eq!(healthy.next().await.1, format!("{number}"));
    }
    time.advance(seconds(60)).await;
    assert_eq!(healthy.waiting(), 0, "the poisoned delivery waits for its due time");
    fixture.wait_for_endpoint(poisoned, |view| view.backlog.count() == 1).await;
}

#[tokio::test]
async fn sending_now_ends_a_rest_and_brings_everything_forward() {
    let time = PausedTime::new();
    let (receiver, is_down) = switched(REFUSED).await;
    let fixture = Fixture::new(slow_retries()).await;
    let endpoint = fixture.endpoint(&receiver.url, Ordering::Parallel).await;
    fixture.publish("0").await;
    wait_for_failures(&fixture, endpoint, 1).await;
    fixture.publish("1").await;
    time.advance(seconds(1)).await;
    assert_eq!(receiver.waiting(), 1);
    is_down.store(false, SeqCst);
    fixture.records.send_now(fixture.account, endpoint).await.expect("sent");
    changed(&fixture, endpoint);
    eventually(async || receiver.waiting() == 3).await;
}

#[tokio::test]
async fn an_enabled_endpoint_starts_a_new_schedule() {
    let (receiver, is_down) = switched(BROKEN).await;
    let time = PausedTime::new();
    // Two attempts, an hour apart.
    let policy = retry::Policy::new(1, seconds(3_700), 2.0, 0.0, seconds(100)).expect("fits");
    let fixture = Fixture::new(policy).await;
    let endpoint = fixture.endpoint(&receiver.url, Ordering::Parallel).await;
    for number in 0..2 {
        fixture.publish(&format!("{number}")).await;
        wait_for_failures(&fixture, endpoint, number + 1).await;
        time.advance(seconds(60)).await;
    }
    time.advance(seconds(3_600)).await;
    fixture.wait_for_endpoint(endpoint, |view| matches!(view.state, State::Disabled(_))).await;
    fixture.wait_for_endpoint(endpoint, |view| view.backlog.held() == 1).await;
    let before = receiver.waiting();
    let enabled = fixture.records.enable_endpoint(fixture.account, endpoint, HeldAction::Resume);
    enabled.await.expect("enabled");
    changed(&fixture, endpoint);
    eventually(async || receiver.waiting() == before + 1).await;
    wait_for_failures(&fixture, endpoint, 4).await;
    // One failure does not disable it again.
    is_down.store(false, SeqCst);
    time.advance(seconds(3_700)).await;
    fixture.wait_for_endpoint(endpoint, |view| view.backlog.count() == 0).await;
    let view = fixture.records.endpoint(fixture.account, endpoint).await.unwrap().unwrap();
    assert_eq!(view.state, State::Enabled);
}
