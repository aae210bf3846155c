//! Requests delayed by a pause: they begin before its end, and arrive or finish after it.

use std::time::Duration;

use jiff::Timestamp;

use super::SKEW;
use crate::evidence::{Evidence, after, since};
use crate::fault::Kind;
use crate::receiver::Received;
use crate::wait::{millis, seconds};

/// The time a thawed node needs to finish the requests it was about to send.
const RESUME_TIME: Duration = millis(500);
/// Requests carry timestamps in whole seconds, rounded down.
const TIMESTAMP_PRECISION: Duration = seconds(1);
/// TCP's longest retransmission timeout (Linux, `TCP_RTO_MAX`).
const MAX_RETRANSMISSION_TIMEOUT: Duration = seconds(120);

/// Whether a fault of this kind overlapped with the interval of length `took` from `from`.
pub(super) fn meanwhile(
    evidence: &Evidence,
    kind: impl Fn(Kind) -> bool,
    from: Timestamp,
    took: Duration,
) -> bool {
    let mut faults = evidence.faults.iter().filter(|fault| kind(fault.kind));
    faults.any(|fault| fault.from <= after(from, took) && from <= fault.to)
}

/// Whether a pause may have delayed a request. A frozen node continues where it was, and TCP
/// retransmits what was sent during a partition.
pub(super) fn delayed(evidence: &Evidence, request: &Received) -> bool {
    let arrived = request.arrived;
    let mut freezes = evidence.faults.iter().filter(|fault| fault.kind == Kind::Freeze);
    freezes
        .any(|freeze| after(arrived, SKEW) >= freeze.to && arrived <= after(freeze.to, RESUME_TIME))
        || retransmitted(evidence, request)
}

/// Whether TCP may have retransmitted a request that a partition interrupted, though its node had
/// given up or was killed meanwhile. TCP backs off (RFC 6298 §5.5), so the request may arrive long
/// after the partition heals, and later still if another partition follows.
pub(super) fn retransmitted(evidence: &Evidence, request: &Received) -> bool {
    let Some(signed) = request.signed_at() else { return false };
    let in_flight = evidence.schedule.timeout + TIMESTAMP_PRECISION;
    let mut cuts = evidence.faults.iter().filter(|fault| fault.kind == Kind::FullPartition);
    cuts.any(|cut| {
        signed <= cut.to
            && cut.from <= after(signed, in_flight)
            && after(request.arrived, SKEW) >= cut.to
            && since(request.arrived, cut.to) <= MAX_RETRANSMISSION_TIMEOUT
    })
}
