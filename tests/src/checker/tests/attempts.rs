//! I4, I5, I9.

use super::*;

#[test]
fn a_retry_count_kept_only_in_memory() {
    // Restarts at 1 after a crash.
    assert!(caught(|run| run.store.deliveries[1].attempts[1].number = 1).contains("I4"));
    let gave_up_early = |run: &mut Evidence| {
        run.store.deliveries[1].attempts.pop();
        run.store.deliveries[1].attempt_count = 1;
    };
    assert!(caught(gave_up_early).contains("I4"));
}

#[test]
fn a_retry_too_soon_or_too_late() {
    let at = |run: &mut Evidence, plus: u64| {
        let attempts = &mut run.store.deliveries[1].attempts;
        let (first, stamp) = (attempts[0].at, after(attempts[0].at, millis(plus)));
        attempts[0].next_attempt_at = Some(stamp);
        attempts[1].at = stamp;
        run.received[2] = post(2, "bad", stamp, 503);
        attempts[1].request.headers =
            vec![("webhook-timestamp".to_owned(), stamp.as_second().to_string())];
        first
    };
    assert_eq!(caught(|run| _ = at(run, 500)), name("I5:"));
    assert_eq!(
        caught(|run| _ = at(run, 4_900)),
        "I5: attempts follow the schedule; I7: no attempt to a disabled endpoint"
    );
    let before_due = caught(|run| {
        let due = run.store.deliveries[1].attempts[0].next_attempt_at;
        run.store.deliveries[1].attempts[0].next_attempt_at =
            due.map(|due| after(due, millis(300)));
    });
    assert_eq!(before_due, name("I5:"));
}

#[test]
fn an_attempt_that_ended_late_delays_the_next_one() {
    let planned_after = |ms: u64| {
        let mut run = flawless();
        let held = &mut run.store.deliveries[1];
        (held.state, held.attempt_count) = ("held".to_owned(), 1);
        held.attempts.truncate(1);
        // The timeout is one second, and the node was frozen for three more.
        held.attempts[0].duration_ms = 4_000;
        held.attempts[0].next_attempt_at = Some(after(held.attempts[0].at, millis(ms)));
        crate::checker::attempts::spaced(&run)
    };
    assert!(planned_after(6_900).is_empty());
    assert_eq!(planned_after(7_100).len(), 1);
}

#[test]
fn an_attempt_beyond_its_timeout() {
    assert_eq!(
        caught(|run| run.received[0].ended = Some(run.received[0].began + millis(1_400))),
        name("I9:")
    );
}

#[test]
fn a_frozen_node_cannot_end_its_attempts() {
    let frozen = |kind| {
        caught(|run| {
            let start = run.received[0].arrived;
            run.received[0].ended = Some(run.received[0].began + millis(1_400));
            run.faults.push(fault(kind, after(start, millis(100)), millis(1_000)));
        })
    };
    assert_eq!(frozen(Kind::Freeze), "");
    assert_eq!(frozen(Kind::Kill), name("I9:"));
}

#[test]
fn a_recovery_explains_one_early_attempt() {
    // The retry of `bad` starts a second before it is due.
    let early = |recovered: bool| {
        let mut run = flawless();
        let attempts = &mut run.store.deliveries[1].attempts;
        attempts[0].next_attempt_at = Some(after(attempts[1].at, millis(1_000)));
        let success = after(attempts[0].at, millis(500));
        if recovered {
            let mut other = delivery("other", "delivered", &[(success, 200)]);
            other.endpoint_id = run.store.deliveries[1].endpoint_id.clone();
            run.store.deliveries.push(other);
        }
        run
    };
    let violations = |run: &Evidence| crate::checker::attempts::spaced(run).len();
    assert_eq!(violations(&early(false)), 1);
    assert_eq!(violations(&early(true)), 0);
    let mut twice = early(true);
    let attempts = &mut twice.store.deliveries[1].attempts;
    let mut third = attempts[1].clone();
    third.at = after(third.at, millis(500));
    attempts[1].next_attempt_at = Some(after(third.at, millis(3_000)));
    attempts.push(third);
    let success = after(attempts[1].at, millis(100));
    let mut other = delivery("another", "delivered", &[(success, 200)]);
    other.endpoint_id = twice.store.deliveries[1].endpoint_id.clone();
    twice.store.deliveries.push(other);
    assert!(
        crate::checker::attempts::spaced(&twice).iter().any(|it| it.contains("before it was due"))
    );
}

#[test]
fn enabling_the_endpoint_starts_a_new_schedule() {
    let mut run = flawless();
    let exhausted = &mut run.store.deliveries[1];
    let mut attempts = exhausted.attempts.clone();
    let shift = |at| after(at, seconds(60));
    for attempt in &mut attempts {
        attempt.number += 1;
        attempt.at = shift(attempt.at);
        attempt.next_attempt_at = attempt.next_attempt_at.map(shift);
    }
    let resumed = attempts[0].at;
    exhausted.attempts.truncate(1);
    exhausted.attempts.extend(attempts);
    exhausted.attempt_count = 3;
    assert!(!crate::checker::attempts::numbered(&run).is_empty());
    run.manual_disables.push(ManualDisable {
        endpoint: run.store.deliveries[1].endpoint_id.clone(),
        acknowledged: resumed - jiff::SignedDuration::from_secs(20),
        enabled: Some(resumed - jiff::SignedDuration::from_millis(10)),
    });
    let checks = [crate::checker::attempts::numbered, crate::checker::attempts::spaced];
    for check in checks {
        assert_eq!(check(&run), Vec::<String>::new());
    }
}
