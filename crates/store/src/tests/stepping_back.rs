//! Retries after the clock was set back.

use postrider_domain::ids::{BootId, DeliveryId};
use postrider_domain::time::Timestamp;

use super::*;
use crate::{RetryCursor, StepBackBatch};

const DAY: Duration = Duration::from_secs(24 * 3600);

async fn delivery(fixture: &Fixture, id: DeliveryId) -> Delivery {
    fixture.records.delivery(fixture.account, id).await.unwrap().unwrap().0.delivery
}

/// Accepts an event whose first attempt fails, and returns its delivery.
async fn retry(fixture: &Fixture, endpoint: EndpointId, at: Timestamp) -> Delivery {
    fixture.accept("a", at).await;
    let firsts = fixture.workload(endpoint, 10).await.firsts;
    attempt(fixture, &firsts.deliveries[0], 500, at).await
}

async fn attempt(fixture: &Fixture, before: &Delivery, status: u16, at: Timestamp) -> Delivery {
    let attempt = FencedAttempt {
        fence: fixture.fence(before.endpoint),
        account: fixture.account,
        endpoint: before.endpoint,
        delivery: before.id,
        result: fixture.result(before.attempt_count + 1, status, at),
    };
    match fixture.apply(attempt).await {
        Applied::Recorded(changes) => changes.delivery,
        other => panic!("{other:?}"),
    }
}

async fn step_back(
    fixture: &Fixture,
    endpoint: EndpointId,
    after: Option<RetryCursor>,
    now: Timestamp,
) -> StepBackBatch {
    let (account, fence) = (fixture.account, fixture.fence(endpoint));
    fixture.records.step_back(fence, account, endpoint, after, now).await.unwrap()
}

#[tokio::test]
async fn retries_keep_their_delays_on_a_clock_that_was_set_back() {
    let fixture = Fixture::new().await;
    let endpoint = fixture.endpoint(&["a"]).await;
    let mut retries = Vec::new();
    for number in 0..250 {
        retries.push(retry(&fixture, endpoint, later(number)).await);
    }
    let now = START.minus(DAY);
    let first = step_back(&fixture, endpoint, None, now).await;
    assert_eq!(first.moved, 200);
    let second = step_back(&fixture, endpoint, first.next, now).await;
    assert_eq!((second.moved, second.next), (50, None));
    for (number, before) in (0..).zip(&retries) {
        let result = fixture.result(1, 500, later(number));
        let delay = before.due().expect("pending").since(result.ended_at());
        let after = delivery(&fixture, before.id).await;
        assert_eq!(after.due(), Some(now.plus(delay)));
        assert_eq!(after.first_attempt_at, Some(now));
        assert_eq!(after.attempt_count, 1);
    }
    // The queue has the new times, and a repetition changes nothing.
    let (account, fence) = (fixture.account, fixture.fence(endpoint));
    let pointer = fixture.records.update_pointer(fence, account, endpoint).await.unwrap();
    let dues = retries.iter().map(|before| async { delivery(&fixture, before.id).await.due() });
    let dues = futures::future::join_all(dues).await;
    assert_eq!(pointer, dues.into_iter().flatten().min());
    let again = step_back(&fixture, endpoint, None, now.plus(Duration::from_secs(1))).await;
    assert_eq!(again.moved, 0);
    assert_eq!(fixture.backlog(endpoint).await, 250);
}

#[tokio::test]
async fn no_recovery_stays_in_the_future() {
    let fixture = Fixture::new().await;
    let endpoint = fixture.endpoint(&["a"]).await;
    let failed = retry(&fixture, endpoint, later(1)).await;
    attempt(&fixture, &failed, 200, later(2)).await;
    let health = async || fixture.workload(endpoint, 10).await.health;
    assert!(health().await.recovered_at > Some(later(1)));
    let now = START.minus(DAY);
    step_back(&fixture, endpoint, None, now).await;
    assert_eq!(health().await.recovered_at, Some(now));
}

#[tokio::test]
async fn the_latest_clock_is_that_of_any_run() {
    let fixture = Fixture::new().await;
    let records = &fixture.records;
    assert_eq!(records.latest_clock().await.unwrap(), None);
    records.record_clock(BootId::MIN, later(9), &[]).await.unwrap();
    records.record_clock(BootId::MAX, later(1), &[]).await.unwrap();
    assert_eq!(records.latest_clock().await.unwrap(), Some(later(9)));
    records.record_clock(BootId::MAX, later(2), &[BootId::MIN]).await.unwrap();
    assert_eq!(records.clocks().await.unwrap(), [(BootId::MAX, later(2))]);
}
