//! I1, I2: between the client's log, the store and the receiver's log, nothing is lost and
//! nothing is made up.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use jiff::Timestamp;

use super::Violations;
use crate::client::records::{Delivery, Event};
use crate::evidence::{Evidence, StoreRecords, Subscribed, Subscriber, after};
use crate::load::{Outcome, Publication, Receipt, is_for_now};
use crate::receiver::Received;
use crate::wait::seconds;

/// How long an idempotency key is remembered.
const REMEMBERED: Duration = seconds(24 * 3_600);

/// I1: every accepted event × subscribed endpoint ends delivered, exhausted, held or
/// discarded, or has exactly one due row.
///
/// Of what was asked without an answer, all or nothing is there. An endpoint that was changed
/// meanwhile may or may not receive an event, but receives it once; one that was not subscribed
/// from before the event on does not receive it.
#[must_use]
pub fn nothing_is_lost(evidence: &Evidence) -> Violations {
    let mut violations = not_stored(evidence);
    let reach = Reach::of(&evidence.publications, &evidence.subscribers, &evidence.store);
    for Reached { event, endpoint, subscribed, deliveries } in reach.all() {
        match (subscribed, deliveries) {
            (Subscribed::Throughout | Subscribed::Perhaps, [_])
            | (Subscribed::Perhaps | Subscribed::Never, []) => {}
            (Subscribed::Throughout, []) => {
                violations.push(format!("{event} has no delivery to {endpoint}"));
            }
            (Subscribed::Never, [_]) => {
                violations.push(format!("{event} has a delivery to {endpoint}, unwanted"));
            }
            (_, many) => {
                violations.push(format!("{event} has {} deliveries to {endpoint}", many.len()));
            }
        }
    }
    let known: HashSet<&str> = evidence.subscribers.iter().map(|s| s.endpoint.as_str()).collect();
    for delivery in &evidence.store.deliveries {
        let Delivery { id, endpoint_id, .. } = delivery;
        if !known.contains(endpoint_id.as_str()) {
            violations.push(format!("{id} is for {endpoint_id}, which nobody created"));
        }
        match (delivery.state.as_str(), delivery.next_attempt_at) {
            ("delivered" | "exhausted" | "discarded", None)
            | ("held", _)
            | ("pending", Some(_)) => {}
            (state, due) => violations.push(format!("{id} is {state}, due {due:?}")),
        }
    }
    violations
}

/// Whether every event has reached all endpoints that were subscribed to it throughout: no fan-out
/// has anything left to do, as far as this can be seen.
#[must_use]
pub fn all_are_reached(
    publications: &[Publication],
    subscribers: &[Subscriber],
    store: &StoreRecords,
) -> bool {
    let reach = Reach::of(publications, subscribers, store);
    reach.all().all(|it| it.subscribed != Subscribed::Throughout || !it.deliveries.is_empty())
}

/// Who was to receive the events that are in the store, and what was made of them.
pub(super) struct Reach<'a> {
    subscribers: &'a [Subscriber],
    store: &'a StoreRecords,
    /// Between which times each event was accepted, as far as that is known.
    accepted_within: HashMap<&'a str, (Timestamp, Timestamp)>,
    /// The first delivery of each event to each endpoint; more than one is a fault.
    deliveries: HashMap<(&'a str, &'a str), Vec<&'a Delivery>>,
}

/// What was made of one event for one endpoint.
pub(super) struct Reached<'a> {
    pub event: &'a str,
    pub endpoint: &'a str,
    /// Whether it was subscribed from before the event was asked for until the end of the run: a
    /// fan-out may take long.
    pub subscribed: Subscribed,
    /// What is there, but for what repeats it.
    pub deliveries: &'a [&'a Delivery],
}

impl<'a> Reach<'a> {
    pub(super) fn of(
        publications: &'a [Publication],
        subscribers: &'a [Subscriber],
        store: &'a StoreRecords,
    ) -> Self {
        let mut accepted_within = HashMap::new();
        for publication in publications {
            if let Some(times) = publication.accepted_within() {
                let ids = publication.receipts().iter().map(|receipt| receipt.id.as_str());
                accepted_within.extend(ids.map(|id| (id, times)));
            }
        }
        let events: HashMap<_, _> = store.events.iter().map(|e| (e.id.as_str(), e)).collect();
        let mut deliveries: HashMap<_, Vec<_>> = HashMap::new();
        for delivery in &store.deliveries {
            // Whatever was asked for again is made later than its event.
            let event = events.get(delivery.event_id.as_str());
            if event.is_some_and(|event| event.created_at == delivery.created_at) {
                let key = (delivery.event_id.as_str(), delivery.endpoint_id.as_str());
                deliveries.entry(key).or_default().push(delivery);
            }
        }
        Self { subscribers, store, accepted_within, deliveries }
    }

    /// From when to when an event may have been accepted.
    pub(super) fn accepted_within(&self, event: &str) -> (Timestamp, Timestamp) {
        let unknown = (Timestamp::MIN, Timestamp::MAX);
        self.accepted_within.get(event).copied().unwrap_or(unknown)
    }

    /// What was made of an event for each endpoint.
    pub(super) fn of_event(&self, event: &'a Event) -> impl Iterator<Item = Reached<'_>> {
        let (asked, _) = self.accepted_within(&event.id);
        self.subscribers.iter().map(move |subscriber| {
            let (id, endpoint) = (event.id.as_str(), subscriber.endpoint.as_str());
            let deliveries = self.deliveries.get(&(id, endpoint)).map_or(&[][..], Vec::as_slice);
            let subscribed = subscriber.subscribed(&event.event_type, asked, Timestamp::MAX);
            Reached { event: id, endpoint, subscribed, deliveries }
        })
    }

    fn all(&self) -> impl Iterator<Item = Reached<'_>> {
        self.store.events.iter().flat_map(|event| self.of_event(event))
    }
}

/// The events that were accepted and are not in the store.
fn not_stored(evidence: &Evidence) -> Violations {
    let stored: HashSet<&str> = evidence.store.events.iter().map(|e| e.id.as_str()).collect();
    let accepted = evidence.publications.iter().flat_map(Publication::receipts);
    let lost = accepted.filter(|receipt| !stored.contains(receipt.id.as_str()));
    lost.map(|receipt| format!("{} was accepted and is not stored", receipt.id)).collect()
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
                Outcome::Accepted(receipts) => {
                    accepted.extend(receipts.into_iter().map(|receipt| receipt.id).zip(payloads));
                }
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
    let mut violations = same_key_same_answer(&evidence.publications);
    violations.extend(twice_stored(evidence));
    violations
}

/// Whoever repeats an idempotency key is told the same for 24 h, whatever has become of the event's
/// type meanwhile, and publishes anew after that.
#[must_use]
pub fn same_key_same_answer(publications: &[Publication]) -> Violations {
    let with_key = publications.iter().filter(|p| p.idempotency_key.is_some());
    with_key.flat_map(repeated_answers).collect()
}

fn repeated_answers(publication: &Publication) -> Violations {
    let key = publication.idempotency_key.as_deref().unwrap_or_default();
    let mut violations = Vec::new();
    // The acceptance that is remembered, and from when to when it may have been.
    let mut known: Option<(&[Receipt], Timestamp, Timestamp)> = None;
    for call in &publication.calls {
        let answered = call.answered.unwrap_or(call.asked);
        let (before, since, until) = match (known, &call.outcome) {
            (Some(known), _) => known,
            (None, Outcome::Accepted(receipts)) => {
                // An earlier call, which got no answer, may have been what was accepted.
                known = Some((receipts, publication.calls[0].asked, answered));
                continue;
            }
            (None, Outcome::Refused(_) | Outcome::Unknown) => continue,
        };
        let remembered = answered < after(since, REMEMBERED);
        let forgotten = call.asked >= after(until, REMEMBERED);
        match &call.outcome {
            Outcome::Accepted(receipts) if receipts == before => {
                if forgotten {
                    violations.push(format!("{key} is still {before:?} after {REMEMBERED:?}"));
                }
            }
            Outcome::Accepted(receipts) => {
                if remembered {
                    violations.push(format!("{key} was accepted as {before:?} and {receipts:?}"));
                }
                known = Some((receipts, call.asked, answered));
            }
            Outcome::Refused(status) if remembered && !is_for_now(*status) => {
                violations.push(format!("{key} was accepted, and then refused with {status}"));
            }
            Outcome::Refused(_) | Outcome::Unknown => {}
        }
    }
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
