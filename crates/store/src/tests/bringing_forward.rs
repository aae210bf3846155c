use postrider_domain::delivery::{DeliveryState, FinalState, Progress};
use postrider_domain::ids::DeliveryId;
use postrider_domain::retry;
use postrider_domain::time::Timestamp;

use super::*;
use crate::{BroughtForward, Discarded, HeldAction, OwnerError, SendNow};

async fn delivery(fixture: &Fixture, id: DeliveryId) -> Delivery {
    fixture.records.delivery(fixture.account, id).await.unwrap().unwrap().0.delivery
}

/// Accepts an event that fails once, and returns its delivery, which waits for a retry.
async fn retry(fixture: &Fixture, endpoint: EndpointId, at: Timestamp) -> DeliveryId {
    fixture.accept("a", at).await;
    let firsts = fixture.workload(endpoint, 10).await.firsts;
    let id = firsts.deliveries[0].id;
    attempt(fixture, id, 500, at).await;
    id
}

async fn attempt(fixture: &Fixture, id: DeliveryId, status: u16, at: Timestamp) -> Delivery {
    let before = delivery(fixture, id).await;
    let attempt = FencedAttempt {
        fence: fixture.fence(before.endpoint),
        account: fixture.account,
        endpoint: before.endpoint,
        delivery: id,
        result: fixture.result(before.attempt_count + 1, status, at),
    };
    match fixture.apply(attempt).await {
        Applied::Recorded(changes) => changes.delivery,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn sending_now_brings_all_pending_deliveries_forward() {
    let fixture = Fixture::new().await;
    let endpoint = fixture.endpoint(&["a"]).await;
    let mut retries = Vec::new();
    for number in 0..450 {
        retries.push(retry(&fixture, endpoint, later(number)).await);
    }
    let now = later(500);
    assert_eq!(fixture.workload(endpoint, 1000).await.retries.deliveries.len(), 450);
    let sent = fixture.records.send_now(fixture.account, endpoint).await.unwrap();
    assert_eq!(sent, Some(SendNow::Pending(450)));
    // Until the owner has brought them forward, it sends nothing and keeps the pointer.
    let work = || fixture.records.workload(fixture.account, endpoint, 1);
    assert!(matches!(work().await.unwrap(), EndpointWork::BringForward));
    let fence = fixture.fence(endpoint);
    let update = fixture.records.update_pointer(fence, fixture.account, endpoint);
    assert_eq!(update.await, Ok(Some(Timestamp::EPOCH)));
    fixture.bring_forward(endpoint, now).await;
    for id in &retries {
        assert_eq!(delivery(&fixture, *id).await.due(), Some(now));
    }
    assert_eq!(fixture.workload(endpoint, 1000).await.retries.deliveries.len(), 450);
    assert_eq!(fixture.backlog(endpoint).await, 450);

    // The attempts count on in the same schedule.
    let failed = attempt(&fixture, retries[0], 500, now).await;
    assert_eq!((failed.attempt_count, failed.attempts_in_schedule()), (2, 2));
}

#[tokio::test]
async fn only_an_enabled_endpoint_sends_now() {
    let fixture = Fixture::new().await;
    let endpoint = fixture.endpoint(&["a"]).await;
    let (records, account) = (&fixture.records, fixture.account);
    records.disable_endpoint(account, endpoint, later(1)).await.unwrap();
    assert_eq!(records.send_now(account, endpoint).await.unwrap(), Some(SendNow::Disabled));
    records.delete_endpoint(account, endpoint).await.unwrap();
    assert_eq!(records.send_now(account, endpoint).await.unwrap(), None);
    let unknown = fixture.id_generator.id(START);
    assert_eq!(records.send_now(account, unknown).await.unwrap(), None);
}

#[tokio::test]
async fn enabling_an_endpoint_gives_its_deliveries_a_new_schedule() {
    let mut fixture = Fixture::new().await;
    // Two attempts in a schedule.
    fixture.rules.retry =
        retry::Policy::new(1, Duration::from_secs(60), 2.0, 0.0, Duration::from_secs(1))
            .expect("fits");
    let endpoint = fixture.endpoint(&["a"]).await;
    let first = retry(&fixture, endpoint, later(1)).await;
    let second = retry(&fixture, endpoint, later(2)).await;
    let exhausted = attempt(&fixture, first, 500, later(3)).await;
    assert!(matches!(exhausted.progress, Progress::Finished { end: FinalState::Exhausted, .. }));
    let view = fixture.records.endpoint(fixture.account, endpoint).await.unwrap().unwrap();
    assert_eq!(view.backlog.held(), 1);

    let enabled = fixture.records.enable_endpoint(fixture.account, endpoint, HeldAction::Resume);
    enabled.await.unwrap().unwrap();
    fixture.bring_forward(endpoint, later(10)).await;
    assert_eq!(delivery(&fixture, second).await.due(), Some(later(10)));

    // One failure does not disable it again: it is the first of two attempts.
    let failed = attempt(&fixture, second, 500, later(10)).await;
    assert_eq!((failed.attempt_count, failed.attempts_in_schedule()), (2, 1));
    assert_eq!(failed.first_attempt_at, Some(later(10)));
    assert!(failed.due().is_some());
    let exhausted = attempt(&fixture, second, 500, later(80)).await;
    assert!(exhausted.finished_at().is_some());
    let view = fixture.records.endpoint(fixture.account, endpoint).await.unwrap().unwrap();
    assert!(matches!(view.state, postrider_domain::endpoint::State::Disabled(_)));
}

#[tokio::test]
async fn a_recovery_brings_each_retry_forward_once() {
    let fixture = Fixture::new().await;
    let endpoint = fixture.endpoint(&["a"]).await;
    let mut retries = Vec::new();
    for number in 0..250 {
        retries.push(retry(&fixture, endpoint, later(number)).await);
    }
    let (records, account, fence) = (&fixture.records, fixture.account, fixture.fence(endpoint));
    let recover = async |now| {
        let (mut after, mut count) = (None, 0);
        loop {
            let batch = records.bring_forward_recovered(fence, account, endpoint, after, now);
            let batch = batch.await.expect("owner");
            count += batch.count;
            match batch.next {
                Some(next) => after = Some(next),
                None => return count,
            }
        }
    };
    assert_eq!(recover(later(300)).await, 250);
    assert_eq!(delivery(&fixture, retries[249]).await.due(), Some(later(300)));
    // It alone fails again, and keeps the delays of its schedule.
    let failed = attempt(&fixture, retries[0], 400, later(301)).await;
    let policy = retry::Policy::default();
    let delays = policy.delay_bounds(2);
    let due = failed.due().unwrap();
    assert!(due.since(later(301)) >= delays.0, "{:?}", due.since(later(301)));
    assert_eq!(recover(later(302)).await, 0);
    assert_eq!(delivery(&fixture, retries[0]).await.due(), Some(due));

    records.claim(&[fence.shard], BootId::MAX).await.unwrap();
    let fenced = records.bring_forward_recovered(fence, account, endpoint, None, later(303));
    assert_eq!(fenced.await, Err(OwnerError::Fenced));
}

#[tokio::test]
async fn one_delivery_is_brought_forward() {
    let fixture = Fixture::new().await;
    let endpoint = fixture.endpoint(&["a"]).await;
    let (first, second) =
        (retry(&fixture, endpoint, later(1)).await, retry(&fixture, endpoint, later(2)).await);
    let (records, account) = (&fixture.records, fixture.account);
    let unchanged = delivery(&fixture, first).await;
    match records.bring_delivery_forward(account, second, later(3)).await.unwrap() {
        Some(BroughtForward::Due(view)) => {
            assert_eq!(view.delivery.due(), Some(later(3)));
            assert_eq!(view.state, DeliveryState::Pending);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(delivery(&fixture, first).await, unchanged);
    assert_eq!(fixture.pointers(endpoint).await, [Timestamp::EPOCH]);
    assert_eq!(fixture.workload(endpoint, 9).await.retries.deliveries[0].id, second);

    let forward = |id| records.bring_delivery_forward(account, id, later(4));
    attempt(&fixture, second, 200, later(3)).await;
    assert!(matches!(forward(second).await.unwrap(), Some(BroughtForward::Ended)));
    records.disable_endpoint(account, endpoint, later(5)).await.unwrap();
    assert!(matches!(forward(first).await.unwrap(), Some(BroughtForward::Held)));
    records.delete_endpoint(account, endpoint).await.unwrap();
    assert!(matches!(forward(first).await.unwrap(), Some(BroughtForward::Ended)));
    assert!(forward(fixture.id_generator.id(START)).await.unwrap().is_none());
}

#[tokio::test]
async fn one_delivery_is_discarded() {
    let fixture = Fixture::new().await;
    let endpoint = fixture.ordered_endpoint(&["a"], Ordering::Strict).await;
    let (records, account) = (&fixture.records, fixture.account);
    let poisoned = retry(&fixture, endpoint, later(1)).await;
    fixture.accept("a", later(2)).await;
    let discard = |id, at| records.discard_delivery(account, id, at);
    match discard(poisoned, later(3)).await.unwrap() {
        Some(Discarded::Done(view)) => assert_eq!(view.state, DeliveryState::Discarded),
        other => panic!("{other:?}"),
    }
    // The next delivery is due now, and an attempt in flight is not recorded.
    assert_eq!(fixture.pointers(endpoint).await, [Timestamp::EPOCH]);
    assert_eq!(fixture.backlog(endpoint).await, 1);
    let next = fixture.workload(endpoint, 9).await.firsts.deliveries;
    assert_eq!(next.len(), 1);
    assert_ne!(next[0].id, poisoned);
    let late = FencedAttempt {
        fence: fixture.fence(endpoint),
        account,
        endpoint,
        delivery: poisoned,
        result: fixture.result(2, 500, later(4)),
    };
    assert_eq!(fixture.apply(late).await, Applied::Stale);
    assert!(matches!(discard(poisoned, later(5)).await.unwrap(), Some(Discarded::Ended(_))));

    // A held delivery can be discarded too.
    records.disable_endpoint(account, endpoint, later(6)).await.unwrap();
    assert!(matches!(discard(next[0].id, later(7)).await.unwrap(), Some(Discarded::Done(_))));
    assert_eq!(fixture.backlog(endpoint).await, 0);
    assert!(fixture.pointers(endpoint).await.is_empty());
    assert!(discard(fixture.id_generator.id(START), later(8)).await.unwrap().is_none());
}

/// Whatever happens to the commits, a delivery is discarded once and reported as discarded.
#[tokio::test]
async fn discarding_survives_unknown_commits() {
    let faults = Faults { lost_before_commit: 0.2, lost_after_commit: 0.3, ..Faults::default() };
    for seed in 0..20 {
        let fixture = Fixture::with_faults(seed, faults).await;
        let endpoint = fixture.endpoint(&["a"]).await;
        let id = retry(&fixture, endpoint, later(1)).await;
        let discarded = fixture.records.discard_delivery(fixture.account, id, later(2));
        let discarded = discarded.await.unwrap();
        assert!(matches!(discarded, Some(Discarded::Done(_))), "seed {seed}: {discarded:?}");
        assert_eq!(fixture.backlog(endpoint).await, 0);
    }
}
