//! I7, I8: what a disabling stops, and what it sets off.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;

use super::held_up::held_up;
use super::{Violations, exhausted};
use crate::client::records::Endpoint;
use crate::evidence::{Evidence, after};
use crate::fault::Kind;
use crate::mail::Mail;
use crate::wait::seconds;

/// How long after the acknowledgement an attempt may still start.
const GRACE: Duration = seconds(1);
/// The same while a node is out of reach, or the store is: the time after which a node that cannot
/// renew its lease is taken for dead, and has stopped by itself.
const LEASE: Duration = seconds(10);

/// I7: after a disable is acknowledged, no attempt starts until the endpoint is enabled, but
/// for a time of grace.
#[must_use]
pub fn left_alone(evidence: &Evidence) -> Violations {
    let mut quiet: Vec<(&str, Timestamp, Option<Timestamp>)> = evidence
        .pauses
        .iter()
        .map(|pause| (pause.endpoint.as_str(), pause.acknowledged, pause.enabled))
        .collect();
    for endpoint in &evidence.store.endpoints {
        if let Some(disabled) = &endpoint.disabled {
            quiet.push((&endpoint.id, disabled.at, None));
        }
    }
    let paths: HashMap<_, _> =
        evidence.subscribers.iter().map(|s| (s.endpoint.as_str(), s.path.as_str())).collect();
    let mut violations = Vec::new();
    for (endpoint, from, to) in quiet {
        let (from, to) = (after(from, grace(evidence, from)), to.unwrap_or(Timestamp::MAX));
        let path = paths.get(endpoint).copied();
        let during = evidence
            .received
            .iter()
            .filter(|r| Some(r.path.as_str()) == path && r.arrived > from && r.arrived < to)
            .filter(|r| !held_up(evidence, r));
        violations.extend(during.map(|request| {
            let (index, at) = (request.index, request.arrived);
            format!("request {index} came at {at} to {endpoint}, which was disabled")
        }));
    }
    violations
}

fn grace(evidence: &Evidence, acknowledged: Timestamp) -> Duration {
    let out_of_reach =
        |kind: Kind| kind.is_absence() || kind.is_of_the_store() || kind == Kind::ApartFromNodes;
    let mut faults = evidence.faults.iter().filter(|fault| out_of_reach(fault.kind));
    let meanwhile = faults.any(|fault| {
        fault.from <= after(acknowledged, GRACE) && acknowledged <= after(fault.to, GRACE)
    });
    if meanwhile { LEASE } else { GRACE }
}

/// I8: a disable and its notice are one transaction; at least one email arrives. And no email
/// tells of what did not happen.
#[must_use]
pub fn told(evidence: &Evidence) -> Violations {
    let mut violations = Vec::new();
    for endpoint in evidence.store.endpoints.iter().filter(|endpoint| exhausted(endpoint)) {
        if !evidence.mails.iter().any(|mail| tells_of(mail, endpoint)) {
            violations.push(format!("no email tells that {} was disabled", endpoint.id));
        }
        violations.extend(without_cause(evidence, endpoint));
    }
    for mail in &evidence.mails {
        let endpoints = &evidence.store.endpoints;
        if !endpoints.iter().any(|endpoint| exhausted(endpoint) && tells_of(mail, endpoint)) {
            violations.push(format!("an email tells of no disabled endpoint: {}", mail.subject));
        }
    }
    let deliveries = evidence.store.deliveries.iter();
    for delivery in deliveries.filter(|delivery| delivery.state == "exhausted") {
        let endpoint = evidence.store.endpoints.iter().find(|e| e.id == delivery.endpoint_id);
        if endpoint.is_none_or(|endpoint| endpoint.state != "disabled") {
            violations.push(format!("{} is exhausted, its endpoint not disabled", delivery.id));
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

fn tells_of(mail: &Mail, endpoint: &Endpoint) -> bool {
    mail.text.contains(&endpoint.id) || mail.text.contains(&endpoint.url)
}
