//! What a pause holds up: requests that had begun before it, and arrive after it.

use std::time::Duration;

use jiff::Timestamp;

use super::SKEW;
use crate::evidence::{Evidence, after, since};
use crate::fault::{Fault, Kind};
use crate::wait::millis;

/// How soon a node that goes on after a pause has done what it was about to do.
const RESUMED: Duration = millis(500);

/// Whether a pause may have held up a request that arrived at `time`. A frozen node goes on where
/// it was; and TCP sends again what was sent into a broken network.
pub(super) fn held_up(evidence: &Evidence, time: Timestamp) -> bool {
    held_up_by(evidence, time, Kind::is_pause)
}

/// Whether TCP may have sent a request again that arrived at `time`, when the node had long given
/// it up.
pub(super) fn resent(evidence: &Evidence, time: Timestamp) -> bool {
    held_up_by(evidence, time, |kind| kind == Kind::ApartFromWorld)
}

fn held_up_by(evidence: &Evidence, time: Timestamp, by: fn(Kind) -> bool) -> bool {
    let mut pauses = evidence.faults.iter().filter(|fault| by(fault.kind));
    pauses.any(|pause| after(time, SKEW) >= pause.to && time <= last_arrival(evidence, pause))
}

/// When the last of it arrives. TCP doubles the time until it sends again (RFC 6298 §5.5), so that
/// it may take as long after the mending as the network had been broken before, even though the
/// node's process was killed meanwhile; and what it sends into the next break it sends later still.
fn last_arrival(evidence: &Evidence, pause: &Fault) -> Timestamp {
    let resent = match pause.kind {
        Kind::ApartFromWorld => since(pause.to, broken_from(evidence, pause)),
        _ => Duration::ZERO,
    };
    after(pause.to, resent + RESUMED)
}

/// When the first of the breaks began that followed so soon upon each other.
fn broken_from(evidence: &Evidence, cut: &Fault) -> Timestamp {
    let earlier = evidence.faults.iter().filter(|fault| {
        fault.kind == Kind::ApartFromWorld && fault.node == cut.node && fault.from < cut.from
    });
    match earlier.max_by_key(|fault| fault.from) {
        Some(before) if cut.from <= last_arrival(evidence, before) => broken_from(evidence, before),
        _ => cut.from,
    }
}
