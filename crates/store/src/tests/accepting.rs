use postrider_domain::assignment::shard_of;
use postrider_domain::limits::{
    MAX_BATCH_EVENTS, MAX_EVENT_TYPE_BYTES, MAX_FAN_OUT_PER_TRANSACTION,
};

use super::*;
use crate::events::accept::MAX_DELIVERIES;
use crate::kv::Error;
use crate::{AcceptError, Idempotency, PageRequest, Wake};

const KEY: Idempotency = Idempotency { key_sha256: [1; 32], body_sha256: [2; 32] };

#[tokio::test]
async fn an_event_is_delivered_to_its_subscribers() {
    let world = World::new().await;
    let wants_a = world.endpoint(&["a"]).await;
    let wants_all = world.endpoint(&["*"]).await;
    let wants_b = world.endpoint(&["b"]).await;
    let wants_none = world.endpoint(&[]).await;
    let accepted = world.accept("a", later(1)).await;
    assert_eq!(accepted.receipts[0].deliveries, 2);
    for (endpoint, pending) in [(wants_a, 1), (wants_all, 1), (wants_b, 0), (wants_none, 0)] {
        let view = world.records.endpoint(world.account, endpoint).await.unwrap().unwrap();
        assert_eq!(view.backlog.count(), pending);
        assert_eq!(view.oldest_pending_at, (pending > 0).then_some(later(1)));
        assert_eq!(world.pointers(endpoint).await.len(), usize::try_from(pending).unwrap());
    }
}

#[tokio::test]
async fn a_batch_is_accepted_completely_or_not_at_all() {
    let world = World::new().await;
    let endpoint = world.endpoint(&["*"]).await;
    let events = vec![world.event("a", later(1)), world.event("unknown", later(1))];
    let rejected =
        world.records.accept(world.account, events, Some(KEY), &world.id_generator, later(1)).await;
    assert!(matches!(rejected, Err(AcceptError::UnknownEventType { index: 1 })));
    let page = PageRequest { limit: 10, after: None };
    assert!(world.records.events(world.account, None, page).await.unwrap().items.is_empty());
    let view = world.records.endpoint(world.account, endpoint).await.unwrap().unwrap();
    assert_eq!(view.backlog.count(), 0);
    let unknown = world.id_generator.id(START);
    let rejected = world.records.accept(unknown, vec![], None, &world.id_generator, later(1)).await;
    assert!(matches!(rejected, Err(AcceptError::NoSuchAccount)));
}

#[tokio::test]
async fn an_idempotency_key_identifies_one_request() {
    let world = World::new().await;
    world.endpoint(&["a"]).await;
    let send = async |body, now| {
        let events = vec![world.event("a", now), world.event("a", now)];
        let key = Idempotency { body_sha256: [body; 32], ..KEY };
        world.records.accept(world.account, events, Some(key), &world.id_generator, now).await
    };
    let first = send(2, later(1)).await.unwrap();
    let second = send(2, later(50)).await.unwrap();
    assert_eq!(first.receipts, second.receipts);
    assert!(second.repeated && second.wakes.is_empty());
    assert!(matches!(send(3, later(60)).await, Err(AcceptError::IdempotencyKeyReused)));
    let page = PageRequest { limit: 10, after: None };
    assert_eq!(world.records.events(world.account, None, page).await.unwrap().items.len(), 2);
}

#[tokio::test]
async fn an_idempotency_key_is_swept_once_it_has_expired() {
    let world = World::new().await;
    let event = world.event("a", later(1));
    let fence = world.fences[usize::from(shard_of(event.id, SHARDS))];
    let accept = |event| {
        world.records.accept(world.account, vec![event], Some(KEY), &world.id_generator, later(1))
    };
    accept(event).await.unwrap();
    let end = later(1).plus(crate::IDEMPOTENCY_TTL);
    world.records.sweep(fence, end).await.unwrap();
    assert!(accept(world.event("a", later(2))).await.unwrap().repeated);
    world.records.sweep(fence, end.plus(Duration::from_millis(1))).await.unwrap();
    assert!(!accept(world.event("a", later(3))).await.unwrap().repeated);
}

#[tokio::test]
async fn an_expired_idempotency_key_can_be_used_again_before_it_is_swept() {
    let world = World::new().await;
    let send = async |body, now| {
        let key = Idempotency { body_sha256: [body; 32], ..KEY };
        let event = world.event("a", now);
        let fence = world.fences[usize::from(shard_of(event.id, SHARDS))];
        let accepted = world
            .records
            .accept(world.account, vec![event], Some(key), &world.id_generator, now)
            .await;
        (accepted.map(|accepted| accepted.repeated), fence)
    };
    let day = crate::IDEMPOTENCY_TTL;
    let (first, fence) = send(2, START).await;
    assert!(!first.unwrap());
    assert!(send(2, START.plus(day - Duration::from_millis(1))).await.0.unwrap());
    // A different request with the same key, from a client that uses one key per day.
    assert!(!send(3, START.plus(day)).await.0.unwrap());
    // The sweep finds the expiry row of the first use, and keeps the key.
    world.records.sweep(fence, START.plus(day + Duration::from_secs(60))).await.unwrap();
    assert!(send(3, START.plus(day + Duration::from_secs(61))).await.0.unwrap());
    for fence in &world.fences {
        world.records.sweep(*fence, START.plus(3 * day)).await.unwrap();
    }
    let key = &crate::keys::idempotency::key(world.account, &KEY.key_sha256);
    let row = world.records.store.read(|tx| async move { tx.get(key).await });
    assert_eq!(row.await, Ok(None));
}

#[tokio::test]
async fn a_large_payload_round_trips() {
    let world = World::new().await;
    let text = format!("\"{}\"", "x".repeat(250_000));
    let mut event = world.event("a", later(1));
    event.payload = Payload::parse(text.clone().into()).unwrap();
    let id = event.id;
    world
        .records
        .accept(world.account, vec![event], None, &world.id_generator, later(1))
        .await
        .unwrap();
    let payload = world.records.payload(world.account, id).await.unwrap().unwrap();
    assert_eq!(payload.bytes(), text.as_bytes());
}

#[tokio::test]
async fn a_missing_payload_is_not_an_empty_one() {
    let world = World::new().await;
    let id = world.accept("a", later(1)).await.receipts[0].id;
    let chunk = &crate::keys::event::chunk(world.account, id, 0);
    let lose = world.records.store.transact(|tx, _| async move {
        tx.clear(chunk.clone());
        Ok::<_, Error>(())
    });
    lose.await.unwrap();
    assert_eq!(world.records.payload(world.account, id).await, Ok(None));
    let damaged = world.records.event(world.account, id).await;
    assert!(matches!(damaged, Err(Error::Corrupt(_))), "{damaged:?}");
    let unknown = world.id_generator.id(later(2));
    assert_eq!(world.records.payload(world.account, unknown).await, Ok(None));
    assert_eq!(world.records.event(world.account, unknown).await, Ok(None));
}

/// `count` events of about 1 KiB, of a type with the longest name.
async fn batch(world: &World, count: usize) -> Vec<Event> {
    let long = "t".repeat(MAX_EVENT_TYPE_BYTES);
    let event_type = world.records.event_type(&name("a")).await.unwrap().unwrap();
    world.records.put_event_type(EventType { name: name(&long), ..event_type }).await.unwrap();
    let text = bytes::Bytes::from(format!("\"{}\"", "x".repeat(1_000)));
    let event =
        |_| Event { payload: Payload::from_stored(text.clone()), ..world.event(&long, later(1)) };
    (0..count).map(event).collect()
}

#[tokio::test]
async fn a_batch_reaches_a_strict_endpoint_in_order() {
    let world = World::new().await;
    let endpoint = world.ordered_endpoint(&["*"], Ordering::Strict).await;
    let events = batch(&world, MAX_BATCH_EVENTS).await;
    let sent: Vec<_> = events.iter().map(|event| event.id).collect();
    let accepted =
        world.records.accept(world.account, events, Some(KEY), &world.id_generator, later(1)).await;
    let accepted = accepted.unwrap();
    assert!(accepted.receipts.iter().all(|receipt| receipt.deliveries == 1));
    assert!(accepted.wakes.iter().all(|wake| matches!(wake, Wake::Endpoint { .. })));
    let queue = world.workload(endpoint, MAX_BATCH_EVENTS).await.firsts.deliveries;
    assert_eq!(queue.iter().map(|delivery| delivery.event).collect::<Vec<_>>(), sent);
}

#[tokio::test]
async fn a_batch_with_too_many_deliveries_is_partly_fanned_out_later() {
    let world = World::new().await;
    let endpoints = [world.endpoint(&["*"]).await, world.endpoint(&["*"]).await];
    let events = batch(&world, MAX_BATCH_EVENTS).await;
    let accepted =
        world.records.accept(world.account, events, Some(KEY), &world.id_generator, later(1)).await;
    let accepted = accepted.unwrap();
    assert!(accepted.receipts.iter().all(|receipt| receipt.deliveries == 2));
    let later = accepted.wakes.iter().filter(|wake| matches!(wake, Wake::Jobs { .. })).count();
    assert_eq!(later, MAX_BATCH_EVENTS - MAX_DELIVERIES / 2);
    for fence in &world.fences {
        while world.records.step_fan_out(*fence, &world.id_generator).await.unwrap().is_some() {}
    }
    for endpoint in endpoints {
        let view = world.records.endpoint(world.account, endpoint).await.unwrap().unwrap();
        assert_eq!(usize::try_from(view.backlog.count()), Ok(MAX_BATCH_EVENTS));
    }
}

#[tokio::test]
async fn an_event_with_many_subscribers_is_fanned_out_in_steps() {
    let world = World::new().await;
    let count = MAX_FAN_OUT_PER_TRANSACTION + 30;
    for number in 0..count {
        world.endpoint(if number % 2 == 0 { &["a"] } else { &["*"] }).await;
    }
    let accepted = world.accept("a", later(1)).await;
    assert_eq!(accepted.receipts[0].deliveries, u64::try_from(count).unwrap());
    let [Wake::Jobs { shard }] = accepted.wakes[..] else { panic!("{:?}", accepted.wakes) };
    let fence = world.fences[usize::from(shard)];
    let mut wakes = Vec::new();
    while let Some(step) = world.records.step_fan_out(fence, &world.id_generator).await.unwrap() {
        assert!(step.len() <= MAX_FAN_OUT_PER_TRANSACTION);
        wakes.extend(step);
    }
    assert_eq!(wakes.len(), count);
    let page = PageRequest { limit: 1000, after: None };
    for view in world.records.endpoints(world.account, page).await.unwrap().items {
        assert_eq!(view.backlog.count(), 1);
    }
}
