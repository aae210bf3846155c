//! Replays: each past delivery again, once, and nothing of what the replay itself has made.

use std::collections::HashMap;

use super::Violations;
use crate::client::records::Delivery;
use crate::evidence::{Evidence, ReplayRun};

/// A replay repeats each delivery that had come to its end before, once; one that came to its end
/// while it was being asked for, at most once; and nothing is repeated that nobody asked for.
#[must_use]
pub fn repeated_once(evidence: &Evidence) -> Violations {
    let mut violations: Violations = evidence.replays.iter().filter_map(unfinished).collect();
    let made = Made::of(evidence);
    let events = evidence.store.deliveries.iter().map(|d| (d.id.as_str(), d.event_id.as_str()));
    let events: HashMap<_, _> = events.collect();
    let runs = evidence.replays.iter().map(|run| {
        let mut past: HashMap<&str, u64> = HashMap::new();
        for event in run.past.iter().filter_map(|id| events.get(id.as_str())) {
            *past.entry(*event).or_default() += 1;
        }
        (run, past)
    });
    let runs: Vec<_> = runs.collect();
    for (&(event, endpoint), &times) in &made.repeats {
        let (mut least, mut most) = (0, 0);
        for (run, past) in runs.iter().filter(|(run, _)| run.endpoint == endpoint) {
            let past = past.get(event).copied().unwrap_or_default();
            // Nobody knows whether a replay exists that was asked for without an answer.
            least += if run.replay.is_some() { past } else { 0 };
            // What was not at its end yet may have been in time.
            most += past.max(1);
        }
        if !(least..=most).contains(&times) {
            violations.push(format!(
                "{event} was repeated {times} times to {endpoint}, not {least} to {most} times"
            ));
        }
    }
    violations.extend(miscounted(evidence, &made));
    violations
}

/// How often each event was repeated to each endpoint.
struct Made<'a> {
    repeats: HashMap<(&'a str, &'a str), u64>,
}

impl<'a> Made<'a> {
    fn of(evidence: &'a Evidence) -> Self {
        let events = evidence.store.events.iter().map(|event| (event.id.as_str(), event));
        let events: HashMap<_, _> = events.collect();
        let mut repeats: HashMap<_, u64> = HashMap::new();
        for delivery in &evidence.store.deliveries {
            let Delivery { event_id, endpoint_id, created_at, .. } = delivery;
            // Whatever repeats an event is made later than the event.
            let event = events.get(event_id.as_str());
            let repeats_it = event.is_some_and(|event| event.created_at != *created_at);
            let times = repeats.entry((event_id.as_str(), endpoint_id.as_str())).or_default();
            *times += u64::from(repeats_it);
        }
        Self { repeats }
    }

    fn to(&self, endpoint: &str) -> u64 {
        self.repeats.iter().filter(|((_, to), _)| *to == endpoint).map(|(_, times)| times).sum()
    }
}

fn unfinished(run: &ReplayRun) -> Option<String> {
    let replay = run.replay.as_ref()?;
    let ended = replay.state == "completed";
    (!ended).then(|| format!("{} is {}, with {} done", replay.id, replay.state, replay.done))
}

/// Endpoints whose replays say that they made another number of deliveries than there are.
fn miscounted(evidence: &Evidence, made: &Made<'_>) -> Violations {
    let mut said: HashMap<&str, Option<u64>> = HashMap::new();
    for run in &evidence.replays {
        let done = run.replay.as_ref().map(|replay| replay.done);
        let sum = said.entry(&run.endpoint).or_insert(Some(0));
        *sum = sum.zip(done).map(|(sum, done)| sum + done);
    }
    let known = said.into_iter().filter_map(|(endpoint, done)| Some((endpoint, done?)));
    known
        .map(|(endpoint, done)| (endpoint, done, made.to(endpoint)))
        .filter(|(_, done, made)| done != made)
        .map(|(endpoint, done, made)| {
            format!("replays to {endpoint} say that they made {done} deliveries; {made} are there")
        })
        .collect()
}
