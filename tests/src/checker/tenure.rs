//! I3: one owner at a time.

use std::collections::{BTreeMap, HashMap};

use super::Violations;
use crate::client::records::{Attempt, Delivery};
use crate::evidence::{Evidence, after, since};
use crate::wait::millis;

/// Times are recorded in whole milliseconds.
const ROUNDING: std::time::Duration = millis(2);

/// I3: per shard, epochs only grow, one node per epoch, no commit of an older epoch after a
/// newer one: as far as attempts name the fence that they were committed under. Where they do
/// not, what two owners would do shows all the same: attempts of one delivery that overlap.
#[must_use]
pub fn one_owner_at_a_time(evidence: &Evidence) -> Violations {
    let mut violations: Violations = evidence.store.deliveries.iter().flat_map(overlaps).collect();
    violations.extend(epochs(evidence));
    violations
}

fn overlaps(delivery: &Delivery) -> Violations {
    delivery
        .attempts
        .windows(2)
        .filter(|pair| after(pair[1].at, ROUNDING) < ended(&pair[0]))
        .map(|pair| {
            let overlap = since(ended(&pair[0]), pair[1].at);
            let (a, b) = (pair[0].number, pair[1].number);
            format!("attempts {a} and {b} of {} overlap by {overlap:?}", delivery.id)
        })
        .collect()
}

fn epochs(evidence: &Evidence) -> Violations {
    let mut shards: BTreeMap<u64, Vec<&Attempt>> = BTreeMap::new();
    for attempt in evidence.store.deliveries.iter().flat_map(|delivery| &delivery.attempts) {
        if let Some(shard) = attempt.shard {
            shards.entry(shard).or_default().push(attempt);
        }
    }
    let mut violations = Vec::new();
    for (shard, mut attempts) in shards {
        attempts.sort_by_key(|attempt| ended(attempt));
        for pair in attempts.windows(2).filter(|pair| pair[1].epoch < pair[0].epoch) {
            let (older, newer) = (pair[1].epoch, pair[0].epoch);
            violations.push(format!("shard {shard}: {older:?} committed after {newer:?}"));
        }
        let mut owners: HashMap<Option<u64>, &Option<String>> = HashMap::new();
        for attempt in attempts {
            let owner = *owners.entry(attempt.epoch).or_insert(&attempt.node);
            if *owner != attempt.node {
                let (epoch, node) = (attempt.epoch, &attempt.node);
                violations.push(format!("shard {shard}: {epoch:?} is of {owner:?} and {node:?}"));
            }
        }
    }
    violations
}

fn ended(attempt: &Attempt) -> jiff::Timestamp {
    after(attempt.at, millis(attempt.duration_ms))
}
