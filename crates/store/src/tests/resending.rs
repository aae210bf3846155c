use postrider_domain::delivery::DeliveryState;
use postrider_domain::ids::{DeliveryId, EventId};
use postrider_domain::limits::MAX_FAN_OUT_PER_TRANSACTION;

use super::*;
use crate::events::event_deliveries;
use crate::keys::event_delivery;
use crate::kv::{Error, Range};
use crate::{
    DeliveryView, EventDeliveriesError, HeldAction, PageRequest, ResendError, ResendTarget, Resent,
};

impl Fixture {
    async fn resend(&self, event: EventId, target: ResendTarget) -> Result<Resent, ResendError> {
        self.records.resend(self.account, event, target, &self.id_generator, later(9_000)).await
    }

    /// The deliveries of an event, read in pages of `limit`.
    async fn received(&self, event: EventId, limit: usize) -> Vec<DeliveryView> {
        let (mut all, mut after) = (Vec::new(), None);
        for _ in 0..1_000 {
            let request = PageRequest { limit, after };
            let page = self.records.event_deliveries(self.account, event, request).await;
            let page = page.unwrap();
            assert!(page.items.len() <= limit);
            all.extend(page.items);
            match page.next {
                Some(next) => after = Some(next.parse().unwrap()),
                None => return all,
            }
        }
        panic!("the list does not end");
    }

    /// Replaces the index of an event's deliveries with these rows.
    async fn index_as(&self, event: EventId, rows: &[Vec<DeliveryId>]) {
        let indexed = self.records.store.transact(|tx, _| async move {
            let all = Range::prefix(event_delivery::prefix(self.account, event));
            tx.clear_range(all.begin, all.end);
            for row in rows {
                event_deliveries::index_step(&tx, self.account, event, row);
            }
            Ok::<_, Error>(())
        });
        indexed.await.unwrap();
    }
}

fn ids(views: &[DeliveryView]) -> Vec<DeliveryId> {
    views.iter().map(|view| view.delivery.id).collect()
}

#[tokio::test]
async fn an_event_lists_its_deliveries() {
    let fixture = Fixture::new().await;
    let endpoints = [fixture.endpoint(&["a"]).await, fixture.endpoint(&["*"]).await];
    fixture.endpoint(&["b"]).await;
    let event = fixture.accept("a", later(1)).await.receipts[0].id;
    let other = fixture.accept("b", later(1)).await.receipts[0].id;
    fixture.attempt(endpoints[0], 200, later(5)).await;
    let first = fixture.received(event, 10).await;
    assert_eq!(first.len(), 2);
    assert_eq!(fixture.received(other, 10).await.len(), 2);
    let delivered = first.iter().find(|view| view.delivery.endpoint == endpoints[0]).unwrap();
    assert_eq!(delivered.state, DeliveryState::Delivered);

    let again = delivered.delivery.id;
    let again = fixture
        .records
        .resend_delivery(fixture.account, again, &fixture.id_generator, later(50))
        .await;
    let again = again.unwrap().unwrap().0;
    let expected = [vec![again.delivery.id], ids(&first)].concat();
    for limit in [1, 2, 3, 10] {
        assert_eq!(ids(&fixture.received(event, limit).await), expected, "{limit} a page");
    }
    let request = PageRequest { limit: 10, after: None };
    let nothing = fixture.id_generator.id(later(60));
    let none = fixture.records.event_deliveries(fixture.account, nothing, request).await;
    assert_eq!(none.unwrap_err(), EventDeliveriesError::NoSuchEvent);
    let request = PageRequest { limit: 10, after: Some(expected[0]) };
    let foreign = fixture.records.event_deliveries(fixture.account, other, request).await;
    assert_eq!(foreign.unwrap_err(), EventDeliveriesError::UnknownCursor);
}

#[tokio::test]
async fn an_event_can_be_resent_to_an_endpoint_that_does_not_subscribe() {
    let fixture = Fixture::new().await;
    let (wants_it, other) = (fixture.endpoint(&["a"]).await, fixture.endpoint(&["b"]).await);
    let event = fixture.accept("a", later(1)).await.receipts[0].id;
    let resent = fixture.resend(event, ResendTarget::Endpoint(other)).await.unwrap();
    assert_eq!(resent.deliveries, 1);
    assert!(matches!(resent.wakes[..], [Wake::Endpoint { endpoint, .. }] if endpoint == other));
    assert_eq!((fixture.backlog(wants_it).await, fixture.backlog(other).await), (1, 1));
    let made = &fixture.workload(other, 1).await.firsts.deliveries[0];
    assert_eq!(
        (made.event, made.created_at, made.due()),
        (event, later(9_000), Some(later(9_000)))
    );
    assert_eq!(fixture.received(event, 1).await.len(), 2);

    fixture.records.disable_endpoint(fixture.account, other, later(10)).await.unwrap();
    let held = fixture.resend(event, ResendTarget::Endpoint(other)).await.unwrap();
    assert_eq!((held.deliveries, held.wakes.len()), (1, 0));
    assert_eq!(fixture.received(event, 9).await[0].state, DeliveryState::Held);
}

#[tokio::test]
async fn an_event_can_be_resent_to_all_current_subscribers() {
    let fixture = Fixture::new().await;
    let first = fixture.endpoint(&["a"]).await;
    let event = fixture.accept("a", later(1)).await.receipts[0].id;
    let (second, not) = (fixture.endpoint(&["*"]).await, fixture.endpoint(&["b"]).await);
    let resent = fixture.resend(event, ResendTarget::AllSubscribers).await.unwrap();
    assert_eq!((resent.deliveries, resent.wakes.len()), (2, 2));
    for (endpoint, backlog) in [(first, 2), (second, 1), (not, 0)] {
        assert_eq!(fixture.backlog(endpoint).await, backlog);
    }
    let nobody = fixture.accept("b", later(1)).await.receipts[0].id;
    for endpoint in [second, not] {
        fixture.records.delete_endpoint(fixture.account, endpoint).await.unwrap();
    }
    assert_eq!(fixture.resend(nobody, ResendTarget::AllSubscribers).await.unwrap().deliveries, 0);
}

#[tokio::test]
async fn missing_events_and_endpoints_are_rejected() {
    let fixture = Fixture::new().await;
    let endpoint = fixture.endpoint(&["a"]).await;
    let event = fixture.accept("a", later(1)).await.receipts[0].id;
    let (no_event, no_endpoint) =
        (fixture.id_generator.id(later(2)), fixture.id_generator.id(later(2)));
    let rejected = fixture.resend(no_event, ResendTarget::AllSubscribers).await;
    assert!(matches!(rejected, Err(ResendError::NoSuchEvent)));
    let rejected = fixture.resend(event, ResendTarget::Endpoint(no_endpoint)).await;
    assert!(matches!(rejected, Err(ResendError::NoSuchEndpoint)));
    fixture.records.delete_endpoint(fixture.account, endpoint).await.unwrap();
    let rejected = fixture.resend(event, ResendTarget::Endpoint(endpoint)).await;
    assert!(matches!(rejected, Err(ResendError::EndpointDeleted)));
    assert_eq!(fixture.received(event, 9).await.len(), 1);
}

#[tokio::test]
async fn a_resend_is_not_discarded_with_held_deliveries() {
    let fixture = Fixture::new().await;
    let endpoint = fixture.endpoint(&["a"]).await;
    let event = fixture.accept("a", later(60_000)).await.receipts[0].id;
    fixture.records.disable_endpoint(fixture.account, endpoint, later(60_001)).await.unwrap();
    let enabled =
        fixture.records.enable_endpoint(fixture.account, endpoint, HeldAction::Discard).await;
    enabled.unwrap();
    // This node's clock is a minute behind.
    fixture.resend(event, ResendTarget::Endpoint(endpoint)).await.unwrap();
    fixture.discard(endpoint, later(60_003)).await;
    let states: Vec<_> = fixture.received(event, 9).await.iter().map(|view| view.state).collect();
    assert_eq!(states, [DeliveryState::Pending, DeliveryState::Discarded]);
}

#[tokio::test]
async fn resends_in_steps_run_concurrently_with_the_first_fan_out_and_each_other() {
    let fixture = Fixture::new().await;
    let count = MAX_FAN_OUT_PER_TRANSACTION + 30;
    let mut endpoints = Vec::new();
    for number in 0..count {
        endpoints.push(fixture.endpoint(if number % 2 == 0 { &["a"] } else { &["*"] }).await);
    }
    let event = fixture.accept("a", later(1)).await.receipts[0].id;
    let mut fences = fixture.fences.iter();
    // The first fan-out is in progress.
    while let Some(fence) = fences.next()
        && fixture.records.step_fan_out(*fence, &fixture.id_generator).await.unwrap().is_none()
    {
    }
    for _ in 0..2 {
        let resent = fixture.resend(event, ResendTarget::AllSubscribers).await.unwrap();
        assert_eq!(resent.deliveries, u64::try_from(count).unwrap());
        assert!(matches!(resent.wakes[..], [Wake::Jobs { .. }]));
    }
    // Created after the resends were requested.
    let late = Endpoint {
        id: fixture.id_generator.id(later(60_000)),
        ..fixture.records.endpoint(fixture.account, endpoints[0]).await.unwrap().unwrap().endpoint
    };
    assert!(fixture.records.create_endpoint(&late).await.unwrap());
    fixture.fan_out().await;
    for endpoint in &endpoints {
        assert_eq!(fixture.backlog(*endpoint).await, 3);
    }
    assert_eq!(fixture.backlog(late.id).await, 0);
    let mut received = ids(&fixture.received(event, 200).await);
    assert_eq!(received.len(), 3 * count);
    received.sort();
    received.dedup();
    assert_eq!(received.len(), 3 * count, "a delivery is listed twice");
}

#[tokio::test]
async fn overlapping_index_rows_list_each_delivery_once() {
    let fixture = Fixture::new().await;
    let event = fixture.accept("a", later(1)).await.receipts[0].id;
    let endpoint = fixture.endpoint(&["a"]).await;
    let mut made = Vec::new();
    for _ in 0..6 {
        let resent = fixture.resend(event, ResendTarget::Endpoint(endpoint)).await;
        assert_eq!(resent.unwrap().deliveries, 1);
        made.push(fixture.received(event, 1).await[0].delivery.id);
    }
    let rows = [[0, 3, 5], [1, 2, 4]].map(|row| row.map(|at: usize| made[at]).to_vec());
    fixture.index_as(event, &rows).await;
    let expected = [4, 2, 1, 5, 3, 0].map(|at: usize| made[at]);
    for limit in 1..=7 {
        assert_eq!(ids(&fixture.received(event, limit).await), expected, "{limit} a page");
    }
}

#[tokio::test]
async fn many_overlapping_index_rows_list_each_delivery_once() {
    let fixture = Fixture::new().await;
    let event = fixture.accept("a", later(1)).await.receipts[0].id;
    let endpoint = fixture.endpoint(&["a"]).await;
    let again = async || {
        fixture.resend(event, ResendTarget::Endpoint(endpoint)).await.unwrap();
        fixture.received(event, 1).await[0].delivery.id
    };
    let first = again().await;
    // Deliveries that no longer exist.
    let mut rows: Vec<_> = (0..200).map(|_| vec![fixture.id_generator.id(later(9_000))]).collect();
    let (between, last) = (again().await, again().await);
    rows.extend([vec![first, last], vec![between]]);
    fixture.index_as(event, &rows).await;
    for limit in [1, 2, 70, 300] {
        let expected = [between, last, first];
        assert_eq!(ids(&fixture.received(event, limit).await), expected, "{limit} a page");
    }
}

#[tokio::test(start_paused = true)]
async fn an_unknown_commit_result_resends_nothing_twice() {
    for seed in 0..40 {
        let faults = Faults { lost_after_commit: 0.5, conflict: 0.1, ..Faults::default() };
        let fixture = Fixture::with_faults(seed, faults).await;
        let (one, other) = (fixture.endpoint(&["a"]).await, fixture.endpoint(&["a"]).await);
        let event = fixture.accept("a", later(1)).await.receipts[0].id;
        assert_eq!(fixture.resend(event, ResendTarget::Endpoint(one)).await.unwrap().deliveries, 1);
        assert_eq!(
            fixture.resend(event, ResendTarget::AllSubscribers).await.unwrap().deliveries,
            2
        );
        assert_eq!((fixture.backlog(one).await, fixture.backlog(other).await), (3, 2));
        assert_eq!(fixture.received(event, 9).await.len(), 5);
    }
}

#[tokio::test(start_paused = true)]
async fn an_unknown_commit_result_leaves_one_job() {
    for seed in 0..4 {
        let fixture = Fixture::new().await;
        for _ in 0..=MAX_FAN_OUT_PER_TRANSACTION {
            fixture.endpoint(&["a"]).await;
        }
        let event = fixture.accept("a", later(1)).await.receipts[0].id;
        fixture.fan_out().await;
        fixture.memory.set_faults(Faults { lost_after_commit: 0.7, ..Faults::default() });
        for _ in 0..seed {
            fixture.accept("b", later(2)).await;
        }
        let resent = fixture.resend(event, ResendTarget::AllSubscribers).await.unwrap();
        let count = MAX_FAN_OUT_PER_TRANSACTION + 1;
        assert_eq!(resent.deliveries, u64::try_from(count).unwrap());
        fixture.fan_out().await;
        assert_eq!(fixture.received(event, 250).await.len(), 2 * count);
    }
}

#[tokio::test]
async fn a_filtered_list_of_events_continues_at_its_cursor() {
    let fixture = Fixture::new().await;
    let mut wanted = Vec::new();
    for number in 0..30 {
        let event_type = if number % 3 == 0 { "a" } else { "b" };
        let id = fixture.accept(event_type, later(number)).await.receipts[0].id;
        if event_type == "a" {
            wanted.insert(0, id);
        }
    }
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let request = PageRequest { limit: 4, after };
        let page =
            fixture.records.events(fixture.account, Some(&name("a")), request).await.unwrap();
        seen.extend(page.items.iter().map(|event| event.id));
        match page.next {
            Some(next) => after = Some(next.parse().unwrap()),
            None => break,
        }
    }
    assert_eq!(seen, wanted);
}
