//! I3: one owner at a time. Also answers which node owned a shard at a given time.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use jiff::Timestamp;

use super::Violations;
use crate::client::records::{Attempt, Delivery};
use crate::evidence::{Evidence, after, since};
use crate::wait::millis;

/// Times are recorded in whole milliseconds.
const ROUNDING: Duration = millis(2);

/// I3 by timestamps. Two owners at once would show as overlapping attempts of one delivery, or as a
/// recorded attempt under an older epoch that ended after one under a newer epoch had begun.
#[must_use]
pub fn one_owner_at_a_time(evidence: &Evidence) -> Violations {
    let mut violations: Violations = evidence.store.deliveries.iter().flat_map(overlaps).collect();
    for (shard, attempts) in by_shard(evidence) {
        violations.extend(stale_commits(shard, attempts));
    }
    violations
}

/// I3 without timestamps: one node per epoch, epochs never decrease within a delivery, and no
/// attempt is recorded under an epoch already known to be superseded.
#[must_use]
pub fn epochs_only_grow(evidence: &Evidence) -> Violations {
    let mut violations: Violations =
        evidence.store.deliveries.iter().flat_map(decreasing_epochs).collect();
    violations.extend(late_commits(evidence));
    for (shard, epochs) in OwnershipHistory::of(evidence).shards {
        for (epoch, span) in epochs.iter().filter(|(_, span)| span.nodes.len() > 1) {
            violations.push(format!(
                "shard {shard}: epoch {epoch} belongs to several nodes: {:?}",
                span.nodes
            ));
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

/// A newer owner's first attempt shows that the shard had been claimed by then. An attempt is
/// committed after it ends.
fn stale_commits(shard: u64, mut attempts: Vec<&Attempt>) -> Violations {
    attempts.sort_by_key(|attempt| attempt.epoch);
    let mut violations = Vec::new();
    let mut claimed: Option<(Option<u64>, Timestamp)> = None;
    for epoch in attempts.chunk_by(|a, b| a.epoch == b.epoch).rev() {
        for stale in epoch {
            if let Some((newer, begun)) = claimed.filter(|c| ended(stale) > after(c.1, ROUNDING)) {
                let (older, late) = (stale.epoch, since(ended(stale), begun));
                violations.push(format!(
                    "shard {shard}: epoch {older:?} committed an attempt that ended {late:?} after epoch \
                     {newer:?} began"
                ));
            }
        }
        let first = epoch.iter().map(|attempt| attempt.at).min();
        let begun = claimed.map(|(_, at)| at).into_iter().chain(first).min();
        claimed = begun.map(|begun| (epoch[0].epoch, begun));
    }
    violations
}

fn decreasing_epochs(delivery: &Delivery) -> Violations {
    delivery
        .attempts
        .windows(2)
        .filter(|pair| pair[1].epoch < pair[0].epoch)
        .map(|pair| {
            let ((a, newer), (b, older)) =
                ((pair[0].number, pair[0].epoch), (pair[1].number, pair[1].epoch));
            let id = &delivery.id;
            format!("attempt {b} of {id} has epoch {older:?}, after {newer:?} of attempt {a}")
        })
        .collect()
}

/// Attempts recorded after their shard was known to have a newer owner.
fn late_commits(evidence: &Evidence) -> Violations {
    let deliveries = evidence.store.deliveries.iter().map(|d| (d.id.as_str(), d));
    let deliveries: HashMap<&str, &Delivery> = deliveries.collect();
    let mut violations = Vec::new();
    for snapshot in &evidence.snapshots {
        let owners = snapshot.cluster.owners.iter().map(|owner| (owner.shard, owner.epoch));
        let epochs: HashMap<u64, u64> = owners.collect();
        for then in &snapshot.pending {
            let Some(now) = deliveries.get(then.id.as_str()) else { continue };
            for attempt in now.attempts.iter().filter(|a| a.number > then.attempt_count) {
                let newest = attempt.shard.and_then(|shard| epochs.get(&shard)).copied();
                if attempt.epoch < newest {
                    let (number, older) = (attempt.number, attempt.epoch);
                    violations.push(format!(
                        "attempt {number} of {} was recorded under epoch {older:?} after {newest:?} was known",
                        then.id
                    ));
                }
            }
        }
    }
    violations
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

/// Shard owners over time, from the recorded attempts and the ownership that nodes reported.
#[derive(Debug)]
pub struct OwnershipHistory {
    shards: BTreeMap<u64, BTreeMap<u64, EpochSpan>>,
    /// By endpoint id.
    shard_of: HashMap<String, u64>,
    /// Node names by boot id.
    names: HashMap<String, String>,
}

/// The known extent of one epoch.
#[derive(Debug)]
struct EpochSpan {
    nodes: Vec<String>,
    first_seen: Timestamp,
    last_seen: Timestamp,
}

impl OwnershipHistory {
    #[must_use]
    pub fn of(evidence: &Evidence) -> Self {
        let mut history =
            Self { shards: BTreeMap::new(), shard_of: HashMap::new(), names: HashMap::new() };
        for delivery in &evidence.store.deliveries {
            for attempt in &delivery.attempts {
                let (Some(shard), Some(epoch)) = (attempt.shard, attempt.epoch) else { continue };
                let node = attempt.node.as_deref().unwrap_or_default();
                history.note(shard, epoch, node, attempt.at, ended(attempt));
                history.shard_of.insert(delivery.endpoint_id.clone(), shard);
            }
        }
        for sample in &evidence.cluster_samples {
            for member in &sample.cluster.nodes {
                history.names.insert(member.id.clone(), member.name.clone());
            }
            for owner in &sample.cluster.owners {
                history.note(owner.shard, owner.epoch, &owner.node, sample.at, sample.at);
            }
        }
        history
    }

    fn note(&mut self, shard: u64, epoch: u64, node: &str, from: Timestamp, to: Timestamp) {
        let span = self
            .shards
            .entry(shard)
            .or_default()
            .entry(epoch)
            .or_insert_with(|| EpochSpan { nodes: Vec::new(), first_seen: from, last_seen: to });
        if !span.nodes.iter().any(|known| known == node) {
            span.nodes.push(node.to_owned());
        }
        span.first_seen = span.first_seen.min(from);
        span.last_seen = span.last_seen.max(to);
    }

    /// Whether the node of this name may have owned the endpoint's shard at `time`. True if
    /// unknown.
    #[must_use]
    pub fn may_have_owned(&self, name: &str, endpoint: &str, time: Timestamp) -> bool {
        let Some(epochs) = self.shard_of.get(endpoint).and_then(|shard| self.shards.get(shard))
        else {
            return true;
        };
        let mut before = Timestamp::MIN;
        let mut epochs = epochs.iter().peekable();
        let mut last_epoch = None;
        while let Some((&epoch, span)) = epochs.next() {
            let until = epochs.peek().map_or(Timestamp::MAX, |(_, next)| next.first_seen);
            let gap = last_epoch.is_none_or(|last| epoch > last + 1);
            // A gap in the epochs means an owner that was never observed.
            if gap && before <= time && time <= span.first_seen {
                return true;
            }
            let known = span.nodes.iter().filter_map(|node| self.names.get(node));
            let is_it = known.clone().next().is_none() || known.clone().any(|known| known == name);
            if before <= time && time <= until && is_it {
                return true;
            }
            (before, last_epoch) = (span.last_seen, Some(epoch));
        }
        false
    }

    /// Whether the endpoint's shard may have changed owner between these times.
    #[must_use]
    pub fn may_have_changed(&self, endpoint: &str, from: Timestamp, to: Timestamp) -> bool {
        let Some(epochs) = self.shard_of.get(endpoint).and_then(|shard| self.shards.get(shard))
        else {
            return false;
        };
        let pairs = epochs.values().zip(epochs.values().skip(1));
        let mut changes = pairs.map(|(old, new)| (old.last_seen, new.first_seen));
        changes.any(|(earliest, latest)| earliest <= to && latest >= from)
    }
}

fn ended(attempt: &Attempt) -> Timestamp {
    after(attempt.at, millis(attempt.duration_ms))
}
