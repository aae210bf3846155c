//! Waits within the process, some of them while the wall clock is set back in their midst.

use std::time::Duration;

use postrider_cluster::route::Workers;
use postrider_domain::endpoint::Ordering;
use postrider_domain::time::Clock;
use postrider_store::kv::Error;
use postrider_store::{Held, Wake};

use super::hindered::With;
use super::world::{
    Answer, OK, RealClock, Receiver, StoppedTime, World, eventually, large, patient, settle,
};

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn a_pause_after_trouble_ends_in_time() {
    let time = StoppedTime::new();
    let mut receiver = Receiver::start(|_| OK).await;
    let world = World::new(patient()).await;
    world.endpoint(&receiver.url, Ordering::Parallel).await;
    let (event, wakes) = world.accept_silently(&large()).await;
    world.engine.hinder(event, With::Failure(Error::Unavailable("as the test wants".to_owned())));
    assert!(world.delivery.wake(wakes).is_empty());
    eventually(async || world.engine.met() > 0).await;
    settle().await;
    world.engine.clear_the_way();
    world.clock.set_back(HOUR);
    time.pass(Duration::from_secs(15)).await;
    receiver.next().await;
}

#[tokio::test]
async fn what_was_read_of_an_endpoint_is_believed_no_longer_than_ever() {
    let time = StoppedTime::new();
    let mut receiver = Receiver::start(|_| Answer::Hang).await;
    let mut other = Receiver::start(|_| OK).await;
    let world = World::new(patient()).await;
    let endpoint = world.endpoint(&receiver.url, Ordering::Parallel).await;
    world.endpoint(&other.url, Ordering::Parallel).await;
    // In flight, so that the endpoint's actor stays.
    world.publish("1").await;
    receiver.next().await;
    let (_, wakes) = world.accept_silently("2").await;
    world.records.disable_endpoint(world.account, endpoint, RealClock.now()).await.unwrap();
    world.clock.set_back(HOUR);
    time.pass(Duration::from_secs(6)).await;
    assert!(world.delivery.wake(wakes).is_empty());
    world.publish("3").await;
    for body in ["1", "2", "3"] {
        assert_eq!(other.next().await.1, body);
    }
    assert_eq!(receiver.waiting(), 0, "it is disabled");
}

#[tokio::test]
async fn an_idle_actor_settles_its_pointer_in_time() {
    let time = StoppedTime::new();
    let mut receiver = Receiver::start(|_| OK).await;
    let world = World::new(patient()).await;
    let endpoint = world.endpoint(&receiver.url, Ordering::Parallel).await;
    world.publish("1").await;
    receiver.next().await;
    world.until(endpoint, |view| view.unfinished == 0).await;
    settle().await;
    world.clock.set_back(HOUR);
    time.pass(Duration::from_secs(3)).await;
    let shard = world.records.shard_of(endpoint);
    eventually(async || {
        world.records.due_endpoints(shard, None, 10).await.expect("read").is_empty()
    })
    .await;
}

#[tokio::test]
async fn an_endpoint_that_was_enabled_is_sent_to_though_nobody_could_tell() {
    let time = StoppedTime::new();
    let answer = |request| if request == 0 { Answer::Hang } else { OK };
    let mut receiver = Receiver::start(answer).await;
    let world = World::new(patient()).await;
    let endpoint = world.endpoint(&receiver.url, Ordering::Parallel).await;
    let (shard, account) = (world.records.shard_of(endpoint), world.account);
    // In flight, so that the endpoint's actor stays, and does not ask to be retired.
    world.publish("1").await;
    receiver.next().await;
    world.records.disable_endpoint(account, endpoint, RealClock.now()).await.unwrap();
    assert!(world.delivery.wake(vec![Wake::Changed { shard, account, endpoint }]).is_empty());
    settle().await;
    world.accept_silently("2").await;
    world.records.enable_endpoint(account, endpoint, Held::Resume).await.unwrap();
    time.pass(Duration::from_secs(11)).await;
    assert_eq!(receiver.next().await.1, "2");
}
