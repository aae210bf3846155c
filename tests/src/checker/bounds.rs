//! I12: a node's resource usage stays within named limits, however many faults it has seen.

use std::collections::HashMap;
use std::fmt::Display;

use super::Violations;
use super::delayed::{meanwhile, retransmitted};
use crate::evidence::{Evidence, Usage};
use crate::fault::Kind;

/// Anonymous memory of one node. Mapped files do not count: the store's file grows while a frozen
/// process keeps an old snapshot of it.
const MAX_ANONYMOUS_KIB: u64 = 256 * 1024;
const MAX_DESCRIPTORS: u64 = 1_024;
const MAX_THREADS: u64 = 64;
/// Requests in flight to one endpoint: 16 from its owner, and as many from a stale owner.
const MAX_IN_FLIGHT: usize = 32;

/// I12: memory, descriptors and threads of every node, and requests in flight to each endpoint.
#[must_use]
pub fn hold(evidence: &Evidence) -> Violations {
    let mut violations = Vec::new();
    for usage in &evidence.usage {
        violations.extend(exceeds(usage, "KiB of memory", usage.anonymous_kib, MAX_ANONYMOUS_KIB));
        violations.extend(exceeds(usage, "descriptors", usage.descriptors, MAX_DESCRIPTORS));
        violations.extend(exceeds(usage, "threads", usage.threads, MAX_THREADS));
    }
    for (path, most) in max_in_flight(evidence) {
        if most > MAX_IN_FLIGHT {
            violations.push(format!("{most} requests were in flight at once to {path}"));
        }
    }
    violations
}

/// The peak usage of any node: KiB of anonymous memory, descriptors, threads.
#[must_use]
pub fn peaks(evidence: &Evidence) -> (u64, u64, u64) {
    let most = |of: fn(&Usage) -> u64| evidence.usage.iter().map(of).max().unwrap_or_default();
    (most(|v| v.anonymous_kib), most(|v| v.descriptors), most(|v| v.threads))
}

fn exceeds(
    usage: &Usage,
    what: &str,
    used: u64,
    most: impl Display + PartialOrd<u64>,
) -> Option<String> {
    let (at, node) = (usage.at, &usage.node);
    (most < used).then(|| format!("{node} had {used} {what} at {at}; the limit is {most}"))
}

/// The maximum number of requests in flight per path, as far as the nodes know. Not counted are
/// requests that never ended, because their node was killed or partitioned, and TCP retransmissions
/// of abandoned requests. After a partition, the receiver may learn long after the timeout that the
/// node gave up.
fn max_in_flight(evidence: &Evidence) -> HashMap<&str, usize> {
    let mut changes: HashMap<&str, Vec<_>> = HashMap::new();
    for request in evidence.received.iter().filter(|r| !retransmitted(evidence, r)) {
        let Some(took) = request.duration() else { continue };
        let partitioned = |kind| kind == Kind::FullPartition;
        let took = match meanwhile(evidence, partitioned, request.arrived, took) {
            true => took.min(evidence.schedule.timeout),
            false => took,
        };
        let change = [(request.began, 1), (request.began + took, -1)];
        changes.entry(&request.path).or_default().extend(change);
    }
    let most = |mut changes: Vec<(_, isize)>| {
        changes.sort_unstable();
        let running = changes.iter().scan(0, |now, (_, change)| {
            *now += change;
            Some(*now)
        });
        running.max().and_then(|most| usize::try_from(most).ok()).unwrap_or_default()
    };
    changes.into_iter().map(|(path, changes)| (path, most(changes))).collect()
}
