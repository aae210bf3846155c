//! Replays repeat each past delivery once, and none of the deliveries the replay itself created.

use std::collections::HashMap;

use super::Violations;
use crate::client::records::Delivery;
use crate::evidence::{Evidence, ReplayRun};

/// A replay repeats each delivery that had finished before it once, and a delivery that finished
/// while the replay was being requested at most once. Nothing is repeated without a request.
#[must_use]
pub fn repeated_once(evidence: &Evidence) -> Violations {
    let mut violations: Violations = evidence.replays.iter().filter_map(unfinished).collect();
    let repeats = Repeats::of(evidence);
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
    for (&(event, endpoint), &times) in &repeats.counts {
        let (mut least, mut most) = (0, 0);
        for (run, past) in runs.iter().filter(|(run, _)| run.endpoint == endpoint) {
            let past = past.get(event).copied().unwrap_or_default();
            // Without a response to the request, it is unknown whether the replay exists.
            least += if run.replay.is_some() { past } else { 0 };
            // A delivery that was not finished yet may have finished in time.
            most += past.max(1);
        }
        if !(least..=most).contains(&times) {
            violations.push(format!(
                "{event} was repeated {times} times to {endpoint}, expected {least} to {most} times"
            ));
        }
    }
    violations.extend(miscounted(evidence, &repeats));
    violations
}

/// The number of repeats of each event to each endpoint.
struct Repeats<'a> {
    counts: HashMap<(&'a str, &'a str), u64>,
}

impl<'a> Repeats<'a> {
    fn of(evidence: &'a Evidence) -> Self {
        let events = evidence.store.events.iter().map(|event| (event.id.as_str(), event));
        let events: HashMap<_, _> = events.collect();
        let mut counts: HashMap<_, u64> = HashMap::new();
        for delivery in &evidence.store.deliveries {
            let Delivery { event_id, endpoint_id, created_at, .. } = delivery;
            // Repeats are created later than their event.
            let event = events.get(event_id.as_str());
            let is_repeat = event.is_some_and(|event| event.created_at != *created_at);
            let times = counts.entry((event_id.as_str(), endpoint_id.as_str())).or_default();
            *times += u64::from(is_repeat);
        }
        Self { counts }
    }

    fn to(&self, endpoint: &str) -> u64 {
        self.counts.iter().filter(|((_, to), _)| *to == endpoint).map(|(_, times)| times).sum()
    }
}

fn unfinished(run: &ReplayRun) -> Option<String> {
    let replay = run.replay.as_ref()?;
    let ended = replay.state == "completed";
    (!ended).then(|| {
        format!("{} is {} with {} done, not completed", replay.id, replay.state, replay.done)
    })
}

/// Endpoints whose replays report a different number of deliveries than there are.
fn miscounted(evidence: &Evidence, repeats: &Repeats<'_>) -> Violations {
    let mut reported: HashMap<&str, Option<u64>> = HashMap::new();
    for run in &evidence.replays {
        let done = run.replay.as_ref().map(|replay| replay.done);
        let sum = reported.entry(&run.endpoint).or_insert(Some(0));
        *sum = sum.zip(done).map(|(sum, done)| sum + done);
    }
    let known = reported.into_iter().filter_map(|(endpoint, done)| Some((endpoint, done?)));
    known
        .map(|(endpoint, done)| (endpoint, done, repeats.to(endpoint)))
        .filter(|(_, done, made)| done != made)
        .map(|(endpoint, done, made)| {
            format!("replays to {endpoint} report {done} deliveries, but there are {made}")
        })
        .collect()
}
