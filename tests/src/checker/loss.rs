//! I1, I2: compares the client's log, the store and the receiver's log. Nothing is lost and nothing
//! is fabricated.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use jiff::Timestamp;

use super::Violations;
use crate::client::records::{Delivery, Event};
use crate::evidence::{Evidence, StoreRecords, Subscribed, Subscriber, after};
use crate::load::{Outcome, Publication, Receipt, is_temporary};
use crate::receiver::Received;
use crate::wait::seconds;

/// Retention of an idempotency key.
const KEY_RETENTION: Duration = seconds(24 * 3_600);

/// I1: every accepted event × subscribed endpoint ends delivered, exhausted, held or discarded, or
/// is pending with exactly one next attempt.
///
/// A call without a response took effect as a whole or not at all. An endpoint that changed during
/// the fan-out may or may not receive the event, but at most once. An endpoint that was not
/// subscribed from before the event on does not receive it.
#[must_use]
pub fn nothing_is_lost(evidence: &Evidence) -> Violations {
    let mut violations = not_stored(evidence);
    let fan_out = FanOut::of(&evidence.publications, &evidence.subscribers, &evidence.store);
    for EndpointFanOut { event, endpoint, subscribed, deliveries } in fan_out.all() {
        match (subscribed, deliveries) {
            (Subscribed::Throughout | Subscribed::Maybe, [_])
            | (Subscribed::Maybe | Subscribed::Never, []) => {}
            (Subscribed::Throughout, []) => {
                violations.push(format!("{event} has no delivery to {endpoint}"));
            }
            (Subscribed::Never, [_]) => {
                violations.push(format!(
                    "{event} has a delivery to {endpoint}, which was not subscribed"
                ));
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
            violations.push(format!("{id} is for {endpoint_id}, which does not exist"));
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

/// Whether every event has reached all endpoints subscribed throughout: as far as can be observed,
/// all fan-outs are complete.
#[must_use]
pub fn fan_out_is_complete(
    publications: &[Publication],
    subscribers: &[Subscriber],
    store: &StoreRecords,
) -> bool {
    let fan_out = FanOut::of(publications, subscribers, store);
    fan_out.all().all(|it| it.subscribed != Subscribed::Throughout || !it.deliveries.is_empty())
}

/// The expected receivers of the stored events, and the deliveries created for them.
pub(super) struct FanOut<'a> {
    subscribers: &'a [Subscriber],
    store: &'a StoreRecords,
    /// The interval in which each event was accepted, if known.
    accepted_within: HashMap<&'a str, (Timestamp, Timestamp)>,
    /// The first delivery of each event to each endpoint. More than one is a violation.
    deliveries: HashMap<(&'a str, &'a str), Vec<&'a Delivery>>,
}

/// The deliveries of one event to one endpoint.
pub(super) struct EndpointFanOut<'a> {
    pub event: &'a str,
    pub endpoint: &'a str,
    /// Subscription from before the event was published until the end of the run, because a fan-out
    /// may take long.
    pub subscribed: Subscribed,
    /// Excluding repeats.
    pub deliveries: &'a [&'a Delivery],
}

impl<'a> FanOut<'a> {
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
            // Repeats are created later than their event.
            let event = events.get(delivery.event_id.as_str());
            if event.is_some_and(|event| event.created_at == delivery.created_at) {
                let key = (delivery.event_id.as_str(), delivery.endpoint_id.as_str());
                deliveries.entry(key).or_default().push(delivery);
            }
        }
        Self { subscribers, store, accepted_within, deliveries }
    }

    /// The interval in which the event may have been accepted.
    pub(super) fn accepted_within(&self, event: &str) -> (Timestamp, Timestamp) {
        let unknown = (Timestamp::MIN, Timestamp::MAX);
        self.accepted_within.get(event).copied().unwrap_or(unknown)
    }

    /// The deliveries of an event, by endpoint.
    pub(super) fn of_event(&self, event: &'a Event) -> impl Iterator<Item = EndpointFanOut<'_>> {
        let (sent_at, _) = self.accepted_within(&event.id);
        self.subscribers.iter().map(move |subscriber| {
            let (id, endpoint) = (event.id.as_str(), subscriber.endpoint.as_str());
            let deliveries = self.deliveries.get(&(id, endpoint)).map_or(&[][..], Vec::as_slice);
            let subscribed = subscriber.subscribed(&event.event_type, sent_at, Timestamp::MAX);
            EndpointFanOut { event: id, endpoint, subscribed, deliveries }
        })
    }

    fn all(&self) -> impl Iterator<Item = EndpointFanOut<'_>> {
        self.store.events.iter().flat_map(|event| self.of_event(event))
    }
}

/// Accepted events that are not in the store.
fn not_stored(evidence: &Evidence) -> Violations {
    let stored: HashSet<&str> = evidence.store.events.iter().map(|e| e.id.as_str()).collect();
    let accepted = evidence.publications.iter().flat_map(Publication::receipts);
    let lost = accepted.filter(|receipt| !stored.contains(receipt.id.as_str()));
    lost.map(|receipt| format!("{} was accepted but is not stored", receipt.id)).collect()
}

/// I2: every POST belongs to an event that was accepted or whose publish call got no response. The
/// body is the payload, byte for byte, and the signature verifies.
#[must_use]
pub fn nothing_is_fabricated(evidence: &Evidence) -> Violations {
    let known = Known::of(evidence);
    let secrets: HashMap<&str, &str> =
        evidence.subscribers.iter().map(|s| (s.path.as_str(), s.secret.as_str())).collect();
    let mut violations: Violations =
        evidence.received.iter().filter_map(|request| known.violation(request, &secrets)).collect();
    violations.extend(partial_batches(evidence));
    violations
}

struct Known<'a> {
    /// The payloads of accepted events, by id.
    accepted: HashMap<String, &'a str>,
    /// The payloads of publish calls without a response.
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

    fn violation(&self, request: &Received, secrets: &HashMap<&str, &str>) -> Option<String> {
        let request_name = format!("request {} to {}", request.index, request.path);
        let Some(id) = request.webhook_id() else {
            return Some(format!("{request_name} has no webhook-id"));
        };
        let body = String::from_utf8_lossy(&request.body);
        match self.accepted.get(&id) {
            Some(&payload) if payload == body => {}
            Some(payload) => {
                return Some(format!("{request_name} has the body {body}, not {payload}"));
            }
            None if !self.unknown.contains(&*body) => {
                return Some(format!(
                    "{request_name} is for {id}, which was never published: {body}"
                ));
            }
            None if !self.stored.contains(id.as_str()) => {
                return Some(format!("{request_name} is for {id}, which is not stored"));
            }
            None => {}
        }
        let Some(secret) = secrets.get(request.path.as_str()) else {
            return Some(format!("{request_name} has no endpoint"));
        };
        // Not `verify`, which rejects requests that are more than 5 minutes old.
        request.is_signed_with(secret).err().map(|error| format!("{request_name}: {error:#}"))
    }
}

/// A batch without a response is stored as a whole or not at all. Stored events show at the
/// receiver, because some endpoint of every run accepts all requests.
fn partial_batches(evidence: &Evidence) -> Violations {
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
            (!whole).then(|| format!("{there} events of a batch of {} arrived", payloads.len()))
        })
        .collect()
}

/// Publishing repeatedly with one idempotency key creates one event.
#[must_use]
pub fn same_key_same_event(evidence: &Evidence) -> Violations {
    let mut violations = same_key_same_answer(&evidence.publications);
    violations.extend(twice_stored(evidence));
    violations
}

/// Repeating an idempotency key returns the same response for 24 h, even if the event type has
/// changed, and publishes a new event after that.
#[must_use]
pub fn same_key_same_answer(publications: &[Publication]) -> Violations {
    let with_key = publications.iter().filter(|p| p.idempotency_key.is_some());
    with_key.flat_map(repeated_answers).collect()
}

fn repeated_answers(publication: &Publication) -> Violations {
    let key = publication.idempotency_key.as_deref().unwrap_or_default();
    let mut violations = Vec::new();
    // The remembered acceptance, and the interval in which it happened.
    let mut known: Option<(&[Receipt], Timestamp, Timestamp)> = None;
    for call in &publication.calls {
        let answered = call.answered.unwrap_or(call.sent_at);
        let (before, since, until) = match (known, &call.outcome) {
            (Some(known), _) => known,
            (None, Outcome::Accepted(receipts)) => {
                // An earlier call without a response may be the one that was accepted.
                known = Some((receipts, publication.calls[0].sent_at, answered));
                continue;
            }
            (None, Outcome::Refused(_) | Outcome::Unknown) => continue,
        };
        let remembered = answered < after(since, KEY_RETENTION);
        let forgotten = call.sent_at >= after(until, KEY_RETENTION);
        match &call.outcome {
            Outcome::Accepted(receipts) if receipts == before => {
                if forgotten {
                    violations
                        .push(format!("{key} still returns {before:?} after {KEY_RETENTION:?}"));
                }
            }
            Outcome::Accepted(receipts) => {
                if remembered {
                    violations.push(format!("{key} was accepted as {before:?} and {receipts:?}"));
                }
                known = Some((receipts, call.sent_at, answered));
            }
            Outcome::Refused(status) if remembered && !is_temporary(*status) => {
                violations.push(format!("{key} was accepted and then rejected with {status}"));
            }
            Outcome::Refused(_) | Outcome::Unknown => {}
        }
    }
    violations
}

/// A payload that arrives under two ids was stored twice.
fn twice_stored(evidence: &Evidence) -> Violations {
    let mut ids: HashMap<&[u8], HashSet<String>> = HashMap::new();
    for request in &evidence.received {
        ids.entry(&request.body).or_default().extend(request.webhook_id());
    }
    ids.into_iter()
        .filter(|(_, ids)| ids.len() > 1)
        .map(|(body, ids)| {
            format!("{} is stored under several ids: {ids:?}", String::from_utf8_lossy(body))
        })
        .collect()
}
