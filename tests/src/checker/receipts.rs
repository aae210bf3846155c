//! I1 by receipt: compares the delivery counts that publishers received with the deliveries that
//! exist.

use std::collections::{HashMap, HashSet};

use super::Violations;
use super::loss::FanOut;
use crate::client::records::Event;
use crate::evidence::{Evidence, Subscribed};
use crate::load::Publication;

/// I1 by receipt: the receipt's count equals the number of deliveries, except for endpoints that
/// changed during the fan-out, and the number of subscribers, except for endpoints that changed
/// while the event was being accepted.
///
/// Deliveries are taken from the event's own list, which must be complete.
#[must_use]
pub fn match_deliveries(evidence: &Evidence) -> Violations {
    let mut violations = Vec::new();
    let fan_out = FanOut::of(&evidence.publications, &evidence.subscribers, &evidence.store);
    let receipts = evidence.publications.iter().flat_map(Publication::receipts);
    let receipts: HashMap<&str, u64> = receipts.map(|r| (r.id.as_str(), r.deliveries)).collect();
    for event in &evidence.store.events {
        let receipt = receipts.get(event.id.as_str()).copied();
        if receipt.is_some_and(|count| count != event.deliveries) {
            let (id, stored) = (&event.id, event.deliveries);
            violations.push(format!(
                "the receipt of {id} has {receipt:?} deliveries, its record {stored}"
            ));
        }
        violations.extend(counted(evidence, &fan_out, event));
    }
    violations.extend(unlisted(evidence));
    violations
}

fn counted(evidence: &Evidence, fan_out: &FanOut<'_>, event: &Event) -> Violations {
    let mut violations = Vec::new();
    let listed = evidence.store.by_event.get(&event.id).map_or(&[][..], Vec::as_slice);
    let listed: HashSet<&str> = listed.iter().map(String::as_str).collect();
    let (sent_at, answered) = fan_out.accepted_within(&event.id);
    let (mut certain, mut uncertain, mut made) = (0, 0, 0);
    // Subscribers that may have been counted and then left, and that may have joined afterwards.
    let (mut left, mut came) = (0, 0);
    for (subscriber, reached) in evidence.subscribers.iter().zip(fan_out.of_event(event)) {
        let at_acceptance = subscriber.subscribed(&event.event_type, sent_at, answered);
        match at_acceptance {
            Subscribed::Throughout => certain += 1,
            Subscribed::Maybe => uncertain += 1,
            Subscribed::Never => {}
        }
        let made_for_it = reached.deliveries.iter().filter(|d| listed.contains(d.id.as_str()));
        let made_for_it = made_for_it.count() as u64;
        made += made_for_it;
        if made_for_it > 0 && at_acceptance != Subscribed::Throughout {
            came += made_for_it;
        }
        if made_for_it == 0
            && at_acceptance != Subscribed::Never
            && reached.subscribed != Subscribed::Throughout
        {
            left += 1;
        }
    }
    let (id, count) = (&event.id, event.deliveries);
    let most = certain + uncertain;
    if !(certain..=most).contains(&count) {
        violations.push(format!(
            "{id} counts {count} endpoints, but {certain} to {most} were subscribed"
        ));
    }
    if made + left < count || count + came < made {
        violations.push(format!(
            "{id} counts {count} endpoints and lists {made} deliveries, but at most {left} endpoints \
             may have unsubscribed and {came} subscribed meanwhile"
        ));
    }
    violations
}

/// Deliveries not listed exactly once by their event.
fn unlisted(evidence: &Evidence) -> Violations {
    let mut times: HashMap<&str, usize> = HashMap::new();
    for id in evidence.store.by_event.values().flatten() {
        *times.entry(id).or_default() += 1;
    }
    let times = |id: &str| times.get(id).copied().unwrap_or_default();
    let deliveries = evidence.store.deliveries.iter().filter(|d| times(&d.id) != 1);
    deliveries.map(|d| format!("{} lists {} {} times", d.event_id, d.id, times(&d.id))).collect()
}
