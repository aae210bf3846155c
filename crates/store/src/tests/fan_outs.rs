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
async fn wide_event(fixture: &Fixture, first: &[&str]) -> (EndpointId, EventId) {
    let endpoint = fixture.endpoint(first).await;
    for _ in 0..MANY {
        fixture.endpoint(&["a"]).await;
    }
    let receipt = fixture.accept("a", later(1)).await.receipts.remove(0);
    assert_eq!(usize::try_from(receipt.deliveries), Ok(MANY + 1));
    (endpoint, receipt.id)
}

#[tokio::test]
async fn fan_outs_of_the_same_millisecond_create_different_deliveries() {
    let fixture = Fixture::new().await;
    let (_, first) = wide_event(&fixture, &["a"]).await;
    let second = fixture.accept("a", later(1)).await.receipts.remove(0).id;
    fixture.fan_out().await;
    let (mut deliveries, mut endpoints) = (HashSet::new(), HashSet::new());
    for event in [first, second] {
        let all = PageRequest { limit: 2 * MANY, after: None };
        let list = fixture.records.event_deliveries(fixture.account, event, all).await.unwrap();
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
        let fixture = Fixture::new().await;
        let (endpoint, _) = wide_event(&fixture, &before).await;
        fixture.step_fan_out().await.expect("a first step");
        fixture.subscribe(endpoint, &after).await;
        fixture.fan_out().await;
        assert_eq!(fixture.backlog(endpoint).await, 1, "from {before:?} to {after:?}");
    }
}

#[tokio::test]
async fn endpoints_that_move_before_every_step_receive_the_event_once() {
    let fixture = Fixture::new().await;
    let mut endpoints = Vec::new();
    for number in 0..MANY {
        endpoints.push(fixture.endpoint(if number % 2 == 0 { &["a"] } else { &["*"] }).await);
    }
    fixture.accept("a", later(1)).await;
    for step in 0.. {
        for (number, endpoint) in endpoints.iter().enumerate() {
            let names = (number + step) % 2 == 0;
            fixture.subscribe(*endpoint, if names { &["*"] } else { &["a"] }).await;
        }
        if fixture.step_fan_out().await.is_none() {
            break;
        }
    }
    for endpoint in endpoints {
        assert_eq!(fixture.backlog(endpoint).await, 1);
    }
}

#[tokio::test]
async fn clocks_do_not_decide_who_receives_an_event() {
    // The node that creates the endpoint has a clock 50 ms ahead of the one that accepts.
    let fixture = Fixture::new().await;
    let older = fixture.endpoint(&["a"]).await;
    let new = fixture.unsaved(IdGenerator::new(2).id(later(50)), &["a"]);
    assert!(fixture.records.create_endpoint(&new).await.unwrap());
    let events: Vec<_> = (0..1_000).map(|_| fixture.event("a", later(10))).collect();
    let accepted = fixture
        .records
        .accept(fixture.account, events, None, &fixture.id_generator, later(10))
        .await
        .unwrap();
    assert!(accepted.receipts.iter().all(|receipt| receipt.deliveries == 2));
    // This endpoint did not exist yet, although it has the smallest id.
    let smallest = fixture.unsaved(IdGenerator::new(3).id(Timestamp::EPOCH), &["b"]);
    assert!(fixture.records.create_endpoint(&smallest).await.unwrap());
    let greatest = fixture.unsaved(IdGenerator::new(4).id(later(60)), &["a"]);
    assert!(fixture.records.create_endpoint(&greatest).await.unwrap());
    fixture.fan_out().await;
    for (endpoint, received) in
        [(older, 1_000), (new.id, 1_000), (smallest.id, 0), (greatest.id, 0)]
    {
        assert_eq!(fixture.backlog(endpoint).await, received);
    }
}

#[tokio::test]
async fn clocks_do_not_decide_who_receives_a_resent_event() {
    let fixture = Fixture::new().await;
    let (_, event) = wide_event(&fixture, &["a"]).await;
    fixture.fan_out().await;
    // Created by a node whose clock is an hour ahead.
    let new = fixture.unsaved(IdGenerator::new(5).id(later(3_600_000)), &["a"]);
    assert!(fixture.records.create_endpoint(&new).await.unwrap());
    let resent = fixture.records.resend(
        fixture.account,
        event,
        ResendTarget::AllSubscribers,
        &fixture.id_generator,
        later(2),
    );
    assert_eq!(usize::try_from(resent.await.unwrap().deliveries), Ok(MANY + 2));
    fixture.fan_out().await;
    assert_eq!(fixture.backlog(new.id).await, 1);
}

#[tokio::test]
async fn a_late_fan_out_creates_deliveries_with_the_events_time() {
    let fixture = Fixture::new().await;
    let (endpoint, _) = wide_event(&fixture, &["a"]).await;
    // By now the node's id generator is an hour ahead.
    fixture.id_generator.id::<EventId>(later(3_600_000));
    fixture.fan_out().await;
    let made = fixture.workload(endpoint, 1).await.first().clone();
    assert_eq!((made.created_at, postrider_domain::ids::created_at(made.id)), (later(1), later(1)));
}

#[tokio::test]
async fn a_fan_out_of_an_earlier_version_is_completed_in_its_own_way() {
    let fixture = Fixture::new().await;
    let (all, named) = (fixture.endpoint(&["*"]).await, fixture.endpoint(&["a"]).await);
    let served = fixture.endpoint(&["a"]).await;
    let event = fixture.accept("a", later(1)).await.receipts[0].id;
    let made_after = fixture.unsaved(fixture.id_generator.id(later(3_000)), &["a"]);
    assert!(fixture.records.create_endpoint(&made_after).await.unwrap());
    // The list of the type's subscribers was read up to the first endpoint.
    let cursor = Cursor::ListByList { all_types: false, after: Some(named) };
    let begun = FanOut { account: fixture.account, cursor };
    let batch_id = fixture.id_generator.id(later(2));
    let again = Resend { event, requested_at: later(2), fan_out: begun };
    let [of_event, of_batch] =
        [fixture.records.shard_of(event), fixture.records.shard_of(batch_id)];
    let write = fixture.records.store.transact(|tx, _| async move {
        tx.save(fan_out::key(of_event, event, &begun), &begun);
        tx.save(resend::key(of_batch, batch_id, &begun), &again);
        Ok::<_, Error>(())
    });
    write.await.unwrap();
    fixture.fan_out().await;
    for (endpoint, backlog) in [(all, 3), (named, 1), (served, 3), (made_after.id, 0)] {
        assert_eq!(fixture.backlog(endpoint).await, backlog);
    }
}

#[tokio::test]
async fn many_subscribers_are_counted_once_and_the_count_stays_current() {
    let fixture = Fixture::new().await;
    let mut endpoints = Vec::new();
    for number in 0..MANY {
        endpoints.push(fixture.endpoint(if number % 2 == 0 { &["a"] } else { &["*"] }).await);
    }
    let receivers = async || fixture.accept("a", later(1)).await.receipts[0].deliveries;
    let many = u64::try_from(MANY).unwrap();
    assert_eq!(receivers().await, many);
    // A row without a counted change shows that the list is not counted again.
    let uncounted = fixture.id_generator.id(later(1));
    let key = crate::keys::subscription::key(fixture.account, Some(&name("a")), uncounted);
    let write = fixture.records.store.transact(|tx, _| {
        let key = key.clone();
        async move {
            tx.set(key, Vec::new());
            Ok::<_, Error>(())
        }
    });
    write.await.unwrap();
    assert_eq!(receivers().await, many);

    fixture.endpoint(&["a", "b"]).await;
    fixture.endpoint(&["b"]).await;
    assert_eq!(receivers().await, many + 1);
    fixture.subscribe(endpoints[0], &["*"]).await;
    fixture.subscribe(endpoints[0], &["*"]).await;
    assert_eq!(receivers().await, many + 1);
    fixture.subscribe(endpoints[1], &["b"]).await;
    assert_eq!(receivers().await, many);
    fixture.records.delete_endpoint(fixture.account, endpoints[2]).await.unwrap();
    fixture.records.delete_endpoint(fixture.account, endpoints[2]).await.unwrap();
    assert_eq!(receivers().await, many - 1);
    // Another process counts independently.
    let other = Records::open(fixture.records.store.clone(), SHARDS).await.unwrap();
    let event = fixture.event("a", later(3));
    let accepted =
        other.accept(fixture.account, vec![event], None, &fixture.id_generator, later(3)).await;
    assert_eq!(accepted.unwrap().receipts[0].deliveries, many);
}
