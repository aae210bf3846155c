use std::collections::HashSet;

use postrider_domain::ids::EventId;

use super::*;
use crate::codec::RecordTx;
use crate::keys::fan_out::{self, Cursor, FanOut};
use crate::keys::resend::{self, Resend};
use crate::kv::Error;
use crate::{DeliveryView, PageRequest, ResendTarget};

/// More endpoints than fit into one transaction.
const MANY: usize = MAX_FAN_OUT_PER_TRANSACTION + 100;

/// An event that needs a fan-out. The endpoint with the smallest id subscribes to `first`.
async fn wide_event(world: &World, first: &[&str]) -> (EndpointId, EventId) {
    let endpoint = world.endpoint(first).await;
    for _ in 0..MANY {
        world.endpoint(&["a"]).await;
    }
    let receipt = world.accept("a", later(1)).await.receipts.remove(0);
    assert_eq!(usize::try_from(receipt.deliveries), Ok(MANY + 1));
    (endpoint, receipt.id)
}

#[tokio::test]
async fn fan_outs_of_the_same_millisecond_create_different_deliveries() {
    let world = World::new().await;
    let (_, first) = wide_event(&world, &["a"]).await;
    let second = world.accept("a", later(1)).await.receipts.remove(0).id;
    world.fan_out().await;
    let (mut deliveries, mut endpoints) = (HashSet::new(), HashSet::new());
    for event in [first, second] {
        let all = PageRequest { limit: 2 * MANY, after: None };
        let list = world.records.event_deliveries(world.account, event, all).await.unwrap();
        for DeliveryView { delivery, .. } in list.items {
            assert_eq!(delivery.event, event);
            assert!(deliveries.insert(delivery.id), "two deliveries have the id {}", delivery.id);
            assert!(endpoints.insert((event, delivery.endpoint)));
        }
    }
    assert_eq!(endpoints.len(), 2 * (MANY + 1));
}

#[tokio::test]
async fn an_endpoint_that_moves_between_the_lists_receives_the_event_once() {
    for (before, after) in [(["*"], ["a"]), (["a"], ["*"])] {
        let world = World::new().await;
        let (endpoint, _) = wide_event(&world, &before).await;
        world.step_fan_out().await.expect("a first step");
        world.subscribe(endpoint, &after).await;
        world.fan_out().await;
        assert_eq!(world.backlog(endpoint).await, 1, "from {before:?} to {after:?}");
    }
}

#[tokio::test]
async fn endpoints_that_move_before_every_step_receive_the_event_once() {
    let world = World::new().await;
    let mut endpoints = Vec::new();
    for number in 0..MANY {
        endpoints.push(world.endpoint(if number % 2 == 0 { &["a"] } else { &["*"] }).await);
    }
    world.accept("a", later(1)).await;
    for step in 0.. {
        for (number, endpoint) in endpoints.iter().enumerate() {
            let names = (number + step) % 2 == 0;
            world.subscribe(*endpoint, if names { &["*"] } else { &["a"] }).await;
        }
        if world.step_fan_out().await.is_none() {
            break;
        }
    }
    for endpoint in endpoints {
        assert_eq!(world.backlog(endpoint).await, 1);
    }
}

#[tokio::test]
async fn clocks_do_not_decide_who_receives_an_event() {
    // The node that creates the endpoint has a clock 50 ms ahead of the one that accepts.
    let world = World::new().await;
    let older = world.endpoint(&["a"]).await;
    let new = world.unsaved(IdGenerator::new(2).id(later(50)), &["a"]);
    assert!(world.records.create_endpoint(&new).await.unwrap());
    let events: Vec<_> = (0..1_000).map(|_| world.event("a", later(10))).collect();
    let accepted = world
        .records
        .accept(world.account, events, None, &world.id_generator, later(10))
        .await
        .unwrap();
    assert!(accepted.receipts.iter().all(|receipt| receipt.deliveries == 2));
    // This endpoint did not exist yet, although it has the smallest id.
    let smallest = world.unsaved(IdGenerator::new(3).id(Timestamp::EPOCH), &["b"]);
    assert!(world.records.create_endpoint(&smallest).await.unwrap());
    let greatest = world.unsaved(IdGenerator::new(4).id(later(60)), &["a"]);
    assert!(world.records.create_endpoint(&greatest).await.unwrap());
    world.fan_out().await;
    for (endpoint, received) in
        [(older, 1_000), (new.id, 1_000), (smallest.id, 0), (greatest.id, 0)]
    {
        assert_eq!(world.backlog(endpoint).await, received);
    }
}

#[tokio::test]
async fn clocks_do_not_decide_who_receives_a_resent_event() {
    let world = World::new().await;
    let (_, event) = wide_event(&world, &["a"]).await;
    world.fan_out().await;
    // Created by a node whose clock is an hour ahead.
    let new = world.unsaved(IdGenerator::new(5).id(later(3_600_000)), &["a"]);
    assert!(world.records.create_endpoint(&new).await.unwrap());
    let resent = world.records.resend(
        world.account,
        event,
        ResendTarget::AllSubscribers,
        &world.id_generator,
        later(2),
    );
    assert_eq!(usize::try_from(resent.await.unwrap().deliveries), Ok(MANY + 2));
    world.fan_out().await;
    assert_eq!(world.backlog(new.id).await, 1);
}

#[tokio::test]
async fn a_late_fan_out_creates_deliveries_with_the_events_time() {
    let world = World::new().await;
    let (endpoint, _) = wide_event(&world, &["a"]).await;
    // By now the node's id generator is an hour ahead.
    world.id_generator.id::<EventId>(later(3_600_000));
    world.fan_out().await;
    let made = world.workload(endpoint, 1).await.first().clone();
    assert_eq!((made.created_at, postrider_domain::ids::created_at(made.id)), (later(1), later(1)));
}

#[tokio::test]
async fn a_fan_out_of_an_earlier_version_is_completed_in_its_own_way() {
    let world = World::new().await;
    let (all, named) = (world.endpoint(&["*"]).await, world.endpoint(&["a"]).await);
    let served = world.endpoint(&["a"]).await;
    let event = world.accept("a", later(1)).await.receipts[0].id;
    let made_after = world.unsaved(world.id_generator.id(later(3_000)), &["a"]);
    assert!(world.records.create_endpoint(&made_after).await.unwrap());
    // The list of the type's subscribers was read up to the first endpoint.
    let cursor = Cursor::ListByList { all_types: false, after: Some(named) };
    let begun = FanOut { account: world.account, cursor };
    let batch_id = world.id_generator.id(later(2));
    let again = Resend { event, requested_at: later(2), fan_out: begun };
    let [of_event, of_batch] = [world.records.shard_of(event), world.records.shard_of(batch_id)];
    let write = world.records.store.transact(|tx, _| async move {
        tx.save(fan_out::key(of_event, event, &begun), &begun);
        tx.save(resend::key(of_batch, batch_id, &begun), &again);
        Ok::<_, Error>(())
    });
    write.await.unwrap();
    world.fan_out().await;
    for (endpoint, backlog) in [(all, 3), (named, 1), (served, 3), (made_after.id, 0)] {
        assert_eq!(world.backlog(endpoint).await, backlog);
    }
}

#[tokio::test]
async fn many_subscribers_are_counted_once_and_the_count_stays_current() {
    let world = World::new().await;
    let mut endpoints = Vec::new();
    for number in 0..MANY {
        endpoints.push(world.endpoint(if number % 2 == 0 { &["a"] } else { &["*"] }).await);
    }
    let receivers = async || world.accept("a", later(1)).await.receipts[0].deliveries;
    let many = u64::try_from(MANY).unwrap();
    assert_eq!(receivers().await, many);
    // A row without a counted change shows that the list is not counted again.
    let uncounted = world.id_generator.id(later(1));
    let key = crate::keys::subscription::key(world.account, Some(&name("a")), uncounted);
    let write = world.records.store.transact(|tx, _| {
        let key = key.clone();
        async move {
            tx.set(key, Vec::new());
            Ok::<_, Error>(())
        }
    });
    write.await.unwrap();
    assert_eq!(receivers().await, many);

    world.endpoint(&["a", "b"]).await;
    world.endpoint(&["b"]).await;
    assert_eq!(receivers().await, many + 1);
    world.subscribe(endpoints[0], &["*"]).await;
    world.subscribe(endpoints[0], &["*"]).await;
    assert_eq!(receivers().await, many + 1);
    world.subscribe(endpoints[1], &["b"]).await;
    assert_eq!(receivers().await, many);
    world.records.delete_endpoint(world.account, endpoints[2]).await.unwrap();
    world.records.delete_endpoint(world.account, endpoints[2]).await.unwrap();
    assert_eq!(receivers().await, many - 1);
    // Another process counts independently.
    let other = Records::open(world.records.store.clone(), SHARDS).await.unwrap();
    let event = world.event("a", later(3));
    let accepted =
        other.accept(world.account, vec![event], None, &world.id_generator, later(3)).await;
    assert_eq!(accepted.unwrap().receipts[0].deliveries, many);
}
