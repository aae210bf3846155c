//! I12: what a node uses stays under its named bounds, however many faults it has seen.

use std::collections::HashMap;
use std::fmt::Display;

use super::Violations;
use super::held_up::{meanwhile, resent};
use crate::evidence::{Evidence, Vitals};
use crate::fault::Kind;

/// Memory of one node that is no mapped file, in KiB. The store's file is mapped, and grows while a
/// frozen process holds on to an old state of it.
const MOST_ANONYMOUS_KIB: u64 = 256 * 1024;
/// Open descriptors of one node.
const MOST_DESCRIPTORS: u64 = 1_024;
/// Threads of one node.
const MOST_THREADS: u64 = 64;
/// Requests under way to one endpoint: 16 of its owner, and as many of a stale one.
const MOST_IN_FLIGHT: usize = 32;

/// I12: memory, descriptors and threads of every node, and requests under way to each endpoint.
#[must_use]
pub fn kept(evidence: &Evidence) -> Violations {
    let mut violations = Vec::new();
    for vitals in &evidence.vitals {
        violations.extend(over(vitals, "KiB of memory", vitals.anonymous_kib, MOST_ANONYMOUS_KIB));
        violations.extend(over(vitals, "descriptors", vitals.descriptors, MOST_DESCRIPTORS));
        violations.extend(over(vitals, "threads", vitals.threads, MOST_THREADS));
    }
    for (path, most) in most_in_flight(evidence) {
        if most > MOST_IN_FLIGHT {
            violations.push(format!("{most} requests were under way at once to {path}"));
        }
    }
    violations
}

/// The most of each that any node used: KiB of memory, descriptors, threads.
#[must_use]
pub fn peaks(evidence: &Evidence) -> (u64, u64, u64) {
    let most = |of: fn(&Vitals) -> u64| evidence.vitals.iter().map(of).max().unwrap_or_default();
    (most(|v| v.anonymous_kib), most(|v| v.descriptors), most(|v| v.threads))
}

fn over(
    vitals: &Vitals,
    what: &str,
    used: u64,
    most: impl Display + PartialOrd<u64>,
) -> Option<String> {
    let (at, node) = (vitals.at, &vitals.node);
    (most < used).then(|| format!("{node} had {used} {what} at {at}, more than {most}"))
}

/// Of each path, as far as the nodes know. What never ended, because its node was killed or cut off,
/// is not counted, nor what TCP sent again when its node had given it up. Where the network broke
/// meanwhile, the receiver may hear much later that the node gave up, after the timeout.
fn most_in_flight(evidence: &Evidence) -> HashMap<&str, usize> {
    let mut turns: HashMap<&str, Vec<_>> = HashMap::new();
    for request in evidence.received.iter().filter(|r| !resent(evidence, r)) {
        let Some(took) = request.duration() else { continue };
        let broken = |kind| kind == Kind::ApartFromWorld;
        let took = match meanwhile(evidence, broken, request.arrived, took) {
            true => took.min(evidence.schedule.timeout),
            false => took,
        };
        let turn = [(request.began, 1), (request.began + took, -1)];
        turns.entry(&request.path).or_default().extend(turn);
    }
    let most = |mut turns: Vec<(_, isize)>| {
        turns.sort_unstable();
        let running = turns.iter().scan(0, |now, (_, turn)| {
            *now += turn;
            Some(*now)
        });
        running.max().and_then(|most| usize::try_from(most).ok()).unwrap_or_default()
    };
    turns.into_iter().map(|(path, turns)| (path, most(turns))).collect()
}
