//! I3: one owner at a time. And who it was at a given moment.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use jiff::Timestamp;

use super::Violations;
use crate::client::records::{Attempt, Delivery};
use crate::evidence::{Evidence, after, since};
use crate::wait::millis;

/// Times are recorded in whole milliseconds.
const ROUNDING: Duration = millis(2);

/// I3 by the clock: what two owners at once would do. Attempts of one delivery overlap, or an
/// attempt under an older epoch was still going on, and is on record, when one under a newer
/// epoch had begun.
#[must_use]
pub fn one_owner_at_a_time(evidence: &Evidence) -> Violations {
    let mut violations: Violations = evidence.store.deliveries.iter().flat_map(overlaps).collect();
    for (shard, attempts) in by_shard(evidence) {
        violations.extend(stale_commits(shard, attempts));
    }
    violations
}

/// I3 without any clock: one node per epoch, and no delivery goes back to an older epoch.
#[must_use]
pub fn epochs_only_grow(evidence: &Evidence) -> Violations {
    let mut violations: Violations = evidence.store.deliveries.iter().flat_map(backwards).collect();
    for (shard, tenures) in Tenures::of(evidence).shards {
        for (epoch, tenure) in tenures.iter().filter(|(_, tenure)| tenure.nodes.len() > 1) {
            violations
                .push(format!("shard {shard}: epoch {epoch} is of each of {:?}", tenure.nodes));
        }
    }
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

/// A newer owner's first attempt shows that the shard had been claimed by then, and an attempt
/// is committed after its end.
fn stale_commits(shard: u64, mut attempts: Vec<&Attempt>) -> Violations {
    attempts.sort_by_key(|attempt| attempt.epoch);
    let mut violations = Vec::new();
    let mut claimed: Option<(Option<u64>, Timestamp)> = None;
    for epoch in attempts.chunk_by(|a, b| a.epoch == b.epoch).rev() {
        for stale in epoch {
            if let Some((newer, begun)) = claimed.filter(|c| ended(stale) > after(c.1, ROUNDING)) {
                let (older, late) = (stale.epoch, since(ended(stale), begun));
                violations.push(format!(
                    "shard {shard}: {older:?} committed what ended {late:?} after {newer:?} began"
                ));
            }
        }
        let first = epoch.iter().map(|attempt| attempt.at).min();
        let begun = claimed.map(|(_, at)| at).into_iter().chain(first).min();
        claimed = begun.map(|begun| (epoch[0].epoch, begun));
    }
    violations
}

fn backwards(delivery: &Delivery) -> Violations {
    delivery
        .attempts
        .windows(2)
        .filter(|pair| pair[1].epoch < pair[0].epoch)
        .map(|pair| {
            let ((a, newer), (b, older)) =
                ((pair[0].number, pair[0].epoch), (pair[1].number, pair[1].epoch));
            let id = &delivery.id;
            format!("attempt {b} of {id} is of epoch {older:?}, attempt {a} of {newer:?}")
        })
        .collect()
}

fn by_shard(evidence: &Evidence) -> BTreeMap<u64, Vec<&Attempt>> {
    let mut shards: BTreeMap<u64, Vec<&Attempt>> = BTreeMap::new();
    for attempt in evidence.store.deliveries.iter().flat_map(|delivery| &delivery.attempts) {
        if let Some(shard) = attempt.shard {
            shards.entry(shard).or_default().push(attempt);
        }
    }
    shards
}

/// Who owned what and when, put together from the attempts on record and from what the nodes
/// said.
#[derive(Debug)]
pub struct Tenures {
    shards: BTreeMap<u64, BTreeMap<u64, Tenure>>,
    /// Of each endpoint.
    shard_of: HashMap<String, u64>,
    /// Of each run of a node that was seen.
    names: HashMap<String, String>,
}

/// What is known of one epoch.
#[derive(Debug)]
struct Tenure {
    nodes: Vec<String>,
    first_seen: Timestamp,
    last_seen: Timestamp,
}

impl Tenures {
    /// Reads them from a run.
    #[must_use]
    pub fn of(evidence: &Evidence) -> Self {
        let mut tenures =
            Self { shards: BTreeMap::new(), shard_of: HashMap::new(), names: HashMap::new() };
        for delivery in &evidence.store.deliveries {
            for attempt in &delivery.attempts {
                let (Some(shard), Some(epoch)) = (attempt.shard, attempt.epoch) else { continue };
                let node = attempt.node.as_deref().unwrap_or_default();
                tenures.note(shard, epoch, node, attempt.at, ended(attempt));
                tenures.shard_of.insert(delivery.endpoint_id.clone(), shard);
            }
        }
        for sighting in &evidence.sightings {
            for member in &sighting.cluster.nodes {
                tenures.names.insert(member.id.clone(), member.name.clone());
            }
            for owner in &sighting.cluster.owners {
                tenures.note(owner.shard, owner.epoch, &owner.node, sighting.at, sighting.at);
            }
        }
        tenures
    }

    fn note(&mut self, shard: u64, epoch: u64, node: &str, from: Timestamp, to: Timestamp) {
        let tenure = self.shards.entry(shard).or_default().entry(epoch).or_insert_with(|| Tenure {
            nodes: Vec::new(),
            first_seen: from,
            last_seen: to,
        });
        if !tenure.nodes.iter().any(|known| known == node) {
            tenure.nodes.push(node.to_owned());
        }
        tenure.first_seen = tenure.first_seen.min(from);
        tenure.last_seen = tenure.last_seen.max(to);
    }

    /// Whether the node of this name may have owned the endpoint's shard at `time`. Whatever is
    /// not known may have been.
    #[must_use]
    pub fn may_have_owned(&self, name: &str, endpoint: &str, time: Timestamp) -> bool {
        let Some(tenures) = self.shard_of.get(endpoint).and_then(|shard| self.shards.get(shard))
        else {
            return true;
        };
        let mut before = Timestamp::MIN;
        let mut epochs = tenures.iter().peekable();
        let mut last_epoch = None;
        while let Some((&epoch, tenure)) = epochs.next() {
            let until = epochs.peek().map_or(Timestamp::MAX, |(_, next)| next.first_seen);
            let gap = last_epoch.is_none_or(|last| epoch > last + 1);
            // In a gap there was an owner whom nobody saw.
            if gap && before <= time && time <= tenure.first_seen {
                return true;
            }
            let known = tenure.nodes.iter().filter_map(|node| self.names.get(node));
            let is_it = known.clone().next().is_none() || known.clone().any(|known| known == name);
            if before <= time && time <= until && is_it {
                return true;
            }
            (before, last_epoch) = (tenure.last_seen, Some(epoch));
        }
        false
    }

    /// Whether the endpoint's shard may have changed hands between these times.
    #[must_use]
    pub fn may_have_changed(&self, endpoint: &str, from: Timestamp, to: Timestamp) -> bool {
        let Some(tenures) = self.shard_of.get(endpoint).and_then(|shard| self.shards.get(shard))
        else {
            return false;
        };
        let pairs = tenures.values().zip(tenures.values().skip(1));
        let mut changes = pairs.map(|(old, new)| (old.last_seen, new.first_seen));
        changes.any(|(earliest, latest)| earliest <= to && latest >= from)
    }
}

fn ended(attempt: &Attempt) -> Timestamp {
    after(attempt.at, millis(attempt.duration_ms))
}
