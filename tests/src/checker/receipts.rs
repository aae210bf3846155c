//! I1 by receipt: what an event's publisher was told of its deliveries, against those that exist.

use std::collections::{HashMap, HashSet};

use super::Violations;
use super::loss::Reach;
use crate::client::records::Event;
use crate::evidence::{Evidence, Subscribed};
use crate::load::Publication;

/// I1 by receipt: as many deliveries exist as the receipt says, but for endpoints that were
/// changed meanwhile; and it says as many as there were subscribers, of which only those are
/// uncertain that were changed while the event was being accepted.
///
/// The deliveries are those that the event's own list holds, which must be all of them.
#[must_use]
pub fn kept(evidence: &Evidence) -> Violations {
    let mut violations = Vec::new();
    let reach = Reach::of(&evidence.publications, &evidence.subscribers, &evidence.store);
    let receipts = evidence.publications.iter().flat_map(Publication::receipts);
    let receipts: HashMap<&str, u64> = receipts.map(|r| (r.id.as_str(), r.deliveries)).collect();
    for event in &evidence.store.events {
        let told = receipts.get(event.id.as_str()).copied();
        if told.is_some_and(|told| told != event.deliveries) {
            let (id, stored) = (&event.id, event.deliveries);
            violations.push(format!("the receipt of {id} says {told:?}, its record {stored}"));
        }
        violations.extend(counted(evidence, &reach, event));
    }
    violations.extend(unlisted(evidence));
    violations
}

fn counted(evidence: &Evidence, reach: &Reach<'_>, event: &Event) -> Violations {
    let mut violations = Vec::new();
    let listed = evidence.store.by_event.get(&event.id).map_or(&[][..], Vec::as_slice);
    let listed: HashSet<&str> = listed.iter().map(String::as_str).collect();
    let (asked, answered) = reach.accepted_within(&event.id);
    let (mut certain, mut uncertain, mut made) = (0, 0, 0);
    // Subscribers that may have been counted and then be gone, and that may have come after it.
    let (mut left, mut came) = (0, 0);
    for (subscriber, reached) in evidence.subscribers.iter().zip(reach.of_event(event)) {
        let at_acceptance = subscriber.subscribed(&event.event_type, asked, answered);
        match at_acceptance {
            Subscribed::Throughout => certain += 1,
            Subscribed::Perhaps => uncertain += 1,
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
    let (id, told) = (&event.id, event.deliveries);
    let most = certain + uncertain;
    if !(certain..=most).contains(&told) {
        violations.push(format!("{id} is for {told} endpoints, of {certain} to {most} subscribed"));
    }
    if made + left < told || told + came < made {
        violations.push(format!(
            "{id} is for {told} endpoints and lists {made} deliveries, though only {left} of its \
             subscribers may have left and {came} come"
        ));
    }
    violations
}

/// Deliveries that their event does not list, or lists twice.
fn unlisted(evidence: &Evidence) -> Violations {
    let mut times: HashMap<&str, usize> = HashMap::new();
    for id in evidence.store.by_event.values().flatten() {
        *times.entry(id).or_default() += 1;
    }
    let times = |id: &str| times.get(id).copied().unwrap_or_default();
    let deliveries = evidence.store.deliveries.iter().filter(|d| times(&d.id) != 1);
    deliveries.map(|d| format!("{} lists {} {} times", d.event_id, d.id, times(&d.id))).collect()
}
