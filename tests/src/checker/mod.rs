//! What must always hold, one function an invariant, over the [`Evidence`] of a run.
//!
//! | | Invariant | In |
//! |---|---|---|
//! | I1 | nothing accepted is lost | [`loss`] |
//! | I1 | every receipt counts the deliveries | [`receipts`] |
//! | I2 | every request belongs to an event, byte for byte, and is signed | [`loss`] |
//! | I3 | one owner at a time | [`tenure`] |
//! | I4 | attempts are bounded and numbered without a gap | [`attempts`] |
//! | I5 | attempts are spaced as the schedule says | [`attempts`] |
//! | I6 | no request after success; every duplicate has its reason | [`duplicates`] |
//! | I7 | no attempt starts once an endpoint is disabled | [`disabling`] |
//! | I8 | a disabling brings at least one email | [`disabling`] |
//! | I9 | no attempt outlasts its timeout | [`attempts`] |
//! | I12 | every node keeps its bounds | [`bounds`] |
//! | I13 | the backlog is worked off | [`backlog`] |
//! | – | one idempotency key, one event | [`loss`] |
//! | – | replays repeat what was there, once | [`replays`] |
//!
//! The others of the list are no matter of one run's logs: tests of their own show them. Where
//! the clocks of a run differ, the invariants that compare times are [`left_out`].

pub mod attempts;
pub mod backlog;
pub mod bounds;
pub mod disabling;
pub mod duplicates;
mod held_up;
pub mod loss;
pub mod receipts;
pub mod replays;
pub mod tenure;

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::client::records::{Delivery, Endpoint};
use crate::evidence::{Evidence, Subscriber};
use crate::fault::Fault;
use crate::load;
use crate::wait::millis;

/// What is wrong, in sentences; empty when nothing is.
pub type Violations = Vec<String>;

/// An invariant.
#[derive(Clone, Copy, Debug)]
pub struct Invariant {
    /// What must hold.
    pub name: &'static str,
    /// What speaks against it.
    pub check: fn(&Evidence) -> Violations,
    /// Whether it compares times of different clocks, and so means nothing where they differ.
    pub by_the_clock: bool,
}

/// Every invariant.
pub const INVARIANTS: [Invariant; 16] = [
    always("I1: nothing accepted is lost", loss::nothing_is_lost),
    always("I1: every receipt is kept", receipts::kept),
    always("I2: every request is an event's, and signed", loss::nothing_is_made_up),
    by_the_clock("I3: one owner at a time", tenure::one_owner_at_a_time),
    always("I3: epochs only grow, and each is of one node", tenure::epochs_only_grow),
    always("I4: attempts are numbered without a gap", attempts::numbered),
    by_the_clock("I5: attempts keep the schedule", attempts::spaced),
    by_the_clock("I6: every duplicate has its reason", duplicates::explained),
    always("I6: where only clocks differ, one success", duplicates::succeeded_once),
    by_the_clock("I7: a disabled endpoint is left alone", disabling::left_alone),
    always("I8: a disabling brings an email", disabling::told),
    always("I9: no attempt outlasts its timeout", attempts::bounded),
    always("I12: every node keeps its bounds", bounds::kept),
    by_the_clock("I13: the backlog is worked off", backlog::worked_off),
    always("one key, one event", loss::same_key_same_event),
    always("a replay repeats what was there, once", replays::repeated_once),
];

/// How far two notes of one moment may lie apart, made by the receiver, a node, or a test.
const SKEW: Duration = millis(150);
/// How many violations of one invariant are shown.
const SHOWN: usize = 10;

const fn always(name: &'static str, check: fn(&Evidence) -> Violations) -> Invariant {
    Invariant { name, check, by_the_clock: false }
}

const fn by_the_clock(name: &'static str, check: fn(&Evidence) -> Violations) -> Invariant {
    Invariant { name, check, by_the_clock: true }
}

/// Checks every invariant.
///
/// # Errors
/// A report of all that is violated.
pub fn check(evidence: &Evidence) -> Result<()> {
    let mut report = String::new();
    for (name, violations) in violated(evidence) {
        let _ = writeln!(report, "{name}: violated {} times", violations.len());
        for violation in violations.iter().take(SHOWN) {
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

/// What is violated.
#[must_use]
pub fn violated(evidence: &Evidence) -> Vec<(&'static str, Violations)> {
    let worth = std::iter::once(("the run shows something", worth_checking(evidence)));
    let fit = INVARIANTS.iter().filter(|invariant| evidence.one_clock || !invariant.by_the_clock);
    let all = fit.map(|invariant| (invariant.name, (invariant.check)(evidence)));
    worth.chain(all).filter(|(_, violations)| !violations.is_empty()).collect()
}

/// The invariants that a run cannot show, because its clocks differed.
#[must_use]
pub fn left_out(evidence: &Evidence) -> Vec<&'static str> {
    let left_out = |i: &&Invariant| i.by_the_clock && !evidence.one_clock;
    INVARIANTS.iter().filter(left_out).map(|invariant| invariant.name).collect()
}

/// A run without events or faults would satisfy anything.
fn worth_checking(evidence: &Evidence) -> Violations {
    let accepted = load::accepted(&evidence.publications);
    let disabled = evidence.store.endpoints.iter().filter(|e| exhausted(e)).count();
    let replays = evidence.replays.iter().filter(|run| run.replay.is_some()).count();
    let changes = evidence.subscribers.iter().map(Subscriber::changes).sum();
    let least = &evidence.least;
    let mut violations: Violations = [
        ("accepted events", accepted, least.events),
        ("disabled endpoints", disabled, least.disabled),
        ("replays", replays, least.replays),
        ("changes of subscriptions", changes, least.changes),
    ]
    .into_iter()
    .filter(|(_, n, least)| n < least)
    .map(|(what, n, least)| format!("{n} {what}; at least {least} are needed"))
    .collect();
    for &(kind, planned) in &least.faults {
        let made = evidence.faults.iter().filter(|fault| fault.kind == kind).count();
        if made < planned {
            violations.push(format!("{made} faults of the kind {kind:?}; {planned} were planned"));
        }
    }
    violations.extend(in_the_dark(evidence));
    violations
}

/// Nothing is seen of the owners where attempts do not say under which fence they were made.
fn in_the_dark(evidence: &Evidence) -> Violations {
    if evidence.sightings.is_empty() {
        return Vec::new();
    }
    let deliveries = evidence.store.deliveries.iter();
    let unsigned = |delivery: &&Delivery| delivery.attempts.iter().any(|a| a.epoch.is_none());
    let dark = deliveries.filter(unsigned);
    dark.map(|delivery| format!("{} has attempts without an epoch", delivery.id)).collect()
}

fn exhausted(endpoint: &Endpoint) -> bool {
    endpoint.disabled.as_ref().is_some_and(|disabled| disabled.reason == "exhausted")
}

#[cfg(test)]
mod tests;
