//! What a pause holds up: requests that had begun before its end, and arrive or end after it.

use std::time::Duration;

use jiff::Timestamp;

use super::SKEW;
use crate::evidence::{Evidence, after, since};
use crate::fault::Kind;
use crate::receiver::Received;
use crate::wait::{millis, seconds};

/// How soon a node that goes on after a freeze has done what it was about to do.
const RESUMED: Duration = millis(500);
/// A request is stamped in whole seconds, rounded down.
const STAMP: Duration = seconds(1);
/// How long TCP may rest before it sends again (Linux, `TCP_RTO_MAX`).
const LONGEST_REST: Duration = seconds(120);

/// Whether a fault of such a kind was going on within `took` after `from`.
pub(super) fn meanwhile(
    evidence: &Evidence,
    kind: impl Fn(Kind) -> bool,
    from: Timestamp,
    took: Duration,
) -> bool {
    let mut faults = evidence.faults.iter().filter(|fault| kind(fault.kind));
    faults.any(|fault| fault.from <= after(from, took) && from <= fault.to)
}

/// Whether a pause may have held up a request. A frozen node goes on where it was; and TCP sends
/// again what was sent into a broken network.
pub(super) fn held_up(evidence: &Evidence, request: &Received) -> bool {
    let arrived = request.arrived;
    let mut freezes = evidence.faults.iter().filter(|fault| fault.kind == Kind::Freeze);
    freezes.any(|freeze| after(arrived, SKEW) >= freeze.to && arrived <= after(freeze.to, RESUMED))
        || resent(evidence, request)
}

/// Whether TCP may have sent a request again, into which the network broke: its node had given it
/// up, or was killed meanwhile. The pauses of TCP grow (RFC 6298 §5.5), so that it may arrive long
/// after the mending, and later still when the network has broken again by then.
pub(super) fn resent(evidence: &Evidence, request: &Received) -> bool {
    let Some(signed) = request.signed_at() else { return false };
    let in_flight = evidence.schedule.timeout + STAMP;
    let mut cuts = evidence.faults.iter().filter(|fault| fault.kind == Kind::ApartFromWorld);
    cuts.any(|cut| {
        signed <= cut.to
            && cut.from <= after(signed, in_flight)
            && after(request.arrived, SKEW) >= cut.to
            && since(request.arrived, cut.to) <= LONGEST_REST
    })
}
