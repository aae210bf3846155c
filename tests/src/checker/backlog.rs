//! I13: when all faults are healed, the cluster catches up.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use jiff::Timestamp;

use super::Violations;
use crate::client::records::Delivery;
use crate::evidence::{Evidence, after, since};
use crate::wait::seconds;

/// How long the cluster may take to find itself again.
const RECOVERY: Duration = seconds(30);
/// The machine is not as fast all the time as it was in the first moments.
const SLOWER: u32 = 2;
/// How late an attempt may be that is not overdue.
const PUNCTUAL: Duration = seconds(1);

/// I13: after the last fault heals, nothing is overdue within backlog ÷ rate + 30 s.
///
/// Of each endpoint: its backlog is what began after the faults though it was due before they
/// were over, and what of it was soon due again, since it failed; its rate, half of what it did in
/// the first 30 s, and at least one request at a time, each as long as may be.
#[must_use]
pub fn worked_off(evidence: &Evidence) -> Violations {
    let mut endpoints: HashMap<&str, Vec<&Delivery>> = HashMap::new();
    for delivery in &evidence.store.deliveries {
        endpoints.entry(&delivery.endpoint_id).or_default().push(delivery);
    }
    let of_endpoint = |(endpoint, deliveries)| overdue(evidence, endpoint, deliveries);
    endpoints.into_iter().flat_map(of_endpoint).collect()
}

/// When an attempt was due, and when it began.
struct Turn<'a> {
    delivery: &'a Delivery,
    due: Timestamp,
    began: Timestamp,
}

fn overdue(evidence: &Evidence, endpoint: &str, deliveries: Vec<&Delivery>) -> Violations {
    let turns: Vec<_> = deliveries.into_iter().flat_map(turns).collect();
    let healed = evidence.healed;
    let soon = after(healed, RECOVERY);
    let left = turns.iter().filter(|turn| turn.began > healed);
    let behind = left.clone().filter(|turn| turn.due <= healed);
    let behind: HashSet<_> = behind.map(|turn| turn.delivery.id.as_str()).collect();
    let of_it = |turn: &&Turn<'_>| turn.due <= soon && behind.contains(turn.delivery.id.as_str());
    let backlog = left.filter(of_it).count();
    let done = turns.iter().filter(|turn| healed < turn.began && turn.began <= soon).count();
    // Nothing done is no rate at all.
    let each = RECOVERY.checked_div(u32::try_from(done).unwrap_or(u32::MAX)).unwrap_or_default();
    let each = (SLOWER * each).min(evidence.schedule.timeout);
    let rest = each * u32::try_from(backlog).unwrap_or(u32::MAX);
    let caught_up = after(healed, rest + RECOVERY);
    let paused = evidence.pauses.iter().filter(|pause| pause.endpoint == endpoint);
    let resumed = paused.filter_map(|pause| pause.enabled).max();
    let late = |turn: &&Turn<'_>| {
        let due = resumed.map_or(turn.due, |at| turn.due.max(at));
        turn.began > caught_up && since(turn.began, due) > PUNCTUAL
    };
    let subscriber = evidence.subscribers.iter().find(|s| s.endpoint == endpoint);
    let path = subscriber.map_or(endpoint, |subscriber| subscriber.path.as_str());
    turns
        .iter()
        .filter(late)
        .map(|turn| {
            let (id, late) = (&turn.delivery.id, since(turn.began, turn.due));
            let then = since(turn.began, healed);
            format!(
                "{id} to {path} was still {late:?} late {then:?} after the faults, with {backlog} \
                 waiting and {done} done within {RECOVERY:?}"
            )
        })
        .collect()
}

fn turns(delivery: &Delivery) -> impl Iterator<Item = Turn<'_>> {
    let planned = delivery.attempts.iter().map(|attempt| attempt.next_attempt_at);
    let due = std::iter::once(Some(delivery.created_at)).chain(planned);
    delivery
        .attempts
        .iter()
        .zip(due)
        .filter_map(move |(attempt, due)| Some(Turn { delivery, due: due?, began: attempt.at }))
}
