//! I7, I8: disabling an endpoint stops attempts and sends an email.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;

use super::delayed::delayed;
use super::{Violations, exhausted};
use crate::client::records::Endpoint;
use crate::evidence::{Evidence, after};
use crate::fault::Kind;
use crate::mail::Email;
use crate::wait::seconds;

/// The time after the acknowledgement during which an attempt may still start.
const GRACE: Duration = seconds(1);
/// The same while a node or the store is unreachable: the lease time, after which a node that
/// cannot renew its lease is considered dead and has stopped.
const LEASE: Duration = seconds(10);

/// I7: after a disable is acknowledged and a grace period has passed, no attempt starts until the
/// endpoint is enabled.
#[must_use]
pub fn no_attempts_while_disabled(evidence: &Evidence) -> Violations {
    let mut disabled_times: Vec<(&str, Timestamp, Option<Timestamp>)> = evidence
        .manual_disables
        .iter()
        .map(|pause| (pause.endpoint.as_str(), pause.acknowledged, pause.enabled))
        .collect();
    for endpoint in &evidence.store.endpoints {
        if let Some(disabled) = &endpoint.disabled {
            disabled_times.push((&endpoint.id, disabled.at, None));
        }
    }
    let paths: HashMap<_, _> =
        evidence.subscribers.iter().map(|s| (s.endpoint.as_str(), s.path.as_str())).collect();
    let mut violations = Vec::new();
    for (endpoint, from, to) in disabled_times {
        let (from, to) = (after(from, grace(evidence, from)), to.unwrap_or(Timestamp::MAX));
        let path = paths.get(endpoint).copied();
        let during = evidence
            .received
            .iter()
            .filter(|r| Some(r.path.as_str()) == path && r.arrived > from && r.arrived < to)
            .filter(|r| !delayed(evidence, r));
        violations.extend(during.map(|request| {
            let (index, at) = (request.index, request.arrived);
            format!("request {index} arrived at {at} for {endpoint}, which was disabled")
        }));
    }
    violations
}

fn grace(evidence: &Evidence, acknowledged: Timestamp) -> Duration {
    let unreachable = |kind: Kind| {
        kind.may_lose_shards() || kind.is_store_outage() || kind == Kind::PeerPartition
    };
    let mut faults = evidence.faults.iter().filter(|fault| unreachable(fault.kind));
    let meanwhile = faults.any(|fault| {
        fault.from <= after(acknowledged, GRACE) && acknowledged <= after(fault.to, GRACE)
    });
    if meanwhile { LEASE } else { GRACE }
}

/// I8: a disable and its notice are one transaction: at least one email arrives, and no email
/// reports a disable that did not happen.
#[must_use]
pub fn notified(evidence: &Evidence) -> Violations {
    let mut violations = Vec::new();
    for endpoint in evidence.store.endpoints.iter().filter(|endpoint| exhausted(endpoint)) {
        if !evidence.emails.iter().any(|mail| is_about(mail, endpoint)) {
            violations.push(format!("no email reports that {} was disabled", endpoint.id));
        }
        violations.extend(without_cause(evidence, endpoint));
    }
    for mail in &evidence.emails {
        let endpoints = &evidence.store.endpoints;
        if !endpoints.iter().any(|endpoint| exhausted(endpoint) && is_about(mail, endpoint)) {
            violations.push(format!("an email is not about a disabled endpoint: {}", mail.subject));
        }
    }
    let deliveries = evidence.store.deliveries.iter();
    for delivery in deliveries.filter(|delivery| delivery.state == "exhausted") {
        let endpoint = evidence.store.endpoints.iter().find(|e| e.id == delivery.endpoint_id);
        if endpoint.is_none_or(|endpoint| endpoint.state != "disabled") {
            violations
                .push(format!("{} is exhausted, but its endpoint is not disabled", delivery.id));
        }
    }
    violations
}

fn without_cause(evidence: &Evidence, endpoint: &Endpoint) -> Option<String> {
    let cause = endpoint.disabled.as_ref().and_then(|disabled| disabled.delivery_id.as_ref());
    let delivery = evidence.store.deliveries.iter().find(|d| Some(&d.id) == cause);
    let state = delivery.map(|delivery| delivery.state.as_str());
    (state != Some("exhausted"))
        .then(|| format!("{} was disabled by {cause:?}, which is {state:?}", endpoint.id))
}

fn is_about(mail: &Email, endpoint: &Endpoint) -> bool {
    mail.text.contains(&endpoint.id) || mail.text.contains(&endpoint.url)
}
