//! The invariants, one function each, checked against the [`Evidence`] of a run.
//!
//! | | Invariant | In |
//! |---|---|---|
//! | I1 | nothing accepted is lost | [`loss`] |
//! | I1 | every receipt has the right number of deliveries | [`receipts`] |
//! | I2 | every request carries an event's exact payload and is signed | [`loss`] |
//! | I3 | one owner at a time | [`ownership`] |
//! | I4 | attempts are bounded and numbered without a gap | [`attempts`] |
//! | I5 | attempts follow the retry schedule | [`attempts`] |
//! | I6 | no request after success; every duplicate has a reason | [`duplicates`] |
//! | I7 | no attempt starts once an endpoint is disabled | [`disabling`] |
//! | I8 | disabling sends at least one email | [`disabling`] |
//! | I9 | no attempt outlasts its timeout | [`attempts`] |
//! | I12 | every node stays within its limits | [`bounds`] |
//! | I13 | the backlog is drained | [`backlog`] |
//! | – | one idempotency key, one event | [`loss`] |
//! | – | replays repeat past deliveries, once | [`replays`] |
//!
//! The remaining invariants cannot be checked from the logs of one run and have their own tests. If
//! clocks differ in a run, the invariants that compare times are [`skipped`].

pub mod attempts;
pub mod backlog;
pub mod bounds;
mod delayed;
pub mod disabling;
pub mod duplicates;
pub mod loss;
pub mod ownership;
pub mod receipts;
pub mod replays;

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::client::records::{Delivery, Endpoint};
use crate::evidence::{Evidence, Subscriber};
use crate::fault::Fault;
use crate::load;
use crate::wait::millis;

/// Violations as sentences; empty if the invariant holds.
pub type Violations = Vec<String>;

#[derive(Clone, Copy, Debug)]
pub struct Invariant {
    pub name: &'static str,
    pub check: fn(&Evidence) -> Violations,
    /// Whether it compares times of different clocks, and is meaningless if they differ.
    pub needs_one_clock: bool,
}

pub const INVARIANTS: [Invariant; 16] = [
    always("I1: nothing accepted is lost", loss::nothing_is_lost),
    always("I1: every receipt has the right count", receipts::match_deliveries),
    always("I2: every request is an event's, and signed", loss::nothing_is_fabricated),
    needs_one_clock("I3: one owner at a time", ownership::one_owner_at_a_time),
    always("I3: epochs only grow, and each is of one node", ownership::epochs_only_grow),
    always("I4: attempts are numbered without a gap", attempts::numbered),
    needs_one_clock("I5: attempts follow the schedule", attempts::spaced),
    needs_one_clock("I6: every duplicate has a reason", duplicates::explained),
    always("I6: with differing clocks, one success", duplicates::succeeded_once),
    needs_one_clock("I7: no attempt to a disabled endpoint", disabling::no_attempts_while_disabled),
    always("I8: disabling sends an email", disabling::notified),
    always("I9: no attempt outlasts its timeout", attempts::within_timeout),
    always("I12: every node stays within its limits", bounds::hold),
    needs_one_clock("I13: the backlog is drained", backlog::drained),
    always("one key, one event", loss::same_key_same_event),
    always("a replay repeats past deliveries, once", replays::repeated_once),
];

/// The largest difference between timestamps of one moment taken by the receiver, a node and a
/// test.
const SKEW: Duration = millis(150);
/// The maximum number of violations shown per invariant.
const MAX_SHOWN: usize = 10;

const fn always(name: &'static str, check: fn(&Evidence) -> Violations) -> Invariant {
    Invariant { name, check, needs_one_clock: false }
}

const fn needs_one_clock(name: &'static str, check: fn(&Evidence) -> Violations) -> Invariant {
    Invariant { name, check, needs_one_clock: true }
}

/// Checks every invariant. The error is a report of all violations.
pub fn check(evidence: &Evidence) -> Result<()> {
    let mut report = String::new();
    for (name, violations) in violated(evidence) {
        let _ = writeln!(report, "{name}: violated {} times", violations.len());
        for violation in violations.iter().take(MAX_SHOWN) {
            let _ = writeln!(report, "  {violation}");
        }
    }
    if report.is_empty() {
        return Ok(());
    }
    for Fault { kind, node, from, to } in &evidence.faults {
        let _ = writeln!(report, "{kind:?} of {node} from {from} to {to}");
    }
    bail!("{report}")
}

#[must_use]
pub fn violated(evidence: &Evidence) -> Vec<(&'static str, Violations)> {
    let coverage = std::iter::once(("the run has enough coverage", missing_coverage(evidence)));
    let applicable =
        INVARIANTS.iter().filter(|invariant| evidence.clocks_agree || !invariant.needs_one_clock);
    let all = applicable.map(|invariant| (invariant.name, (invariant.check)(evidence)));
    coverage.chain(all).filter(|(_, violations)| !violations.is_empty()).collect()
}

/// The invariants skipped because the clocks of the run differed.
#[must_use]
pub fn skipped(evidence: &Evidence) -> Vec<&'static str> {
    let skipped = |i: &&Invariant| i.needs_one_clock && !evidence.clocks_agree;
    INVARIANTS.iter().filter(skipped).map(|invariant| invariant.name).collect()
}

/// A run without events or faults would satisfy every invariant.
fn missing_coverage(evidence: &Evidence) -> Violations {
    let accepted = load::accepted(&evidence.publications);
    let disabled = evidence.store.endpoints.iter().filter(|e| exhausted(e)).count();
    let replays = evidence.replays.iter().filter(|run| run.replay.is_some()).count();
    let changes = evidence.subscribers.iter().map(Subscriber::changes).sum();
    let minimum = &evidence.minimum;
    let mut violations: Violations = [
        ("accepted events", accepted, minimum.events),
        ("disabled endpoints", disabled, minimum.disabled),
        ("replays", replays, minimum.replays),
        ("subscription changes", changes, minimum.changes),
    ]
    .into_iter()
    .filter(|(_, n, least)| n < least)
    .map(|(what, n, least)| format!("{n} {what}, but at least {least} are required"))
    .collect();
    for &(kind, planned) in &minimum.faults {
        let made = evidence.faults.iter().filter(|fault| fault.kind == kind).count();
        if made < planned {
            violations.push(format!("{made} faults of kind {kind:?}, but {planned} were planned"));
        }
    }
    violations.extend(attempts_without_epoch(evidence));
    violations
}

/// Without the fence in the attempts, ownership cannot be checked.
fn attempts_without_epoch(evidence: &Evidence) -> Violations {
    if evidence.cluster_samples.is_empty() {
        return Vec::new();
    }
    let deliveries = evidence.store.deliveries.iter();
    let unfenced = |delivery: &&Delivery| delivery.attempts.iter().any(|a| a.epoch.is_none());
    let found = deliveries.filter(unfenced);
    found.map(|delivery| format!("{} has attempts without an epoch", delivery.id)).collect()
}

fn exhausted(endpoint: &Endpoint) -> bool {
    endpoint.is_exhausted()
}

#[cfg(test)]
mod tests;
