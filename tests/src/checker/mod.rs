//! What must always hold, one function an invariant, over the [`Evidence`] of a run.
//!
//! | | Invariant | In |
//! |---|---|---|
//! | I1 | nothing accepted is lost | [`loss`] |
//! | I2 | every request belongs to an event, byte for byte, and is signed | [`loss`] |
//! | I3 | one owner at a time | [`tenure`] |
//! | I4 | attempts are bounded and numbered without a gap | [`attempts`] |
//! | I5 | attempts are spaced as the schedule says | [`attempts`] |
//! | I6 | no request after success; every duplicate has its reason | [`duplicates`] |
//! | I7 | no attempt starts once an endpoint is disabled | [`disabling`] |
//! | I8 | a disabling brings at least one email | [`disabling`] |
//! | I9 | no attempt outlasts its timeout | [`attempts`] |
//!
//! The others of the list are no matter of one run's logs: tests of their own show them.

pub mod attempts;
pub mod disabling;
pub mod duplicates;
pub mod loss;
pub mod tenure;

use std::fmt::Write as _;

use anyhow::{Result, bail};

use crate::evidence::Evidence;
use crate::load::Outcome;

/// What is wrong, in sentences; empty when nothing is.
pub type Violations = Vec<String>;

/// An invariant.
pub type Invariant = fn(&Evidence) -> Violations;

/// Every invariant and its name.
pub const INVARIANTS: [(&str, Invariant); 10] = [
    ("I1: nothing accepted is lost", loss::nothing_is_lost),
    ("I2: every request is an event's, and signed", loss::nothing_is_made_up),
    ("I3: one owner at a time", tenure::one_owner_at_a_time),
    ("I4: attempts are numbered without a gap", attempts::numbered),
    ("I5: attempts keep the schedule", attempts::spaced),
    ("I6: every duplicate has its reason", duplicates::explained),
    ("I7: a disabled endpoint is left alone", disabling::left_alone),
    ("I8: a disabling brings an email", disabling::told),
    ("I9: no attempt outlasts its timeout", attempts::bounded),
    ("same key, same event", loss::same_key_same_event),
];

/// How many violations of one invariant are shown.
const SHOWN: usize = 10;

/// Checks that the run was worth checking, and every invariant.
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
    if report.is_empty() { Ok(()) } else { bail!("{report}") }
}

/// What is violated.
#[must_use]
pub fn violated(evidence: &Evidence) -> Vec<(&'static str, Violations)> {
    let worth = std::iter::once(("the run shows something", worth_checking(evidence)));
    let all = INVARIANTS.iter().map(|&(name, invariant)| (name, invariant(evidence)));
    worth.chain(all).filter(|(_, violations)| !violations.is_empty()).collect()
}

/// A run without events or faults would satisfy anything.
fn worth_checking(evidence: &Evidence) -> Violations {
    let accepted = evidence
        .publications
        .iter()
        .map(|publication| match publication.outcome() {
            Outcome::Accepted(ids) => ids.len(),
            _ => 0,
        })
        .sum::<usize>();
    let disabled = evidence.store.endpoints.iter().filter(|e| exhausted(e)).count();
    let least = evidence.least;
    [
        ("accepted events", accepted, least.events),
        ("kills", evidence.kills.len(), least.kills),
        ("disabled endpoints", disabled, least.disabled),
    ]
    .into_iter()
    .filter(|(_, n, least)| n < least)
    .map(|(what, n, least)| format!("{n} {what}; at least {least} are needed"))
    .collect()
}

fn exhausted(endpoint: &crate::client::records::Endpoint) -> bool {
    endpoint.disabled.as_ref().is_some_and(|disabled| disabled.reason == "exhausted")
}

#[cfg(test)]
mod tests;
