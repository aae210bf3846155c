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

impl World {
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
    let world = World::new().await;
    let endpoints = [world.endpoint(&["a"]).await, world.endpoint(&["*"]).await];
    world.endpoint(&["b"]).await;
    let event = world.accept("a", later(1)).await.receipts[0].id;
    let other = world.accept("b", later(1)).await.receipts[0].id;
    world.attempt(endpoints[0], 200, later(5)).await;
    let first = world.received(event, 10).await;
    assert_eq!(first.len(), 2);
    assert_eq!(world.received(other, 10).await.len(), 2);
    let delivered = first.iter().find(|view| view.delivery.endpoint == endpoints[0]).unwrap();
    assert_eq!(delivered.state, DeliveryState::Delivered);

    let again = delivered.delivery.id;
    let again =
        world.records.resend_delivery(world.account, again, &world.id_generator, later(50)).await;
    let again = again.unwrap().unwrap().0;
    let expected = [vec![again.delivery.id], ids(&first)].concat();
    for limit in [1, 2, 3, 10] {
        assert_eq!(ids(&world.received(event, limit).await), expected, "{limit} a page");
    }
    let request = PageRequest { limit: 10, after: None };
    let nothing = world.id_generator.id(later(60));
    let none = world.records.event_deliveries(world.account, nothing, request).await;
    assert_eq!(none.unwrap_err(), EventDeliveriesError::NoSuchEvent);
    let request = PageRequest { limit: 10, after: Some(expected[0]) };
    let foreign = world.records.event_deliveries(world.account, other, request).await;
    assert_eq!(foreign.unwrap_err(), EventDeliveriesError::UnknownCursor);
}

#[tokio::test]
async fn an_event_can_be_resent_to_an_endpoint_that_does_not_subscribe() {
    let world = World::new().await;
    let (wants_it, other) = (world.endpoint(&["a"]).await, world.endpoint(&["b"]).await);
    let event = world.accept("a", later(1)).await.receipts[0].id;
    let resent = world.resend(event, ResendTarget::Endpoint(other)).await.unwrap();
    assert_eq!(resent.deliveries, 1);
    assert!(matches!(resent.wakes[..], [Wake::Endpoint { endpoint, .. }] if endpoint == other));
    assert_eq!((world.backlog(wants_it).await, world.backlog(other).await), (1, 1));
    let made = &world.workload(other, 1).await.firsts.deliveries[0];
    assert_eq!(
        (made.event, made.created_at, made.due()),
        (event, later(9_000), Some(later(9_000)))
    );
    assert_eq!(world.received(event, 1).await.len(), 2);

    world.records.disable_endpoint(world.account, other, later(10)).await.unwrap();
    let held = world.resend(event, ResendTarget::Endpoint(other)).await.unwrap();
    assert_eq!((held.deliveries, held.wakes.len()), (1, 0));
    assert_eq!(world.received(event, 9).await[0].state, DeliveryState::Held);
}

#[tokio::test]
async fn an_event_can_be_resent_to_all_current_subscribers() {
    let world = World::new().await;
    let first = world.endpoint(&["a"]).await;
    let event = world.accept("a", later(1)).await.receipts[0].id;
    let (second, not) = (world.endpoint(&["*"]).await, world.endpoint(&["b"]).await);
    let resent = world.resend(event, ResendTarget::AllSubscribers).await.unwrap();
    assert_eq!((resent.deliveries, resent.wakes.len()), (2, 2));
    for (endpoint, backlog) in [(first, 2), (second, 1), (not, 0)] {
        assert_eq!(world.backlog(endpoint).await, backlog);
    }
    let nobody = world.accept("b", later(1)).await.receipts[0].id;
    for endpoint in [second, not] {
        world.records.delete_endpoint(world.account, endpoint).await.unwrap();
    }
    assert_eq!(world.resend(nobody, ResendTarget::AllSubscribers).await.unwrap().deliveries, 0);
}

#[tokio::test]
async fn missing_events_and_endpoints_are_rejected() {
    let world = World::new().await;
    let endpoint = world.endpoint(&["a"]).await;
    let event = world.accept("a", later(1)).await.receipts[0].id;
    let (no_event, no_endpoint) =
        (world.id_generator.id(later(2)), world.id_generator.id(later(2)));
    let rejected = world.resend(no_event, ResendTarget::AllSubscribers).await;
    assert!(matches!(rejected, Err(ResendError::NoSuchEvent)));
    let rejected = world.resend(event, ResendTarget::Endpoint(no_endpoint)).await;
    assert!(matches!(rejected, Err(ResendError::NoSuchEndpoint)));
    world.records.delete_endpoint(world.account, endpoint).await.unwrap();
    let rejected = world.resend(event, ResendTarget::Endpoint(endpoint)).await;
    assert!(matches!(rejected, Err(ResendError::EndpointDeleted)));
    assert_eq!(world.received(event, 9).await.len(), 1);
}

#[tokio::test]
async fn a_resend_is_not_discarded_with_held_deliveries() {
    let world = World::new().await;
    let endpoint = world.endpoint(&["a"]).await;
    let event = world.accept("a", later(60_000)).await.receipts[0].id;
    world.records.disable_endpoint(world.account, endpoint, later(60_001)).await.unwrap();
    let enabled = world.records.enable_endpoint(world.account, endpoint, HeldAction::Discard).await;
    enabled.unwrap();
    // This node's clock is a minute behind.
    world.resend(event, ResendTarget::Endpoint(endpoint)).await.unwrap();
    world.discard(endpoint, later(60_003)).await;
    let states: Vec<_> = world.received(event, 9).await.iter().map(|view| view.state).collect();
    assert_eq!(states, [DeliveryState::Pending, DeliveryState::Discarded]);
}

#[tokio::test]
async fn resends_in_steps_run_concurrently_with_the_first_fan_out_and_each_other() {
    let world = World::new().await;
    let count = MAX_FAN_OUT_PER_TRANSACTION + 30;
    let mut endpoints = Vec::new();
    for number in 0..count {
        endpoints.push(world.endpoint(if number % 2 == 0 { &["a"] } else { &["*"] }).await);
    }
    let event = world.accept("a", later(1)).await.receipts[0].id;
    let mut fences = world.fences.iter();
    // The first fan-out is in progress.
    while let Some(fence) = fences.next()
        && world.records.step_fan_out(*fence, &world.id_generator).await.unwrap().is_none()
    {}
    for _ in 0..2 {
        let resent = world.resend(event, ResendTarget::AllSubscribers).await.unwrap();
        assert_eq!(resent.deliveries, u64::try_from(count).unwrap());
        assert!(matches!(resent.wakes[..], [Wake::Jobs { .. }]));
    }
    // Created after the resends were requested.
    let late = Endpoint {
        id: world.id_generator.id(later(60_000)),
        ..world.records.endpoint(world.account, endpoints[0]).await.unwrap().unwrap().endpoint
    };
    assert!(world.records.create_endpoint(&late).await.unwrap());
    world.fan_out().await;
    for endpoint in &endpoints {
        assert_eq!(world.backlog(*endpoint).await, 3);
    }
    assert_eq!(world.backlog(late.id).await, 0);
    let mut received = ids(&world.received(event, 200).await);
    assert_eq!(received.len(), 3 * count);
    received.sort();
    received.dedup();
    assert_eq!(received.len(), 3 * count, "a delivery is listed twice");
}

#[tokio::test]
async fn overlapping_index_rows_list_each_delivery_once() {
    let world = World::new().await;
    let event = world.accept("a", later(1)).await.receipts[0].id;
    let endpoint = world.endpoint(&["a"]).await;
    let mut made = Vec::new();
    for _ in 0..6 {
        let resent = world.resend(event, ResendTarget::Endpoint(endpoint)).await;
        assert_eq!(resent.unwrap().deliveries, 1);
        made.push(world.received(event, 1).await[0].delivery.id);
    }
    let rows = [[0, 3, 5], [1, 2, 4]].map(|row| row.map(|at: usize| made[at]).to_vec());
    world.index_as(event, &rows).await;
    let expected = [4, 2, 1, 5, 3, 0].map(|at: usize| made[at]);
    for limit in 1..=7 {
        assert_eq!(ids(&world.received(event, limit).await), expected, "{limit} a page");
    }
}

#[tokio::test]
async fn many_overlapping_index_rows_list_each_delivery_once() {
    let world = World::new().await;
    let event = world.accept("a", later(1)).await.receipts[0].id;
    let endpoint = world.endpoint(&["a"]).await;
    let again = async || {
        world.resend(event, ResendTarget::Endpoint(endpoint)).await.unwrap();
        world.received(event, 1).await[0].delivery.id
    };
    let first = again().await;
    // Deliveries that no longer exist.
    let mut rows: Vec<_> = (0..200).map(|_| vec![world.id_generator.id(later(9_000))]).collect();
    let (between, last) = (again().await, again().await);
    rows.extend([vec![first, last], vec![between]]);
    world.index_as(event, &rows).await;
    for limit in [1, 2, 70, 300] {
        let expected = [between, last, first];
        assert_eq!(ids(&world.received(event, limit).await), expected, "{limit} a page");
    }
}

#[tokio::test(start_paused = true)]
async fn an_unknown_commit_result_resends_nothing_twice() {
    for seed in 0..40 {
        let faults = Faults { lost_after_commit: 0.5, conflict: 0.1, ..Faults::default() };
        let world = World::with_faults(seed, faults).await;
        let (one, other) = (world.endpoint(&["a"]).await, world.endpoint(&["a"]).await);
        let event = world.accept("a", later(1)).await.receipts[0].id;
        assert_eq!(world.resend(event, ResendTarget::Endpoint(one)).await.unwrap().deliveries, 1);
        assert_eq!(world.resend(event, ResendTarget::AllSubscribers).await.unwrap().deliveries, 2);
        assert_eq!((world.backlog(one).await, world.backlog(other).await), (3, 2));
        assert_eq!(world.received(event, 9).await.len(), 5);
    }
}

#[tokio::test(start_paused = true)]
async fn an_unknown_commit_result_leaves_one_job() {
    for seed in 0..4 {
        let world = World::new().await;
        for _ in 0..=MAX_FAN_OUT_PER_TRANSACTION {
            world.endpoint(&["a"]).await;
        }
        let event = world.accept("a", later(1)).await.receipts[0].id;
        world.fan_out().await;
        world.memory.set_faults(Faults { lost_after_commit: 0.7, ..Faults::default() });
        for _ in 0..seed {
            world.accept("b", later(2)).await;
        }
        let resent = world.resend(event, ResendTarget::AllSubscribers).await.unwrap();
        let count = MAX_FAN_OUT_PER_TRANSACTION + 1;
        assert_eq!(resent.deliveries, u64::try_from(count).unwrap());
        world.fan_out().await;
        assert_eq!(world.received(event, 250).await.len(), 2 * count);
    }
}

#[tokio::test]
async fn a_filtered_list_of_events_continues_at_its_cursor() {
    let world = World::new().await;
    let mut wanted = Vec::new();
    for number in 0..30 {
        let event_type = if number % 3 == 0 { "a" } else { "b" };
        let id = world.accept(event_type, later(number)).await.receipts[0].id;
        if event_type == "a" {
            wanted.insert(0, id);
        }
    }
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let request = PageRequest { limit: 4, after };
        let page = world.records.events(world.account, Some(&name("a")), request).await.unwrap();
        seen.extend(page.items.iter().map(|event| event.id));
        match page.next {
            Some(next) => after = Some(next.parse().unwrap()),
            None => break,
        }
    }
    assert_eq!(seen, wanted);
}
