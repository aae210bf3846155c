//! Attempts that this node cannot make, while the time is stopped.

use std::time::Duration;

use postrider_domain::endpoint::{Endpoint, Ordering, Subscription};
use postrider_domain::event::Event;
use postrider_store::kv::Error;

use super::hindered::With;
use super::world::{OK, OK_AND_CLOSE, Receiver, StoppedTime, World, name, patient};
use crate::trouble::ROW;

/// The pause after each.
const PAUSE: Duration = Duration::from_secs(10);

#[tokio::test]
async fn trouble_of_one_delivery_counts_when_others_succeed_and_only_then() {
    let time = StoppedTime::new();
    let world = World::new(patient()).await;
    let mut receiver = Receiver::start(|_| OK).await;
    let troubled = Endpoint {
        event_types: Subscription::Only([name("b")].into()),
        ..world.build_endpoint(&receiver.url, Ordering::Parallel)
    };
    assert!(world.records.create_endpoint(&troubled).await.expect("created"));
    let event = Event { event_type: name("b"), ..world.build_event(&super::world::large()) };
    world.engine.hinder(event.id, With::Failure(Error::Corrupt("as the test wants".to_owned())));
    world.accept_and_wake(event).await;

    time.pass(PAUSE * 2 * ROW).await;
    assert!(world.engine.met() > ROW as usize, "it is tried again and again");
    let failures = async || {
        let view = world.records.endpoint(world.account, troubled.id).await.expect("read");
        view.expect("there").health.failure_count
    };
    assert_eq!(failures().await, 0, "nobody succeeds");

    let mut others = Receiver::start(|_| OK_AND_CLOSE).await;
    let other = world.endpoint(&others.url, Ordering::Parallel).await;
    for _ in 0..ROW {
        assert_eq!(failures().await, 0, "not yet");
        world.publish("1").await;
        others.next().await;
        world.until(other, |view| view.unfinished == 0).await;
        time.pass(PAUSE + Duration::from_secs(1)).await;
    }
    world.until(troubled.id, |view| view.health.failure_count == 1).await;
    assert_eq!(receiver.waiting(), 0);

    // Its retry is in time, and finds that the store is mended.
    world.engine.clear_the_way();
    time.pass(Duration::from_secs(24 * 3600)).await;
    receiver.next().await;
}
