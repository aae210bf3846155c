//! Timers within the process, some with the wall clock set back while they run.

use std::time::Duration;

use postrider_cluster::route::LocalShards;
use postrider_domain::endpoint::Ordering;
use postrider_domain::time::Clock;
use postrider_store::kv::Error;
use postrider_store::{HeldAction, Wake};

use super::faulty_engine::Fault;
use super::fixture::{
    Answer, Fixture, OK, PausedTime, RealClock, Receiver, eventually, large_payload,
    run_ready_tasks, slow_retries,
};

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn a_pause_after_an_internal_error_ends_on_time() {
    let time = PausedTime::new();
    let mut receiver = Receiver::start(|_| OK).await;
    let fixture = Fixture::new(slow_retries()).await;
    fixture.endpoint(&receiver.url, Ordering::Parallel).await;
    let (event, wakes) = fixture.accept_without_wake(&large_payload()).await;
    fixture
        .engine
        .inject(event, Fault::Error(Error::Unavailable("injected by the test".to_owned())));
    assert!(fixture.owned_shards.wake(wakes).is_empty());
    eventually(async || fixture.engine.faults_hit() > 0).await;
    run_ready_tasks().await;
    fixture.engine.clear_fault();
    fixture.clock.set_back(HOUR);
    time.advance(Duration::from_secs(15)).await;
    receiver.next().await;
}

#[tokio::test]
async fn a_clock_set_back_does_not_extend_how_long_an_endpoints_state_is_trusted() {
    let time = PausedTime::new();
    let mut receiver = Receiver::start(|_| Answer::Hang).await;
    let mut other = Receiver::start(|_| OK).await;
    let fixture = Fixture::new(slow_retries()).await;
    let endpoint = fixture.endpoint(&receiver.url, Ordering::Parallel).await;
    fixture.endpoint(&other.url, Ordering::Parallel).await;
    // In flight, so that the endpoint's actor keeps running.
    fixture.publish("1").await;
    receiver.next().await;
    let (_, wakes) = fixture.accept_without_wake("2").await;
    fixture.records.disable_endpoint(fixture.account, endpoint, RealClock.now()).await.unwrap();
    fixture.clock.set_back(HOUR);
    time.advance(Duration::from_secs(6)).await;
    assert!(fixture.owned_shards.wake(wakes).is_empty());
    fixture.publish("3").await;
    for body in ["1", "2", "3"] {
        assert_eq!(other.next().await.1, body);
    }
    assert_eq!(receiver.waiting(), 0, "it is disabled");
}

#[tokio::test]
async fn an_idle_actor_updates_its_pointer_on_time() {
    let time = PausedTime::new();
    let mut receiver = Receiver::start(|_| OK).await;
    let fixture = Fixture::new(slow_retries()).await;
    let endpoint = fixture.endpoint(&receiver.url, Ordering::Parallel).await;
    fixture.publish("1").await;
    receiver.next().await;
    fixture.wait_for_endpoint(endpoint, |view| view.backlog.count() == 0).await;
    run_ready_tasks().await;
    fixture.clock.set_back(HOUR);
    time.advance(Duration::from_secs(3)).await;
    let shard = fixture.records.shard_of(endpoint);
    eventually(async || {
        fixture.records.due_endpoints(shard, None, 10).await.expect("read").is_empty()
    })
    .await;
}

#[tokio::test]
async fn an_endpoint_enabled_without_a_wake_receives_deliveries() {
    let time = PausedTime::new();
    let answer = |request| if request == 0 { Answer::Hang } else { OK };
    let mut receiver = Receiver::start(answer).await;
    let fixture = Fixture::new(slow_retries()).await;
    let endpoint = fixture.endpoint(&receiver.url, Ordering::Parallel).await;
    let (shard, account) = (fixture.records.shard_of(endpoint), fixture.account);
    // In flight, so that the endpoint's actor keeps running and does not ask to be stopped.
    fixture.publish("1").await;
    receiver.next().await;
    fixture.records.disable_endpoint(account, endpoint, RealClock.now()).await.unwrap();
    assert!(fixture.owned_shards.wake(vec![Wake::Changed { shard, account, endpoint }]).is_empty());
    run_ready_tasks().await;
    fixture.accept_without_wake("2").await;
    fixture.records.enable_endpoint(account, endpoint, HeldAction::Resume).await.unwrap();
    time.advance(Duration::from_secs(11)).await;
    assert_eq!(receiver.next().await.1, "2");
}
