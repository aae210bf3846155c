use postrider_domain::delivery::DeliveryState;
use postrider_domain::endpoint::{DisabledReason, State};
use postrider_domain::event::EventTypeName;

use super::*;
use crate::keys::due::IMMEDIATELY;
use crate::{DeliveryFilter, HeldAction, OwnerError, PageRequest};

#[tokio::test]
async fn a_success_finishes_a_delivery() {
    let world = World::new().await;
    let endpoint = world.endpoint(&["a"]).await;
    world.accept("a", later(1)).await;
    let Applied::Recorded(changes) = world.attempt(endpoint, 204, later(5)).await else {
        panic!("applied")
    };
    let (view, attempts) =
        world.records.delivery(world.account, changes.delivery.id).await.unwrap().unwrap();
    assert_eq!((view.state, attempts.len()), (DeliveryState::Delivered, 1));
    let updated = world.records.update_pointer(world.fence(endpoint), world.account, endpoint);
    assert_eq!(updated.await, Ok(None));
    assert!(world.pointers(endpoint).await.is_empty());
}

#[tokio::test]
async fn a_failure_reschedules_the_delivery() {
    let world = World::new().await;
    let endpoint = world.endpoint(&["a"]).await;
    world.accept("a", later(1)).await;
    let Applied::Recorded(changes) = world.attempt(endpoint, 500, later(5)).await else {
        panic!("applied")
    };
    let due = changes.delivery.due();
    let updated = world.records.update_pointer(world.fence(endpoint), world.account, endpoint);
    assert_eq!(updated.await, Ok(due));
    assert_eq!(world.pointers(endpoint).await, [due.unwrap()]);
    let view = world.records.endpoint(world.account, endpoint).await.unwrap().unwrap();
    assert_eq!((view.health.failure_count, view.backlog.count()), (1, 1));
}

#[tokio::test]
async fn exhaustion_disables_the_endpoint_and_writes_a_notice_in_one_transaction() {
    let world = World::new().await;
    let endpoint = world.endpoint(&["a"]).await;
    world.accept("a", later(1)).await;
    let mut now = later(5);
    for _ in 0..11 {
        let Applied::Recorded(changes) = world.attempt(endpoint, 500, now).await else {
            panic!("applied")
        };
        now = changes.delivery.due().unwrap_or(now);
    }
    world.accept("a", now).await;
    let view = world.records.endpoint(world.account, endpoint).await.unwrap().unwrap();
    let State::Disabled(disabled) = view.state else { panic!("{:?}", view.state) };
    assert_eq!((disabled.reason, view.backlog.count()), (DisabledReason::Exhausted, 1));
    assert!(world.pointers(endpoint).await.is_empty());
    let notices = world.notices(endpoint).await;
    assert_eq!(notices.len(), 1);
    world.records.finish_notice(world.fence(endpoint), &notices[0], None).await.unwrap();
    assert!(world.notices(endpoint).await.is_empty());
}

#[tokio::test]
async fn a_stale_owner_writes_nothing() {
    let world = World::new().await;
    let endpoint = world.endpoint(&["a"]).await;
    world.accept("a", later(1)).await;
    let old = world.fence(endpoint);
    world.records.claim(&[old.shard], BootId::MAX).await.unwrap();
    assert_eq!(world.attempt(endpoint, 200, later(5)).await, Applied::Fenced);
    let updated = world.records.update_pointer(old, world.account, endpoint).await;
    assert_eq!(updated, Err(OwnerError::Fenced));
    let view = world.records.endpoint(world.account, endpoint).await.unwrap().unwrap();
    assert_eq!(view.backlog.count(), 1);
}

#[tokio::test]
async fn recording_an_attempt_is_idempotent_and_another_with_its_number_is_stale() {
    let world = World::new().await;
    let endpoint = world.endpoint(&["a"]).await;
    world.accept("a", later(1)).await;
    let workload = world.workload(endpoint, 1).await;
    let attempt = FencedAttempt {
        fence: world.fence(endpoint),
        account: world.account,
        endpoint,
        delivery: workload.first().id,
        result: world.result(1, 500, later(5)),
    };
    let Applied::Recorded(first) = world.apply(attempt.clone()).await else { panic!("applied") };
    let Applied::Recorded(again) = world.apply(attempt.clone()).await else { panic!("applied") };
    assert_eq!(first, again);
    let other = FencedAttempt { result: world.result(1, 200, later(6)), ..attempt };
    assert_eq!(world.apply(other).await, Applied::Stale);
}

#[tokio::test]
async fn held_deliveries_resume_or_are_discarded() {
    for (held, state) in [
        (HeldAction::Resume, DeliveryState::Pending),
        (HeldAction::Discard, DeliveryState::Discarded),
    ] {
        let world = World::new().await;
        let endpoint = world.endpoint(&["a"]).await;
        world.records.disable_endpoint(world.account, endpoint, later(1)).await.unwrap();
        for number in 0..450 {
            assert!(world.accept("a", later(2 + number)).await.wakes.is_empty());
        }
        let list = async || {
            let page = crate::PageRequest { limit: 250, after: None };
            let filter = crate::DeliveryFilter::default();
            world.records.deliveries(world.account, endpoint, filter, page).await.unwrap().items
        };
        assert!(list().await.iter().all(|view| view.state == DeliveryState::Held));
        let view =
            world.records.enable_endpoint(world.account, endpoint, held).await.unwrap().unwrap();
        assert_eq!(view.state, State::Enabled);
        assert_eq!(view.backlog.count(), if held == HeldAction::Resume { 450 } else { 0 });
        assert!(list().await.iter().all(|view| view.state == state), "{held:?}");
        assert_eq!(world.pointers(endpoint).await, [IMMEDIATELY]);
    }
}

#[tokio::test]
async fn pages_of_deliveries_continue_at_their_cursor() {
    let world = World::new().await;
    let endpoint = world.endpoint(&["a", "b"]).await;
    for number in 0..5 {
        world.accept(if number == 0 { "b" } else { "a" }, later(number)).await;
    }
    let event_type = Some(EventTypeName::parse("b").unwrap());
    let of_one_type = DeliveryFilter { event_type, ..DeliveryFilter::default() };
    for (filter, sizes) in [(DeliveryFilter::default(), &[2, 2, 1][..]), (of_one_type, &[1])] {
        let (mut after, mut seen) = (None, Vec::new());
        for (number, size) in (1..).zip(sizes) {
            let page = PageRequest { limit: 2, after };
            let list = world.records.deliveries(world.account, endpoint, filter.clone(), page);
            let list = list.await.unwrap();
            assert_eq!(list.items.len(), *size, "page {number}");
            assert_eq!(list.next.is_none(), number == sizes.len(), "page {number}");
            after = list.next.map(|next| next.parse().unwrap());
            seen.extend(list.items);
        }
        assert!(seen.is_sorted_by(|one, next| one.delivery.id > next.delivery.id));
        for view in seen {
            let alone =
                world.records.delivery_without_attempts(world.account, view.delivery.id).await;
            assert_eq!(alone.unwrap(), Some(view));
        }
    }
}

#[tokio::test]
async fn the_owner_discards_marked_deliveries_whatever_happens_in_between() {
    let world = World::new().await;
    let endpoint = world.endpoint(&["a"]).await;
    let disable =
        async |at| drop(world.records.disable_endpoint(world.account, endpoint, at).await.unwrap());
    let enable = async |held| {
        let enabled = world.records.enable_endpoint(world.account, endpoint, held);
        enabled.await.unwrap().unwrap()
    };
    let work = async || world.records.workload(world.account, endpoint, 1).await.unwrap();
    disable(later(1)).await;
    for number in 0..450 {
        world.accept("a", later(2 + number)).await;
    }
    assert_eq!(enable(HeldAction::Discard).await.backlog.count(), 0);
    // With a clock that is behind.
    world.accept("a", later(100)).await;
    assert!(matches!(work().await, EndpointWork::Discard));
    let fence = world.fence(endpoint);
    let step = |fence| world.records.discard_some(fence, world.account, endpoint, later(901));
    assert_eq!(step(fence).await, Ok(true));
    disable(later(902)).await;
    let update_pointer = || world.records.update_pointer(fence, world.account, endpoint);
    assert_eq!(
        update_pointer().await,
        Ok(Some(IMMEDIATELY)),
        "the owner has not finished discarding"
    );
    let view = enable(HeldAction::Resume).await;
    assert_eq!(view.backlog.count(), 1);
    assert!(view.oldest_pending_at > Some(later(451)));
    assert_eq!(step(fence).await, Ok(true));
    assert_eq!(step(fence).await, Ok(false));
    assert!(matches!(work().await, EndpointWork::Send(_)));
    let view = world.records.endpoint(world.account, endpoint).await.unwrap().unwrap();
    assert_eq!(view.backlog.count(), 1);
    world.records.claim(&[fence.shard], BootId::MAX).await.unwrap();
    assert_eq!(step(fence).await, Err(OwnerError::Fenced));
}

#[tokio::test]
async fn an_attempt_of_a_delivery_marked_for_discard_is_stale() {
    let world = World::new().await;
    let endpoint = world.endpoint(&["a"]).await;
    world.accept("a", later(1)).await;
    let delivery = world.workload(endpoint, 1).await.first().id;
    world.records.disable_endpoint(world.account, endpoint, later(2)).await.unwrap();
    world.records.enable_endpoint(world.account, endpoint, HeldAction::Discard).await.unwrap();
    let late = FencedAttempt {
        fence: world.fence(endpoint),
        account: world.account,
        endpoint,
        delivery,
        result: world.result(1, 200, later(5)),
    };
    assert_eq!(world.apply(late).await, Applied::Stale);
    world.discard(endpoint, later(6)).await;
    let (view, _) = world.records.delivery(world.account, delivery).await.unwrap().unwrap();
    assert_eq!(view.state, DeliveryState::Discarded);
    assert_eq!(view.delivery.due(), None);
}

#[tokio::test]
async fn in_strict_ordering_the_oldest_comes_first() {
    let world = World::new().await;
    let endpoint = world.ordered_endpoint(&["a"], Ordering::Strict).await;
    world.accept("a", later(1)).await;
    world.accept("a", later(2)).await;
    let Applied::Recorded(changes) = world.attempt(endpoint, 500, later(5)).await else {
        panic!("applied")
    };
    let workload = world.workload(endpoint, 10).await;
    assert_eq!(workload.first().id, changes.delivery.id);
    let updated = world.records.update_pointer(world.fence(endpoint), world.account, endpoint);
    assert_eq!(updated.await, Ok(changes.delivery.due()));
}

#[tokio::test]
async fn new_work_is_due_immediately_whatever_the_clocks() {
    let world = World::new().await;
    for ordering in [Ordering::Parallel, Ordering::Strict] {
        let endpoint = world.ordered_endpoint(&["a"], ordering).await;
        let pointers = async || world.pointers(endpoint).await;
        // The accepting node's clock is an hour ahead of the owner's.
        let hour = later(3_600_000);
        world.accept("a", hour).await;
        assert_eq!(pointers().await, [IMMEDIATELY]);
        let update_pointer = async || {
            world
                .records
                .update_pointer(world.fence(endpoint), world.account, endpoint)
                .await
                .unwrap()
        };
        assert_eq!(update_pointer().await, Some(IMMEDIATELY), "it has not been sent");
        world.attempt(endpoint, 500, later(5)).await;
        let retry = update_pointer().await.expect("a retry");
        assert!(retry > IMMEDIATELY && pointers().await == [retry], "a retry has its due time");
        world.records.disable_endpoint(world.account, endpoint, hour).await.unwrap();
        assert_eq!(pointers().await, []);
        world.records.enable_endpoint(world.account, endpoint, HeldAction::Resume).await.unwrap();
        assert_eq!(pointers().await, [IMMEDIATELY]);
        world.records.delete_endpoint(world.account, endpoint).await.unwrap();
        assert_eq!(pointers().await, [IMMEDIATELY]);
    }
}

#[tokio::test]
async fn the_pointer_follows_the_current_ordering() {
    let world = World::new().await;
    let endpoint = world.ordered_endpoint(&["a"], Ordering::Strict).await;
    world.accept("a", later(1)).await;
    world.accept("a", later(2)).await;
    world.attempt(endpoint, 500, later(5)).await;
    // The owner is not notified, and would wait for the retry of the first delivery.
    let parallel = |it: &mut Endpoint| it.ordering = Ordering::Parallel;
    world.records.update_endpoint(world.account, endpoint, parallel).await.unwrap();
    let updated =
        world.records.update_pointer(world.fence(endpoint), world.account, endpoint).await;
    assert_eq!(updated, Ok(Some(IMMEDIATELY)));
}

#[tokio::test]
async fn deleting_discards_and_late_attempts_are_stale() {
    let world = World::new().await;
    let endpoint = world.endpoint(&["a"]).await;
    world.accept("a", later(1)).await;
    let workload = world.workload(endpoint, 1).await;
    assert!(world.records.delete_endpoint(world.account, endpoint).await.unwrap());
    assert!(!world.records.delete_endpoint(world.account, endpoint).await.unwrap());
    let id = workload.first().id;
    let (view, _) = world.records.delivery(world.account, id).await.unwrap().unwrap();
    assert_eq!(view.state, DeliveryState::Discarded);
    let late = FencedAttempt {
        fence: world.fence(endpoint),
        account: world.account,
        endpoint,
        delivery: id,
        result: world.result(1, 200, later(5)),
    };
    assert_eq!(world.apply(late).await, Applied::Stale);
    assert_eq!(world.pointers(endpoint).await, [IMMEDIATELY]);
    let work = async || world.records.workload(world.account, endpoint, 1).await.unwrap();
    assert!(matches!(work().await, EndpointWork::Discard));
    world.discard(endpoint, later(4)).await;
    assert!(matches!(work().await, EndpointWork::Closed));
    assert!(world.pointers(endpoint).await.is_empty());
    let (view, _) = world.records.delivery(world.account, id).await.unwrap().unwrap();
    assert_eq!(view.delivery.due(), None);
    assert_eq!(world.accept("a", later(6)).await.receipts[0].deliveries, 0);
}
