use postrider_domain::delivery::DeliveryState;
use postrider_domain::ids::{DeliveryId, EventId};
use postrider_domain::limits::MAX_FAN_OUT_PER_TRANSACTION;

use super::*;
use crate::events::receivers;
use crate::keys::of_event;
use crate::kv::{Error, Range};
use crate::{Audience, DeliveryView, Held, PageRequest, ReceiversError, ResendError, Resent};

impl World {
    async fn resend(&self, event: EventId, audience: Audience) -> Result<Resent, ResendError> {
        self.records.resend(self.account, event, audience, &self.mint, later(9_000)).await
    }

    /// The deliveries of an event, read in pages of so many.
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

    /// Makes these all the rows of the index of an event's deliveries.
    async fn index_as(&self, event: EventId, rows: &[Vec<DeliveryId>]) {
        let indexed = self.records.store.transact(|tx, _| async move {
            let all = Range::prefix(of_event::of_event(self.account, event));
            tx.clear_range(all.begin, all.end);
            for row in rows {
                receivers::note_step(&tx, self.account, event, row);
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
async fn an_event_knows_who_received_it() {
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
    let again = world.records.retry_delivery(world.account, again, &world.mint, later(50)).await;
    let again = again.unwrap().unwrap().0;
    let expected = [vec![again.delivery.id], ids(&first)].concat();
    for limit in [1, 2, 3, 10] {
        assert_eq!(ids(&world.received(event, limit).await), expected, "{limit} a page");
    }
    let request = PageRequest { limit: 10, after: None };
    let nothing = world.mint.id(later(60));
    let none = world.records.event_deliveries(world.account, nothing, request).await;
    assert_eq!(none.unwrap_err(), ReceiversError::NoSuchEvent);
    let request = PageRequest { limit: 10, after: Some(expected[0]) };
    let foreign = world.records.event_deliveries(world.account, other, request).await;
    assert_eq!(foreign.unwrap_err(), ReceiversError::UnknownCursor);
}

#[tokio::test]
async fn one_endpoint_gets_a_past_event_whether_or_not_it_wants_the_type() {
    let world = World::new().await;
    let (wants_it, other) = (world.endpoint(&["a"]).await, world.endpoint(&["b"]).await);
    let event = world.accept("a", later(1)).await.receipts[0].id;
    let resent = world.resend(event, Audience::Endpoint(other)).await.unwrap();
    assert_eq!(resent.deliveries, 1);
    assert!(matches!(resent.wakes[..], [Wake::Endpoint { endpoint, .. }] if endpoint == other));
    assert_eq!((world.unfinished(wants_it).await, world.unfinished(other).await), (1, 1));
    let made = &world.workload(other, 1).await.firsts.deliveries[0];
    assert_eq!(
        (made.event, made.created_at, made.due()),
        (event, later(9_000), Some(later(9_000)))
    );
    assert_eq!(world.received(event, 1).await.len(), 2);

    world.records.disable_endpoint(world.account, other, later(10)).await.unwrap();
    let held = world.resend(event, Audience::Endpoint(other)).await.unwrap();
    assert_eq!((held.deliveries, held.wakes.len()), (1, 0));
    assert_eq!(world.received(event, 9).await[0].state, DeliveryState::Held);
}

#[tokio::test]
async fn all_that_want_it_now_get_a_past_event() {
    let world = World::new().await;
    let first = world.endpoint(&["a"]).await;
    let event = world.accept("a", later(1)).await.receipts[0].id;
    let (second, not) = (world.endpoint(&["*"]).await, world.endpoint(&["b"]).await);
    let resent = world.resend(event, Audience::AllThatWantIt).await.unwrap();
    assert_eq!((resent.deliveries, resent.wakes.len()), (2, 2));
    for (endpoint, unfinished) in [(first, 2), (second, 1), (not, 0)] {
        assert_eq!(world.unfinished(endpoint).await, unfinished);
    }
    let nobody = world.accept("b", later(1)).await.receipts[0].id;
    for endpoint in [second, not] {
        world.records.delete_endpoint(world.account, endpoint).await.unwrap();
    }
    assert_eq!(world.resend(nobody, Audience::AllThatWantIt).await.unwrap().deliveries, 0);
}

#[tokio::test]
async fn what_is_not_there_is_not_sent_again() {
    let world = World::new().await;
    let endpoint = world.endpoint(&["a"]).await;
    let event = world.accept("a", later(1)).await.receipts[0].id;
    let (no_event, no_endpoint) = (world.mint.id(later(2)), world.mint.id(later(2)));
    let refused = world.resend(no_event, Audience::AllThatWantIt).await;
    assert!(matches!(refused, Err(ResendError::NoSuchEvent)));
    let refused = world.resend(event, Audience::Endpoint(no_endpoint)).await;
    assert!(matches!(refused, Err(ResendError::NoSuchEndpoint)));
    world.records.delete_endpoint(world.account, endpoint).await.unwrap();
    let refused = world.resend(event, Audience::Endpoint(endpoint)).await;
    assert!(matches!(refused, Err(ResendError::EndpointDeleted)));
    assert_eq!(world.received(event, 9).await.len(), 1);
}

#[tokio::test]
async fn a_resend_is_not_given_up_with_what_was_held() {
    let world = World::new().await;
    let endpoint = world.endpoint(&["a"]).await;
    let event = world.accept("a", later(60_000)).await.receipts[0].id;
    world.records.disable_endpoint(world.account, endpoint, later(60_001)).await.unwrap();
    let enabled = world.records.enable_endpoint(world.account, endpoint, Held::Discard).await;
    enabled.unwrap();
    // This node's clock is a minute behind.
    world.resend(event, Audience::Endpoint(endpoint)).await.unwrap();
    world.discard(endpoint, later(60_003)).await;
    let states: Vec<_> = world.received(event, 9).await.iter().map(|view| view.state).collect();
    assert_eq!(states, [DeliveryState::Pending, DeliveryState::Discarded]);
}

#[tokio::test]
async fn many_get_a_past_event_in_steps_beside_its_first_fan_out_and_another() {
    let world = World::new().await;
    let count = MAX_FAN_OUT_PER_TRANSACTION + 30;
    let mut endpoints = Vec::new();
    for number in 0..count {
        endpoints.push(world.endpoint(if number % 2 == 0 { &["a"] } else { &["*"] }).await);
    }
    let event = world.accept("a", later(1)).await.receipts[0].id;
    let mut fences = world.fences.iter();
    // The first fan-out is under way.
    while let Some(fence) = fences.next()
        && world.records.step_fan_out(*fence).await.unwrap().is_none()
    {}
    for _ in 0..2 {
        let resent = world.resend(event, Audience::AllThatWantIt).await.unwrap();
        assert_eq!(resent.deliveries, u64::try_from(count).unwrap());
        assert!(matches!(resent.wakes[..], [Wake::Jobs { .. }]));
    }
    // Made after they were asked for.
    let late = Endpoint {
        id: world.mint.id(later(60_000)),
        ..world.records.endpoint(world.account, endpoints[0]).await.unwrap().unwrap().endpoint
    };
    assert!(world.records.create_endpoint(&late).await.unwrap());
    world.fan_out().await;
    for endpoint in &endpoints {
        assert_eq!(world.unfinished(*endpoint).await, 3);
    }
    assert_eq!(world.unfinished(late.id).await, 0);
    let mut received = ids(&world.received(event, 200).await);
    assert_eq!(received.len(), 3 * count);
    received.sort();
    received.dedup();
    assert_eq!(received.len(), 3 * count, "none is listed twice");
}

#[tokio::test]
async fn the_index_of_nodes_whose_ids_overlap_lists_each_delivery_once() {
    let world = World::new().await;
    let event = world.accept("a", later(1)).await.receipts[0].id;
    let endpoint = world.endpoint(&["a"]).await;
    let mut made = Vec::new();
    for _ in 0..6 {
        let resent = world.resend(event, Audience::Endpoint(endpoint)).await;
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
async fn however_many_rows_overlap_each_delivery_is_listed_once() {
    let world = World::new().await;
    let event = world.accept("a", later(1)).await.receipts[0].id;
    let endpoint = world.endpoint(&["a"]).await;
    let again = async || {
        world.resend(event, Audience::Endpoint(endpoint)).await.unwrap();
        world.received(event, 1).await[0].delivery.id
    };
    let first = again().await;
    // Deliveries that are not there any more.
    let mut rows: Vec<_> = (0..200).map(|_| vec![world.mint.id(later(9_000))]).collect();
    let (between, last) = (again().await, again().await);
    rows.extend([vec![first, last], vec![between]]);
    world.index_as(event, &rows).await;
    for limit in [1, 2, 70, 300] {
        let expected = [between, last, first];
        assert_eq!(ids(&world.received(event, limit).await), expected, "{limit} a page");
    }
}

#[tokio::test(start_paused = true)]
async fn a_commit_of_unknown_result_sends_nothing_twice() {
    for seed in 0..40 {
        let faults = Faults { lost_after_commit: 0.5, conflict: 0.1, ..Faults::default() };
        let world = World::with_faults(seed, faults).await;
        let (one, other) = (world.endpoint(&["a"]).await, world.endpoint(&["a"]).await);
        let event = world.accept("a", later(1)).await.receipts[0].id;
        assert_eq!(world.resend(event, Audience::Endpoint(one)).await.unwrap().deliveries, 1);
        assert_eq!(world.resend(event, Audience::AllThatWantIt).await.unwrap().deliveries, 2);
        assert_eq!((world.unfinished(one).await, world.unfinished(other).await), (3, 2));
        assert_eq!(world.received(event, 9).await.len(), 5);
    }
}

#[tokio::test(start_paused = true)]
async fn a_commit_of_unknown_result_leaves_one_job() {
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
        let resent = world.resend(event, Audience::AllThatWantIt).await.unwrap();
        let count = MAX_FAN_OUT_PER_TRANSACTION + 1;
        assert_eq!(resent.deliveries, u64::try_from(count).unwrap());
        world.fan_out().await;
        assert_eq!(world.received(event, 250).await.len(), 2 * count);
    }
}

#[tokio::test]
async fn a_filtered_list_of_events_goes_on_where_it_ended() {
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
