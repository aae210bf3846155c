use postrider_domain::outcome::{self, ErrorKind};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn limit(per_second: f64, burst: u32) -> Option<RateLimit> {
    Some(RateLimit::new(per_second, burst).expect("valid"))
}

#[test]
fn what_made_an_attempt_wait_is_reported() {
    let origin = Instant::now();
    let now = origin + 100 * SECOND;
    let mut pacing = Pacing::new(origin);
    let limit = limit(1.0, 1);
    assert_eq!(pacing.wait(limit, now), None);
    assert_eq!(pacing.started(limit, SECOND, now), None, "it was late for another reason");
    let next = pacing.wait(limit, now).expect("throttled");
    assert_eq!(next, now + SECOND);
    assert_eq!(pacing.started(limit, SECOND, next), Some(ThrottledBy::RateLimit));

    let refused = outcome::of_status(429, None, Some(10 * SECOND));
    pacing.completed(&refused, next, Some(60 * SECOND), next);
    assert!(pacing.is_probing());
    let rested = pacing.wait(limit, next).expect("it rests");
    assert_eq!(rested, next + 10 * SECOND);
    assert_eq!(pacing.started(limit, 10 * SECOND, rested), Some(ThrottledBy::Endpoint));
    pacing.completed(&outcome::of_status(200, None, None), rested, None, rested);
    assert!(!pacing.is_probing());
    let later = rested + 60 * SECOND;
    assert_eq!(pacing.wait(limit, later), None);
    assert_eq!(pacing.started(limit, SECOND, later), None, "it became due after the rest");
}

#[test]
fn only_429_and_503_make_the_endpoint_rest() {
    let now = Instant::now();
    for status in [400, 404, 500, 502, 504] {
        let mut pacing = Pacing::new(now);
        let failed = outcome::of_status(status, None, Some(10 * SECOND));
        pacing.completed(&failed, now, Some(60 * SECOND), now);
        assert_eq!(pacing.wait(None, now), None, "{status}");
    }
}

#[test]
fn a_new_owner_does_not_exceed_the_rate_limit() {
    let origin = Instant::now();
    let mut pacing = Pacing::new(origin);
    assert_eq!(pacing.wait(limit(1.0, 10), origin), Some(origin + SECOND));
    // Once the previous owner's requests no longer count, a burst may start.
    let later = origin + 10 * SECOND;
    for _ in 0..10 {
        assert_eq!(pacing.wait(limit(1.0, 10), later), None);
        pacing.started(limit(1.0, 10), Duration::ZERO, later);
    }
    assert_eq!(pacing.wait(limit(1.0, 10), later), Some(later + SECOND));
    assert_eq!(pacing.forgettable_at(limit(1.0, 10)), later + 10 * SECOND);
}

#[test]
fn a_new_owner_lets_an_endpoint_rest_that_refused() {
    let now = Instant::now();
    let wall = Timestamp::from_millis(1_000_000);
    let health = |status, at| {
        let last_error = LastError {
            at,
            kind: ErrorKind::Status,
            status: Some(status),
            message: String::new(),
            delivery: DeliveryId::MIN,
        };
        Health { failure_count: 1, last_error: Some(last_error), ..Health::default() }
    };
    let rest = |health: &Health| {
        let mut pacing = Pacing::new(now);
        pacing.apply_health(health, |_| Some(20 * SECOND), now, wall);
        pacing.wait(None, now).map(|until| until - now)
    };
    let before = wall.minus(SECOND);
    assert_eq!(rest(&health(503, before)), Some(20 * SECOND));
    assert_eq!(rest(&health(500, before)), None);
    assert_eq!(rest(&Health { failure_count: 0, ..health(503, before) }), None);
    assert_eq!(rest(&health(503, wall)), None, "this owner was refused, and has rested");
}

#[test]
fn a_person_ends_the_rest() {
    let now = Instant::now();
    let mut pacing = Pacing::new(now);
    let refused = outcome::of_status(503, None, Some(10 * SECOND));
    pacing.completed(&refused, now, None, now);
    assert!(pacing.wait(None, now).is_some());
    pacing.forget_refusals();
    assert_eq!(pacing.wait(None, now), None);
}
