//! I13: after the last fault, the cluster catches up.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use jiff::Timestamp;

use super::Violations;
use crate::client::records::Delivery;
use crate::evidence::{Evidence, after, since};
use crate::wait::seconds;

/// Recovery time of the cluster.
const RECOVERY: Duration = seconds(30);
/// The rate may fall below that of the first moments by this factor.
const SLOWDOWN: u32 = 2;
/// An attempt is overdue only beyond this delay.
const TOLERANCE: Duration = seconds(1);

/// I13: after the last fault heals, nothing is overdue within backlog ÷ rate + 30 s.
///
/// Per endpoint: the backlog consists of the attempts that were due before the last fault ended and
/// began after it, and their retries due soon after. The rate is half of that in the first 30 s,
/// and at least one request at a time, each taking the full timeout.
#[must_use]
pub fn drained(evidence: &Evidence) -> Violations {
    let mut endpoints: HashMap<&str, Vec<&Delivery>> = HashMap::new();
    for delivery in &evidence.store.deliveries {
        endpoints.entry(&delivery.endpoint_id).or_default().push(delivery);
    }
    let of_endpoint = |(endpoint, deliveries)| overdue(evidence, endpoint, deliveries);
    endpoints.into_iter().flat_map(of_endpoint).collect()
}

/// The due time and the start of an attempt.
struct Start<'a> {
    delivery: &'a Delivery,
    due: Timestamp,
    began: Timestamp,
}

fn overdue(evidence: &Evidence, endpoint: &str, deliveries: Vec<&Delivery>) -> Violations {
    let starts: Vec<_> = deliveries.into_iter().flat_map(starts).collect();
    let healed = evidence.healed;
    let soon = after(healed, RECOVERY);
    let left = starts.iter().filter(|start| start.began > healed);
    let behind = left.clone().filter(|start| start.due <= healed);
    let behind: HashSet<_> = behind.map(|start| start.delivery.id.as_str()).collect();
    let in_backlog =
        |start: &&Start<'_>| start.due <= soon && behind.contains(start.delivery.id.as_str());
    let backlog = left.filter(in_backlog).count();
    let done = starts.iter().filter(|start| healed < start.began && start.began <= soon).count();
    // If nothing was done, there is no rate.
    let each = RECOVERY.checked_div(u32::try_from(done).unwrap_or(u32::MAX)).unwrap_or_default();
    let each = (SLOWDOWN * each).min(evidence.schedule.timeout);
    let rest = each * u32::try_from(backlog).unwrap_or(u32::MAX);
    let caught_up = after(healed, rest + RECOVERY);
    let paused = evidence.manual_disables.iter().filter(|pause| pause.endpoint == endpoint);
    let resumed = paused.filter_map(|pause| pause.enabled).max();
    let late = |start: &&Start<'_>| {
        let due = resumed.map_or(start.due, |at| start.due.max(at));
        start.began > caught_up && since(start.began, due) > TOLERANCE
    };
    let subscriber = evidence.subscribers.iter().find(|s| s.endpoint == endpoint);
    let path = subscriber.map_or(endpoint, |subscriber| subscriber.path.as_str());
    starts
        .iter()
        .filter(late)
        .map(|start| {
            let (id, late) = (&start.delivery.id, since(start.began, start.due));
            let then = since(start.began, healed);
            format!(
                "{id} to {path} was still {late:?} late {then:?} after the last fault, with {backlog} \
                 pending and {done} done within {RECOVERY:?}"
            )
        })
        .collect()
}

fn starts(delivery: &Delivery) -> impl Iterator<Item = Start<'_>> {
    let planned = delivery.attempts.iter().map(|attempt| attempt.next_attempt_at);
    let due = std::iter::once(Some(delivery.created_at)).chain(planned);
    delivery
        .attempts
        .iter()
        .zip(due)
        .filter_map(move |(attempt, due)| Some(Start { delivery, due: due?, began: attempt.at }))
}
