use postrider_domain::delivery::DeliveryState;
use postrider_domain::endpoint::{DisabledReason, State};
use postrider_domain::event::EventTypeName;
use postrider_domain::notice::{Kind, Report};

use super::*;
use crate::keys::due::IMMEDIATELY;
use crate::{DeliveryFilter, HeldAction, NoticeCursor, OwnerError, PageRequest};

#[tokio::test]
async fn a_success_finishes_a_delivery() {
    let fixture = Fixture::new().await;
    let endpoint = fixture.endpoint(&["a"]).await;
    fixture.accept("a", later(1)).await;
    let Applied::Recorded(changes) = fixture.attempt(endpoint, 204, later(5)).await else {
        panic!("applied")
    };
    let (view, attempts) =
        fixture.records.delivery(fixture.account, changes.delivery.id).await.unwrap().unwrap();
    assert_eq!((view.state, attempts.len()), (DeliveryState::Delivered, 1));
    let updated =
        fixture.records.update_pointer(fixture.fence(endpoint), fixture.account, endpoint);
    assert_eq!(updated.await, Ok(None));
    assert!(fixture.pointers(endpoint).await.is_empty());
}

#[tokio::test]
async fn a_failure_reschedules_the_delivery() {
    let fixture = Fixture::new().await;
    let endpoint = fixture.endpoint(&["a"]).await;
    fixture.accept("a", later(1)).await;
    let Applied::Recorded(changes) = fixture.attempt(endpoint, 500, later(5)).await else {
        panic!("applied")
    };
    let due = changes.delivery.due();
    let updated =
        fixture.records.update_pointer(fixture.fence(endpoint), fixture.account, endpoint);
    assert_eq!(updated.await, Ok(due));
    assert_eq!(fixture.pointers(endpoint).await, [due.unwrap()]);
    let view = fixture.records.endpoint(fixture.account, endpoint).await.unwrap().unwrap();
    assert_eq!((view.health.failure_count, view.backlog.count()), (1, 1));
}

#[tokio::test]
async fn exhaustion_disables_the_endpoint_and_writes_a_notice_in_one_transaction() {
    let fixture = Fixture::new().await;
    let endpoint = fixture.endpoint(&["a"]).await;
    fixture.accept("a", later(1)).await;
    let mut now = later(5);
    for _ in 0..11 {
        let Applied::Recorded(changes) = fixture.attempt(endpoint, 500, now).await else {
            panic!("applied")
        };
        now = changes.delivery.due().unwrap_or(now);
    }
    fixture.accept("a", now).await;
    let view = fixture.records.endpoint(fixture.account, endpoint).await.unwrap().unwrap();
    let State::Disabled(disabled) = view.state else { panic!("{:?}", view.state) };
    assert_eq!((disabled.reason, view.backlog.count()), (DisabledReason::Exhausted, 1));
    assert!(fixture.pointers(endpoint).await.is_empty());
    let notices = fixture.notices(endpoint).await;
    let kinds: Vec<_> = notices.iter().map(Notice::kind).collect();
    assert_eq!(kinds, [Kind::Disabled, Kind::Warning], "there was an hour of failures before");
    let finish = [(&notices[0], None), (&notices[1], None)];
    fixture.records.finish_notices(fixture.fence(endpoint), &finish, now).await.unwrap();
    assert!(fixture.notices(endpoint).await.is_empty());
}

#[tokio::test]
async fn an_hour_of_failures_writes_one_warning_until_the_endpoint_is_enabled_again() {
    let fixture = Fixture::new().await;
    let endpoint = fixture.endpoint(&["a"]).await;
    fixture.accept("a", later(1)).await;
    let minute = |minute: u64| later(60_000 * minute);
    for now in [minute(1), minute(60), minute(62), minute(90)] {
        fixture.attempt(endpoint, 500, now).await;
    }
    let notices = fixture.notices(endpoint).await;
    let [Notice { report: Report::Warning(warning), failure_count: 3, .. }] = &notices[..] else {
        panic!("{notices:?}");
    };
    assert_eq!(warning.at.since(warning.failing_since), Duration::from_secs(61 * 60));

    fixture.records.disable_endpoint(fixture.account, endpoint, minute(91)).await.unwrap();
    let enabled = fixture
        .records
        .enable_endpoint(fixture.account, endpoint, HeldAction::Resume)
        .await
        .unwrap();
    let health = enabled.unwrap().health;
    assert_eq!((health.failure_count, health.series), (4, None));
    fixture.bring_forward(endpoint, minute(99)).await;
    fixture.attempt(endpoint, 500, minute(100)).await;
    assert_eq!(fixture.notices(endpoint).await.len(), 1);
    fixture.attempt(endpoint, 500, minute(161)).await;
    assert_eq!(fixture.notices(endpoint).await.len(), 2, "a new series");
}

#[tokio::test]
async fn pages_of_notices_have_warnings_after_disabled_endpoints() {
    let fixture = Fixture::new().await;
    let endpoint = fixture.endpoint(&["a"]).await;
    fixture.accept("a", later(1)).await;
    let mut now = later(5);
    for _ in 0..11 {
        let Applied::Recorded(changes) = fixture.attempt(endpoint, 500, now).await else {
            panic!("applied")
        };
        now = changes.delivery.due().unwrap_or(now);
    }
    let (records, shard) = (&fixture.records, fixture.fence(endpoint).shard);
    let page = async |after: Option<&NoticeCursor>, limit| {
        let page = records.notices(shard, now, after, limit).await.unwrap();
        assert_eq!(page.damage, None);
        (page.notices.iter().map(Notice::kind).collect::<Vec<_>>(), page.next)
    };
    let (first, after_first) = page(None, 1).await;
    assert_eq!(first, [Kind::Disabled]);
    let (second, after_second) = page(after_first.as_ref(), 1).await;
    assert_eq!(second, [Kind::Warning]);
    assert_eq!(page(after_second.as_ref(), 1).await, (vec![], None));
    assert_eq!(page(None, 3).await, (vec![Kind::Disabled, Kind::Warning], None));
}

#[tokio::test]
async fn a_reminder_follows_the_email_unless_the_endpoint_was_enabled() {
    let fixture = Fixture::new().await;
    let (first, second) = (fixture.endpoint(&["a"]).await, fixture.endpoint(&["b"]).await);
    for (endpoint, event_type) in [(first, "a"), (second, "b")] {
        fixture.accept(event_type, later(1)).await;
        for second in 1..=11 {
            fixture.attempt(endpoint, 500, later(second)).await;
        }
    }
    let action = HeldAction::Resume;
    fixture.records.enable_endpoint(fixture.account, second, action).await.unwrap();
    let sent = later(1_000);
    for endpoint in [first, second] {
        let notices = fixture.notices(endpoint).await;
        let finish = [(&notices[0], None)];
        fixture.records.finish_notices(fixture.fence(endpoint), &finish, sent).await.unwrap();
    }
    let due = |endpoint, now| {
        let (records, shard) = (&fixture.records, fixture.fence(endpoint).shard);
        async move { records.notices(shard, now, None, 10).await.unwrap().notices }
    };
    let at = sent.plus(REMIND_AFTER);
    assert_eq!(due(first, at.minus(Duration::from_millis(1))).await, []);
    let reminders = due(first, at).await;
    assert_eq!(reminders.iter().map(Notice::kind).collect::<Vec<_>>(), [Kind::Reminder]);
    assert!(due(second, at).await.iter().all(|notice| notice.endpoint != second));
    fixture
        .records
        .finish_notices(fixture.fence(first), &[(&reminders[0], None)], at)
        .await
        .unwrap();
    assert_eq!(due(first, Timestamp::from_millis(u64::MAX)).await, []);
}

#[tokio::test]
async fn a_stale_owner_writes_nothing() {
    let fixture = Fixture::new().await;
    let endpoint = fixture.endpoint(&["a"]).await;
    fixture.accept("a", later(1)).await;
    let old = fixture.fence(endpoint);
    fixture.records.claim(&[old.shard], BootId::MAX).await.unwrap();
    assert_eq!(fixture.attempt(endpoint, 200, later(5)).await, Applied::Fenced);
    let updated = fixture.records.update_pointer(old, fixture.account, endpoint).await;
    assert_eq!(updated, Err(OwnerError::Fenced));
    let view = fixture.records.endpoint(fixture.account, endpoint).await.unwrap().unwrap();
    assert_eq!(view.backlog.count(), 1);
}

#[tokio::test]
async fn recording_an_attempt_is_idempotent_and_another_with_its_number_is_stale() {
    let fixture = Fixture::new().await;
    let endpoint = fixture.endpoint(&["a"]).await;
    fixture.accept("a", later(1)).await;
    let workload = fixture.workload(endpoint, 1).await;
    let attempt = FencedAttempt {
        fence: fixture.fence(endpoint),
        account: fixture.account,
        endpoint,
        delivery: workload.first().id,
        result: fixture.result(1, 500, later(5)),
    };
    let Applied::Recorded(first) = fixture.apply(attempt.clone()).await else { panic!("applied") };
    let Applied::Recorded(again) = fixture.apply(attempt.clone()).await else { panic!("applied") };
    assert_eq!(first, again);
    let other = FencedAttempt { result: fixture.result(1, 200, later(6)), ..attempt };
    assert_eq!(fixture.apply(other).await, Applied::Stale);
}

#[tokio::test]
async fn held_deliveries_resume_or_are_discarded() {
    for (held, state) in [
        (HeldAction::Resume, DeliveryState::Pending),
        (HeldAction::Discard, DeliveryState::Discarded),
    ] {
        let fixture = Fixture::new().await;
        let endpoint = fixture.endpoint(&["a"]).await;
        fixture.records.disable_endpoint(fixture.account, endpoint, later(1)).await.unwrap();
        for number in 0..450 {
            assert!(fixture.accept("a", later(2 + number)).await.wakes.is_empty());
        }
        let list = async || {
            let page = crate::PageRequest { limit: 250, after: None };
            let filter = crate::DeliveryFilter::default();
            fixture.records.deliveries(fixture.account, endpoint, filter, page).await.unwrap().items
        };
        assert!(list().await.iter().all(|view| view.state == DeliveryState::Held));
        let view = fixture
            .records
            .enable_endpoint(fixture.account, endpoint, held)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(view.state, State::Enabled);
        assert_eq!(view.backlog.count(), if held == HeldAction::Resume { 450 } else { 0 });
        assert!(list().await.iter().all(|view| view.state == state), "{held:?}");
        assert_eq!(fixture.pointers(endpoint).await, [IMMEDIATELY]);
    }
}

#[tokio::test]
async fn pages_of_deliveries_continue_at_their_cursor() {
    let fixture = Fixture::new().await;
    let endpoint = fixture.endpoint(&["a", "b"]).await;
    for number in 0..5 {
        fixture.accept(if number == 0 { "b" } else { "a" }, later(number)).await;
    }
    let event_type = Some(EventTypeName::parse("b").unwrap());
    let of_one_type = DeliveryFilter { event_type, ..DeliveryFilter::default() };
    for (filter, sizes) in [(DeliveryFilter::default(), &[2, 2, 1][..]), (of_one_type, &[1])] {
        let (mut after, mut seen) = (None, Vec::new());
        for (number, size) in (1..).zip(sizes) {
            let page = PageRequest { limit: 2, after };
            let list = fixture.records.deliveries(fixture.account, endpoint, filter.clone(), page);
            let list = list.await.unwrap();
            assert_eq!(list.items.len(), *size, "page {number}");
            assert_eq!(list.next.is_none(), number == sizes.len(), "page {number}");
            after = list.next.map(|next| next.parse().unwrap());
            seen.extend(list.items);
        }
        assert!(seen.is_sorted_by(|one, next| one.delivery.id > next.delivery.id));
        for view in seen {
            let alone =
                fixture.records.delivery_without_attempts(fixture.account, view.delivery.id).await;
            assert_eq!(alone.unwrap(), Some(view));
        }
    }
}

#[tokio::test]
async fn the_owner_discards_marked_deliveries_whatever_happens_in_between() {
    let fixture = Fixture::new().await;
    let endpoint = fixture.endpoint(&["a"]).await;
    let disable = async |at| {
        drop(fixture.records.disable_endpoint(fixture.account, endpoint, at).await.unwrap())
    };
    let enable = async |held| {
        let enabled = fixture.records.enable_endpoint(fixture.account, endpoint, held);
        enabled.await.unwrap().unwrap()
    };
    let work = async || fixture.records.workload(fixture.account, endpoint, 1).await.unwrap();
    disable(later(1)).await;
    for number in 0..450 {
        fixture.accept("a", later(2 + number)).await;
    }
    assert_eq!(enable(HeldAction::Discard).await.backlog.count(), 0);
    // With a clock that is behind.
    fixture.accept("a", later(100)).await;
    assert!(matches!(work().await, EndpointWork::Discard));
    let fence = fixture.fence(endpoint);
    let step = |fence| fixture.records.discard_some(fence, fixture.account, endpoint, later(901));
    assert_eq!(step(fence).await, Ok(true));
    disable(later(902)).await;
    let update_pointer = || fixture.records.update_pointer(fence, fixture.account, endpoint);
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
    assert!(matches!(work().await, EndpointWork::BringForward));
    fixture.bring_forward(endpoint, later(903)).await;
    assert!(matches!(work().await, EndpointWork::Send(_)));
    let view = fixture.records.endpoint(fixture.account, endpoint).await.unwrap().unwrap();
    assert_eq!(view.backlog.count(), 1);
    fixture.records.claim(&[fence.shard], BootId::MAX).await.unwrap();
    assert_eq!(step(fence).await, Err(OwnerError::Fenced));
}

#[tokio::test]
async fn an_attempt_of_a_delivery_marked_for_discard_is_stale() {
    let fixture = Fixture::new().await;
    let endpoint = fixture.endpoint(&["a"]).await;
    fixture.accept("a", later(1)).await;
    let delivery = fixture.workload(endpoint, 1).await.first().id;
    fixture.records.disable_endpoint(fixture.account, endpoint, later(2)).await.unwrap();
    fixture.records.enable_endpoint(fixture.account, endpoint, HeldAction::Discard).await.unwrap();
    let late = FencedAttempt {
        fence: fixture.fence(endpoint),
        account: fixture.account,
        endpoint,
        delivery,
        result: fixture.result(1, 200, later(5)),
    };
    assert_eq!(fixture.apply(late).await, Applied::Stale);
    fixture.discard(endpoint, later(6)).await;
    let (view, _) = fixture.records.delivery(fixture.account, delivery).await.unwrap().unwrap();
    assert_eq!(view.state, DeliveryState::Discarded);
    assert_eq!(view.delivery.due(), None);
}

#[tokio::test]
async fn in_strict_ordering_the_oldest_comes_first() {
    let fixture = Fixture::new().await;
    let endpoint = fixture.ordered_endpoint(&["a"], Ordering::Strict).await;
    fixture.accept("a", later(1)).await;
    fixture.accept("a", later(2)).await;
    let Applied::Recorded(changes) = fixture.attempt(endpoint, 500, later(5)).await else {
        panic!("applied")
    };
    let workload = fixture.workload(endpoint, 10).await;
    assert_eq!(workload.first().id, changes.delivery.id);
    let updated =
        fixture.records.update_pointer(fixture.fence(endpoint), fixture.account, endpoint);
    assert_eq!(updated.await, Ok(changes.delivery.due()));
}

#[tokio::test]
async fn new_work_is_due_immediately_whatever_the_clocks() {
    let fixture = Fixture::new().await;
    for ordering in [Ordering::Parallel, Ordering::Strict] {
        let endpoint = fixture.ordered_endpoint(&["a"], ordering).await;
        let pointers = async || fixture.pointers(endpoint).await;
        // The accepting node's clock is an hour ahead of the owner's.
        let hour = later(3_600_000);
        fixture.accept("a", hour).await;
        assert_eq!(pointers().await, [IMMEDIATELY]);
        let update_pointer = async || {
            fixture
                .records
                .update_pointer(fixture.fence(endpoint), fixture.account, endpoint)
                .await
                .unwrap()
        };
        assert_eq!(update_pointer().await, Some(IMMEDIATELY), "it has not been sent");
        fixture.attempt(endpoint, 500, later(5)).await;
        let retry = update_pointer().await.expect("a retry");
        assert!(retry > IMMEDIATELY && pointers().await == [retry], "a retry has its due time");
        fixture.records.disable_endpoint(fixture.account, endpoint, hour).await.unwrap();
        assert_eq!(pointers().await, []);
        fixture
            .records
            .enable_endpoint(fixture.account, endpoint, HeldAction::Resume)
            .await
            .unwrap();
        assert_eq!(pointers().await, [IMMEDIATELY]);
        fixture.records.delete_endpoint(fixture.account, endpoint).await.unwrap();
        assert_eq!(pointers().await, [IMMEDIATELY]);
    }
}

#[tokio::test]
async fn the_pointer_follows_the_current_ordering() {
    let fixture = Fixture::new().await;
    let endpoint = fixture.ordered_endpoint(&["a"], Ordering::Strict).await;
    fixture.accept("a", later(1)).await;
    fixture.accept("a", later(2)).await;
    fixture.attempt(endpoint, 500, later(5)).await;
    // The owner is not notified, and would wait for the retry of the first delivery.
    let parallel = |it: &mut Endpoint| it.ordering = Ordering::Parallel;
    fixture.records.update_endpoint(fixture.account, endpoint, parallel).await.unwrap();
    let updated =
        fixture.records.update_pointer(fixture.fence(endpoint), fixture.account, endpoint).await;
    assert_eq!(updated, Ok(Some(IMMEDIATELY)));
}

#[tokio::test]
async fn deleting_discards_and_late_attempts_are_stale() {
    let fixture = Fixture::new().await;
    let endpoint = fixture.endpoint(&["a"]).await;
    fixture.accept("a", later(1)).await;
    let workload = fixture.workload(endpoint, 1).await;
    assert!(fixture.records.delete_endpoint(fixture.account, endpoint).await.unwrap());
    assert!(!fixture.records.delete_endpoint(fixture.account, endpoint).await.unwrap());
    let id = workload.first().id;
    let (view, _) = fixture.records.delivery(fixture.account, id).await.unwrap().unwrap();
    assert_eq!(view.state, DeliveryState::Discarded);
    let late = FencedAttempt {
        fence: fixture.fence(endpoint),
        account: fixture.account,
        endpoint,
        delivery: id,
        result: fixture.result(1, 200, later(5)),
    };
    assert_eq!(fixture.apply(late).await, Applied::Stale);
    assert_eq!(fixture.pointers(endpoint).await, [IMMEDIATELY]);
    let work = async || fixture.records.workload(fixture.account, endpoint, 1).await.unwrap();
    assert!(matches!(work().await, EndpointWork::Discard));
    fixture.discard(endpoint, later(4)).await;
    assert!(matches!(work().await, EndpointWork::Closed));
    assert!(fixture.pointers(endpoint).await.is_empty());
    let (view, _) = fixture.records.delivery(fixture.account, id).await.unwrap().unwrap();
    assert_eq!(view.delivery.due(), None);
    assert_eq!(fixture.accept("a", later(6)).await.receipts[0].deliveries, 0);
}
