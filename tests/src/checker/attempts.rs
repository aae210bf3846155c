//! I4, I5, I9: the number, spacing and duration of each delivery's attempts.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;

use super::Violations;
use super::delayed::meanwhile;
use crate::client::records::{Attempt, Delivery};
use crate::evidence::{Evidence, after, since};
use crate::fault::Kind;
use crate::receiver::Received;
use crate::schedule::Schedule;
use crate::wait::millis;

/// Times are recorded in whole milliseconds, so a sum of three is off by up to three.
const ROUNDING: Duration = millis(3);
/// The tolerated overrun of the timeout: 100 ms, and more because many nodes share few processors.
const OVERTIME: Duration = millis(300);

/// The attempts of each retry schedule of a delivery. Enabling its endpoint starts a new one.
fn schedules<'a>(evidence: &Evidence, delivery: &'a Delivery) -> Vec<&'a [Attempt]> {
    let resumed = |from: Timestamp, to: Timestamp| {
        evidence
            .manual_disables
            .iter()
            .filter(|disable| disable.endpoint == delivery.endpoint_id)
            .filter_map(|disable| disable.enabled)
            .any(|enabled| from < enabled && enabled <= to)
    };
    delivery.attempts.chunk_by(|attempt, next| !resumed(attempt.at, next.at)).collect()
}

/// I4: at most 11 recorded attempts in each schedule of a delivery, numbered without a gap.
#[must_use]
pub fn numbered(evidence: &Evidence) -> Violations {
    let most = u64::from(evidence.schedule.max_retries) + 1;
    let violation = |delivery: &Delivery| {
        let numbers: Vec<_> = delivery.attempts.iter().map(|attempt| attempt.number).collect();
        let count = delivery.attempt_count;
        let expected: Vec<_> = (1..=count).collect();
        let schedules = schedules(evidence, delivery);
        let made = |attempts: &[Attempt]| u64::try_from(attempts.len()).expect("few");
        let fits = numbers == expected && schedules.iter().all(|attempts| made(attempts) <= most);
        let last = schedules.last().map_or(0, |attempts| made(attempts));
        let full = delivery.state != "exhausted" || last == most;
        (!fits || !full).then(|| {
            let (id, state) = (&delivery.id, &delivery.state);
            format!(
                "{id} is {state} with attempts {numbers:?} and a count of {count} (at most {most})"
            )
        })
    };
    evidence.store.deliveries.iter().filter_map(violation).collect()
}

/// I5: attempt k+1 starts no sooner than the schedule allows, and the last is scheduled within
/// the window. Delays of the node itself, while it was down, extend the window. A success of
/// another delivery brings a retry forward, once in a schedule.
#[must_use]
pub fn spaced(evidence: &Evidence) -> Violations {
    let successes = Successes::of_run(evidence);
    let of_delivery = |delivery| {
        let schedules = schedules(evidence, delivery).into_iter();
        schedules.flat_map(|attempts| spacing(evidence, &successes, delivery, attempts))
    };
    evidence.store.deliveries.iter().flat_map(of_delivery).collect()
}

/// When the successful attempts of each endpoint ended.
struct Successes<'a>(HashMap<&'a str, Vec<Timestamp>>);

impl<'a> Successes<'a> {
    fn of_run(evidence: &'a Evidence) -> Self {
        let mut ends: HashMap<_, Vec<_>> = HashMap::new();
        for delivery in &evidence.store.deliveries {
            let last = delivery.attempts.last().filter(|_| delivery.state == "delivered");
            ends.entry(&*delivery.endpoint_id).or_default().extend(last.map(ended));
        }
        Self(ends)
    }

    fn any(&self, endpoint: &str, from: Timestamp, to: Timestamp) -> bool {
        let ends = self.0.get(endpoint);
        ends.is_some_and(|ends| ends.iter().any(|end| (from..=to).contains(end)))
    }
}

fn spacing(
    evidence: &Evidence,
    successes: &Successes<'_>,
    delivery: &Delivery,
    attempts: &[Attempt],
) -> Violations {
    let (id, schedule) = (&delivery.id, &evidence.schedule);
    let mut violations = Vec::new();
    let mut brought_forward = false;
    // On an overloaded machine attempts also end late. The last one has no successor if its
    // endpoint was disabled meanwhile.
    let retried = attempts.iter().filter(|attempt| attempt.next_attempt_at.is_some());
    let mut late: Duration = retried.map(|attempt| overtime(attempt, schedule)).sum();
    for (pair, retry) in attempts.windows(2).zip(1_u32..) {
        let (failed, next) = (&pair[0], &pair[1]);
        let Some(due) = failed.next_attempt_at else {
            violations.push(format!("attempt {retry} of {id} has no next attempt planned"));
            continue;
        };
        let planned = since(due, ended(failed)) + ROUNDING;
        if planned < schedule.shortest(retry) {
            let least = schedule.shortest(retry);
            violations.push(format!("retry {retry} of {id} is due after {planned:?} < {least:?}"));
        }
        let recovered = successes.any(&delivery.endpoint_id, failed.at, next.at);
        if next.at < due && recovered && !std::mem::replace(&mut brought_forward, true) {
            continue;
        }
        if next.at < due {
            let early = since(due, next.at);
            violations.push(format!("retry {retry} of {id} began {early:?} before it was due"));
        }
        late += since(next.at, due);
    }
    violations.extend(beyond_window(evidence, id, attempts, late));
    violations
}

/// The time by which an attempt exceeded its timeout.
fn overtime(attempt: &Attempt, schedule: &Schedule) -> Duration {
    millis(attempt.duration_ms).saturating_sub(schedule.timeout)
}

fn beyond_window(
    evidence: &Evidence,
    id: &str,
    attempts: &[Attempt],
    late: Duration,
) -> Option<String> {
    let first = attempts.first()?;
    let due = attempts.iter().filter_map(|attempt| attempt.next_attempt_at).max()?;
    let window = evidence.schedule.window;
    let planned = since(due, first.at);
    let beyond = planned > window + late + ROUNDING;
    beyond.then(|| {
        format!(
            "{id} has a retry planned {planned:?} after its first attempt, with {late:?} of delays"
        )
    })
}

/// I9: no attempt takes longer than its timeout and some overtime, neither in its record nor on the
/// wire, except while its node is paused.
#[must_use]
pub fn within_timeout(evidence: &Evidence) -> Violations {
    let most = evidence.schedule.timeout + OVERTIME;
    let paused = |from, took| meanwhile(evidence, Kind::is_pause, from, took);
    let recorded = evidence.store.deliveries.iter().flat_map(|delivery| {
        let long = |attempt: &&Attempt| {
            let took = millis(attempt.duration_ms);
            took > most && !paused(attempt.at, took)
        };
        delivery.attempts.iter().filter(long).map(|attempt| {
            let (number, took) = (attempt.number, attempt.duration_ms);
            format!("attempt {number} of {} took {took} ms", delivery.id)
        })
    });
    let on_the_wire = evidence.received.iter().filter_map(|request: &Received| {
        let took = request.duration().filter(|&took| took > most)?;
        if paused(request.arrived, took) {
            return None;
        }
        Some(format!("request {} to {} took {took:?}", request.index, request.path))
    });
    recorded.chain(on_the_wire).collect()
}

fn ended(attempt: &Attempt) -> Timestamp {
    after(attempt.at, millis(attempt.duration_ms))
}
