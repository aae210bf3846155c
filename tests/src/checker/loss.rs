//! I1, I2: between the client's log, the store and the receiver's log, nothing is lost and
//! nothing is made up.

use std::collections::{HashMap, HashSet};

use super::Violations;
use crate::client::records::Event;
use crate::evidence::Evidence;
use crate::load::{Outcome, Publication};
use crate::receiver::Received;

/// I1: every accepted event × subscribed endpoint ends delivered, exhausted, held or
/// discarded, or has exactly one due row.
///
/// Of what was asked without an answer, all or nothing is there.
#[must_use]
pub fn nothing_is_lost(evidence: &Evidence) -> Violations {
    let mut deliveries: HashMap<(&str, &str), Vec<_>> = HashMap::new();
    for delivery in &evidence.store.deliveries {
        let key = (delivery.event_id.as_str(), delivery.endpoint_id.as_str());
        deliveries.entry(key).or_default().push(delivery);
    }
    let mut violations = Vec::new();
    for event in expected_events(evidence, &mut violations) {
        let wanting = evidence.subscribers.iter().filter(|s| s.wants(&event.event_type));
        for subscriber in wanting {
            let key = (event.id.as_str(), subscriber.endpoint.as_str());
            match deliveries.get(&key).map(Vec::as_slice) {
                Some([delivery]) => match (delivery.state.as_str(), delivery.next_attempt_at) {
                    ("delivered" | "exhausted" | "discarded", None) | ("held", _) => {}
                    ("pending", Some(_)) => {}
                    (state, due) => {
                        violations.push(format!("{} is {state}, due {due:?}", delivery.id));
                    }
                },
                Some(many) => {
                    violations.push(format!("{key:?} has {} deliveries", many.len()));
                }
                None => violations.push(format!("{key:?} has no delivery")),
            }
        }
    }
    violations
}

/// The events that are in the store, among which must be all that were accepted. Of what was
/// asked for without an answer, what is stored counts like the rest.
fn expected_events<'a>(evidence: &'a Evidence, violations: &mut Violations) -> &'a [Event] {
    let stored: HashSet<&str> = evidence.store.events.iter().map(|e| e.id.as_str()).collect();
    for publication in &evidence.publications {
        if let Outcome::Accepted(ids) = publication.outcome() {
            let lost = ids.iter().filter(|id| !stored.contains(id.as_str()));
            violations.extend(lost.map(|id| format!("{id} was accepted and is not stored")));
        }
    }
    &evidence.store.events
}

/// I2: every POST belongs to an event that was accepted, or asked for without an answer; its
/// body is the payload, byte for byte; its signature verifies.
#[must_use]
pub fn nothing_is_made_up(evidence: &Evidence) -> Violations {
    let known = Known::of(evidence);
    let secrets: HashMap<&str, &str> =
        evidence.subscribers.iter().map(|s| (s.path.as_str(), s.secret.as_str())).collect();
    let mut violations: Violations =
        evidence.received.iter().filter_map(|request| known.fault(request, &secrets)).collect();
    violations.extend(half_batches(evidence));
    violations
}

struct Known<'a> {
    /// The payloads of accepted events, by id.
    accepted: HashMap<String, &'a str>,
    /// The payloads of which nobody knows what became of them.
    unknown: HashSet<&'a str>,
    stored: HashSet<&'a str>,
}

impl<'a> Known<'a> {
    fn of(evidence: &'a Evidence) -> Self {
        let mut accepted = HashMap::new();
        let mut unknown = HashSet::new();
        for publication in &evidence.publications {
            let payloads = publication.payloads.iter().map(String::as_str);
            match publication.outcome() {
                Outcome::Accepted(ids) => accepted.extend(ids.into_iter().zip(payloads)),
                Outcome::Unknown => unknown.extend(payloads),
                Outcome::Refused(_) => {}
            }
        }
        let stored = evidence.store.events.iter().map(|event| event.id.as_str()).collect();
        Self { accepted, unknown, stored }
    }

    fn fault(&self, request: &Received, secrets: &HashMap<&str, &str>) -> Option<String> {
        let place = format!("request {} to {}", request.index, request.path);
        let Some(id) = request.webhook_id() else {
            return Some(format!("{place} has no webhook-id"));
        };
        let body = String::from_utf8_lossy(&request.body);
        match self.accepted.get(&id) {
            Some(&payload) if payload == body => {}
            Some(payload) => return Some(format!("{place} has the body {body}, not {payload}")),
            None if !self.unknown.contains(&*body) => {
                return Some(format!("{place} is of {id}, which nobody published: {body}"));
            }
            None if !self.stored.contains(id.as_str()) => {
                return Some(format!("{place} is of {id}, which is not stored"));
            }
            None => {}
        }
        let Some(secret) = secrets.get(request.path.as_str()) else {
            return Some(format!("{place} is for nobody"));
        };
        // Not `verify`, which would refuse what came early in a long run.
        request.is_signed_with(secret).err().map(|error| format!("{place}: {error:#}"))
    }
}

/// A batch of which nobody knows is there as a whole or not at all. What is there shows at
/// the receiver, which some endpoint of every run lets through.
fn half_batches(evidence: &Evidence) -> Violations {
    let seen: HashSet<&[u8]> = evidence.received.iter().map(|r| &r.body[..]).collect();
    let unknown = |p: &&Publication| p.outcome() == Outcome::Unknown && p.payloads.len() > 1;
    evidence
        .publications
        .iter()
        .filter(unknown)
        .filter_map(|publication| {
            let payloads = &publication.payloads;
            let there = payloads.iter().filter(|text| seen.contains(text.as_bytes())).count();
            let whole = there == 0 || there == payloads.len();
            (!whole).then(|| format!("{there} of a batch of {} arrived", payloads.len()))
        })
        .collect()
}

/// However often a publication with an idempotency key was asked for, it is one event.
#[must_use]
pub fn same_key_same_event(evidence: &Evidence) -> Violations {
    let mut violations = Vec::new();
    for publication in &evidence.publications {
        let answers: HashSet<_> = publication
            .calls
            .iter()
            .filter_map(|call| match &call.outcome {
                Outcome::Accepted(ids) => Some(ids),
                _ => None,
            })
            .collect();
        if publication.idempotency_key.is_some() && answers.len() > 1 {
            let key = &publication.idempotency_key;
            violations.push(format!("{key:?} was accepted as each of {answers:?}"));
        }
    }
    violations.extend(twice_stored(evidence));
    violations
}

/// One payload that arrives under two ids was stored twice.
fn twice_stored(evidence: &Evidence) -> Violations {
    let mut ids: HashMap<&[u8], HashSet<String>> = HashMap::new();
    for request in &evidence.received {
        ids.entry(&request.body).or_default().extend(request.webhook_id());
    }
    ids.into_iter()
        .filter(|(_, ids)| ids.len() > 1)
        .map(|(body, ids)| {
            format!("{} is stored as each of {ids:?}", String::from_utf8_lossy(body))
        })
        .collect()
}
