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
    let fixture = Fixture::new().await;
    let wants_a = fixture.endpoint(&["a"]).await;
    let wants_all = fixture.endpoint(&["*"]).await;
    let wants_b = fixture.endpoint(&["b"]).await;
    let wants_none = fixture.endpoint(&[]).await;
    let accepted = fixture.accept("a", later(1)).await;
    assert_eq!(accepted.receipts[0].deliveries, 2);
    for (endpoint, pending) in [(wants_a, 1), (wants_all, 1), (wants_b, 0), (wants_none, 0)] {
        let view = fixture.records.endpoint(fixture.account, endpoint).await.unwrap().unwrap();
        assert_eq!(view.backlog.count(), pending);
        assert_eq!(view.oldest_pending_at, (pending > 0).then_some(later(1)));
        assert_eq!(fixture.pointers(endpoint).await.len(), usize::try_from(pending).unwrap());
    }
}

#[tokio::test]
async fn a_batch_is_accepted_completely_or_not_at_all() {
    let fixture = Fixture::new().await;
    let endpoint = fixture.endpoint(&["*"]).await;
    let events = vec![fixture.event("a", later(1)), fixture.event("unknown", later(1))];
    let rejected = fixture
        .records
        .accept(fixture.account, events, Some(KEY), &fixture.id_generator, later(1))
        .await;
    assert!(matches!(rejected, Err(AcceptError::UnknownEventType { index: 1 })));
    let page = PageRequest { limit: 10, after: None };
    assert!(fixture.records.events(fixture.account, None, page).await.unwrap().items.is_empty());
    let view = fixture.records.endpoint(fixture.account, endpoint).await.unwrap().unwrap();
    assert_eq!(view.backlog.count(), 0);
    let unknown = fixture.id_generator.id(START);
    let rejected =
        fixture.records.accept(unknown, vec![], None, &fixture.id_generator, later(1)).await;
    assert!(matches!(rejected, Err(AcceptError::NoSuchAccount)));
}

#[tokio::test]
async fn an_idempotency_key_identifies_one_request() {
    let fixture = Fixture::new().await;
    fixture.endpoint(&["a"]).await;
    let send = async |body, now| {
        let events = vec![fixture.event("a", now), fixture.event("a", now)];
        let key = Idempotency { body_sha256: [body; 32], ..KEY };
        fixture.records.accept(fixture.account, events, Some(key), &fixture.id_generator, now).await
    };
    let first = send(2, later(1)).await.unwrap();
    let second = send(2, later(50)).await.unwrap();
    assert_eq!(first.receipts, second.receipts);
    assert!(second.repeated && second.wakes.is_empty());
    assert!(matches!(send(3, later(60)).await, Err(AcceptError::IdempotencyKeyReused)));
    let page = PageRequest { limit: 10, after: None };
    assert_eq!(fixture.records.events(fixture.account, None, page).await.unwrap().items.len(), 2);
}

#[tokio::test]
async fn an_idempotency_key_is_swept_once_it_has_expired() {
    let fixture = Fixture::new().await;
    let event = fixture.event("a", later(1));
    let fence = fixture.fences[usize::from(shard_of(event.id, SHARDS))];
    let accept = |event| {
        fixture.records.accept(
            fixture.account,
            vec![event],
            Some(KEY),
            &fixture.id_generator,
            later(1),
        )
    };
    accept(event).await.unwrap();
    let end = later(1).plus(crate::IDEMPOTENCY_TTL);
    fixture.records.sweep(fence, end).await.unwrap();
    assert!(accept(fixture.event("a", later(2))).await.unwrap().repeated);
    fixture.records.sweep(fence, end.plus(Duration::from_millis(1))).await.unwrap();
    assert!(!accept(fixture.event("a", later(3))).await.unwrap().repeated);
}

#[tokio::test]
async fn an_expired_idempotency_key_can_be_used_again_before_it_is_swept() {
    let fixture = Fixture::new().await;
    let send = async |body, now| {
        let key = Idempotency { body_sha256: [body; 32], ..KEY };
        let event = fixture.event("a", now);
        let fence = fixture.fences[usize::from(shard_of(event.id, SHARDS))];
        let accepted = fixture
            .records
            .accept(fixture.account, vec![event], Some(key), &fixture.id_generator, now)
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
    fixture.records.sweep(fence, START.plus(day + Duration::from_secs(60))).await.unwrap();
    assert!(send(3, START.plus(day + Duration::from_secs(61))).await.0.unwrap());
    for fence in &fixture.fences {
        fixture.records.sweep(*fence, START.plus(3 * day)).await.unwrap();
    }
    let key = &crate::keys::idempotency::key(fixture.account, &KEY.key_sha256);
    let row = fixture.records.store.read(|tx| async move { tx.get(key).await });
    assert_eq!(row.await, Ok(None));
}

#[tokio::test]
async fn a_large_payload_round_trips() {
    let fixture = Fixture::new().await;
    let text = format!("\"{}\"", "x".repeat(250_000));
    let mut event = fixture.event("a", later(1));
    event.payload = Payload::parse(text.clone().into()).unwrap();
    let id = event.id;
    fixture
        .records
        .accept(fixture.account, vec![event], None, &fixture.id_generator, later(1))
        .await
        .unwrap();
    let payload = fixture.records.payload(fixture.account, id).await.unwrap().unwrap();
    assert_eq!(payload.bytes(), text.as_bytes());
}

#[tokio::test]
async fn a_missing_payload_is_not_an_empty_one() {
    let fixture = Fixture::new().await;
    let id = fixture.accept("a", later(1)).await.receipts[0].id;
    let chunk = &crate::keys::event::chunk(fixture.account, id, 0);
    let lose = fixture.records.store.transact(|tx, _| async move {
        tx.clear(chunk.clone());
        Ok::<_, Error>(())
    });
    lose.await.unwrap();
    assert_eq!(fixture.records.payload(fixture.account, id).await, Ok(None));
    let damaged = fixture.records.event(fixture.account, id).await;
    assert!(matches!(damaged, Err(Error::Corrupt(_))), "{damaged:?}");
    let unknown = fixture.id_generator.id(later(2));
    assert_eq!(fixture.records.payload(fixture.account, unknown).await, Ok(None));
    assert_eq!(fixture.records.event(fixture.account, unknown).await, Ok(None));
}

/// `count` events of about 1 KiB, of a type with the longest name.
async fn batch(fixture: &Fixture, count: usize) -> Vec<Event> {
    let long = "t".repeat(MAX_EVENT_TYPE_BYTES);
    let event_type = fixture.records.event_type(&name("a")).await.unwrap().unwrap();
    fixture.records.put_event_type(EventType { name: name(&long), ..event_type }).await.unwrap();
    let text = bytes::Bytes::from(format!("\"{}\"", "x".repeat(1_000)));
    let event =
        |_| Event { payload: Payload::from_stored(text.clone()), ..fixture.event(&long, later(1)) };
    (0..count).map(event).collect()
}

#[tokio::test]
async fn a_batch_reaches_a_strict_endpoint_in_order() {
    let fixture = Fixture::new().await;
    let endpoint = fixture.ordered_endpoint(&["*"], Ordering::Strict).await;
    let events = batch(&fixture, MAX_BATCH_EVENTS).await;
    let sent: Vec<_> = events.iter().map(|event| event.id).collect();
    let accepted = fixture
        .records
        .accept(fixture.account, events, Some(KEY), &fixture.id_generator, later(1))
        .await;
    let accepted = accepted.unwrap();
    assert!(accepted.receipts.iter().all(|receipt| receipt.deliveries == 1));
    assert!(accepted.wakes.iter().all(|wake| matches!(wake, Wake::Endpoint { .. })));
    let queue = fixture.workload(endpoint, MAX_BATCH_EVENTS).await.firsts.deliveries;
    assert_eq!(queue.iter().map(|delivery| delivery.event).collect::<Vec<_>>(), sent);
}

#[tokio::test]
async fn a_batch_with_too_many_deliveries_is_partly_fanned_out_later() {
    let fixture = Fixture::new().await;
    let endpoints = [fixture.endpoint(&["*"]).await, fixture.endpoint(&["*"]).await];
    let events = batch(&fixture, MAX_BATCH_EVENTS).await;
    let accepted = fixture
        .records
        .accept(fixture.account, events, Some(KEY), &fixture.id_generator, later(1))
        .await;
    let accepted = accepted.unwrap();
    assert!(accepted.receipts.iter().all(|receipt| receipt.deliveries == 2));
    let later = accepted.wakes.iter().filter(|wake| matches!(wake, Wake::Jobs { .. })).count();
    assert_eq!(later, MAX_BATCH_EVENTS - MAX_DELIVERIES / 2);
    for fence in &fixture.fences {
        while fixture.records.step_fan_out(*fence, &fixture.id_generator).await.unwrap().is_some() {
        }
    }
    for endpoint in endpoints {
        let view = fixture.records.endpoint(fixture.account, endpoint).await.unwrap().unwrap();
        assert_eq!(usize::try_from(view.backlog.count()), Ok(MAX_BATCH_EVENTS));
    }
}

#[tokio::test]
async fn an_event_with_many_subscribers_is_fanned_out_in_steps() {
    let fixture = Fixture::new().await;
    let count = MAX_FAN_OUT_PER_TRANSACTION + 30;
    for number in 0..count {
        fixture.endpoint(if number % 2 == 0 { &["a"] } else { &["*"] }).await;
    }
    let accepted = fixture.accept("a", later(1)).await;
    assert_eq!(accepted.receipts[0].deliveries, u64::try_from(count).unwrap());
    let [Wake::Jobs { shard }] = accepted.wakes[..] else { panic!("{:?}", accepted.wakes) };
    let fence = fixture.fences[usize::from(shard)];
    let mut wakes = Vec::new();
    while let Some(step) = fixture.records.step_fan_out(fence, &fixture.id_generator).await.unwrap()
    {
        assert!(step.len() <= MAX_FAN_OUT_PER_TRANSACTION);
        wakes.extend(step);
    }
    assert_eq!(wakes.len(), count);
    let page = PageRequest { limit: 1000, after: None };
    for view in fixture.records.endpoints(fixture.account, page).await.unwrap().items {
        assert_eq!(view.backlog.count(), 1);
    }
}
