//! I6: at-least-once delivery, with duplicates only for a reason.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::delayed::delayed;
use super::ownership::OwnershipHistory;
use super::{SKEW, Violations};
use crate::client::records::{Attempt, Delivery};
use crate::evidence::{Evidence, RequestIndex, after, since};
use crate::fault::{Fault, Kind};
use crate::receiver::Received;
use crate::wait::{millis, seconds};

/// The longest time from a response to the commit of its attempt.
const COMMIT_TIME: Duration = seconds(2);
/// The time after a store outage until every node is connected again.
const RECONNECT_TIME: Duration = seconds(2);

/// I6: after a committed 2xx, no further POST of that delivery; every duplicate is explained
/// by a crash, a pause, a store outage, or an ownership change.
///
/// Each request is matched with its recorded attempt. A request without one needs a reason, and a
/// recorded response must have been sent by the receiver.
#[must_use]
pub fn explained(evidence: &Evidence) -> Violations {
    RequestMatcher::of(evidence).violations
}

/// The number of unrecorded requests explained by each reason. Every such request was repeated.
#[must_use]
pub fn reasons(evidence: &Evidence) -> BTreeMap<Reason, usize> {
    RequestMatcher::of(evidence).reasons
}

/// I6 for runs whose only fault is differing clocks: every delivery succeeds once.
#[must_use]
pub fn succeeded_once(evidence: &Evidence) -> Violations {
    let only_clock_faults = evidence.faults.iter().all(|fault| fault.kind == Kind::Clock);
    if evidence.clocks_agree || !only_clock_faults {
        return Vec::new();
    }
    let requests = RequestIndex::of_run(evidence);
    let succeeded = |post: &&&Received| post.answered.is_some_and(|status| status / 100 == 2);
    let mut violations = Vec::new();
    for ((event, endpoint), deliveries) in by_event_and_endpoint(evidence) {
        let successes = requests.of(event, endpoint).iter().filter(succeeded).count();
        if successes > deliveries.len() {
            let ids: Vec<_> = deliveries.iter().map(|delivery| &delivery.id).collect();
            violations.push(format!("{ids:?} succeeded {successes} times"));
        }
    }
    violations
}

/// The deliveries of each event to each endpoint: the first and one for each repeat.
fn by_event_and_endpoint(evidence: &Evidence) -> BTreeMap<(&str, &str), Vec<&Delivery>> {
    let mut groups: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for delivery in &evidence.store.deliveries {
        let key = (delivery.event_id.as_str(), delivery.endpoint_id.as_str());
        groups.entry(key).or_default().push(delivery);
    }
    groups
}

/// Why a request has no recorded attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// The node was killed before recording the attempt.
    Crash,
    /// The node was frozen or partitioned, and another node took over.
    Pause,
    /// The store was unavailable when the attempt was to be recorded.
    StoreOutage,
    /// The shard changed owner without a planned handoff.
    OwnerChange,
    /// The receiver closed the connection without a response, so the request was sent once more
    /// within the same attempt.
    ClosedConnection,
}

struct RequestMatcher<'a> {
    evidence: &'a Evidence,
    ownership: OwnershipHistory,
    violations: Violations,
    reasons: BTreeMap<Reason, usize>,
}

impl<'a> RequestMatcher<'a> {
    fn of(evidence: &'a Evidence) -> Self {
        let ownership = OwnershipHistory::of(evidence);
        let mut matcher =
            Self { evidence, ownership, violations: Vec::new(), reasons: BTreeMap::new() };
        let requests = RequestIndex::of_run(evidence);
        for ((event, endpoint), deliveries) in by_event_and_endpoint(evidence) {
            matcher.match_requests(&deliveries, requests.of(event, endpoint));
        }
        matcher
    }

    fn match_requests(&mut self, deliveries: &[&Delivery], posts: &[&Received]) {
        let mut unmatched: Vec<&Received> = posts.to_vec();
        // An attempt without a response fits many requests, so match those with one first.
        let (answered, unanswered): (Vec<_>, Vec<_>) = deliveries
            .iter()
            .flat_map(|delivery| delivery.attempts.iter().map(|attempt| (&delivery.id, attempt)))
            .partition(|(_, attempt)| attempt.response.is_some());
        for (id, attempt) in answered.into_iter().chain(unanswered) {
            let found = unmatched.iter().position(|post| is_record_of(attempt, post));
            match found {
                Some(index) => drop(unmatched.remove(index)),
                None if attempt.response.is_some() => {
                    let number = attempt.number;
                    self.violations.push(format!(
                        "attempt {number} of {id} has a response the receiver never sent"
                    ));
                }
                None => {}
            }
        }
        for post in unmatched {
            self.explain(deliveries, post, posts);
        }
    }

    /// If a replay repeated a delivery, the request may belong to any of them.
    fn explain(&mut self, deliveries: &[&Delivery], post: &Received, posts: &[&Received]) {
        let Some(delivery) = deliveries.first() else { return };
        let delivered = |d: &&Delivery| d.finished_at.filter(|_| d.state == "delivered");
        let ends: Option<Vec<Timestamp>> = deliveries.iter().map(delivered).collect();
        let finished = ends.and_then(|ends| ends.into_iter().max());
        let too_late = finished.is_some_and(|at| post.arrived > after(at, SKEW));
        let endpoint = &delivery.endpoint_id;
        let place = format!("request {} to {} ({})", post.index, post.path, delivery.id);
        let reason = if !too_late && was_sent_again(post, posts) {
            Some(Reason::ClosedConnection)
        } else if too_late {
            delayed(self.evidence, post).then_some(Reason::Pause)
        } else if self.killed_in_flight(post.arrived, endpoint) {
            Some(Reason::Crash)
        } else if delayed(self.evidence, post) || self.taken_over(post.arrived, endpoint) {
            Some(Reason::Pause)
        } else if self.not_recordable(post.arrived) {
            Some(Reason::StoreOutage)
        } else if self.changed_owner(post.arrived, endpoint) {
            Some(Reason::OwnerChange)
        } else {
            None
        };
        match reason {
            Some(reason) => *self.reasons.entry(reason).or_default() += 1,
            None if too_late => {
                let late = finished.map(|at| since(post.arrived, at)).unwrap_or_default();
                let at = post.arrived;
                self.violations.push(format!(
                    "{place} arrived at {at}, {late:?} after the delivery had succeeded"
                ));
            }
            None => {
                let at = post.arrived;
                self.violations.push(format!(
                    "{place} arrived at {at}, has no recorded attempt and no reason"
                ));
            }
        }
    }

    fn faults(&self, wanted: impl Fn(Kind) -> bool) -> impl Iterator<Item = &'a Fault> {
        self.evidence.faults.iter().filter(move |fault| wanted(fault.kind))
    }

    /// How long a request that arrived at `time` may stay unrecorded: its timeout plus the commit,
    /// which a slow disk delays.
    fn longest_unrecorded(&self, time: Timestamp) -> Duration {
        let longest = self.evidence.schedule.timeout + COMMIT_TIME;
        let until = after(time, longest);
        let flushes = self.evidence.slow_flushes.iter();
        let meanwhile = flushes.filter(|flush| flush.from <= until && time <= flush.to);
        longest + meanwhile.map(|flush| since(flush.to, flush.from.max(time))).sum::<Duration>()
    }

    /// Whether the owner was killed while a request that arrived at `time` may have been in flight.
    fn killed_in_flight(&self, time: Timestamp, endpoint: &str) -> bool {
        let longest = self.longest_unrecorded(time);
        self.faults(|kind| kind == Kind::Kill).any(|kill| {
            time <= after(kill.to, SKEW)
                && since(kill.from, time) <= longest
                && self.ownership.may_have_owned(&kill.node, endpoint, time)
        })
    }

    /// Whether the owner was paused while a request that arrived at `time` may have been in flight,
    /// so that another owner repeated it.
    fn taken_over(&self, time: Timestamp, endpoint: &str) -> bool {
        let longest = self.longest_unrecorded(time);
        self.faults(Kind::may_lose_shards).any(|pause| {
            time <= after(pause.to, longest)
                && since(pause.from, time) <= longest
                && self.ownership.may_have_owned(&pause.node, endpoint, time)
        })
    }

    /// Whether the store was unavailable when a request that arrived at `time` was to be recorded.
    /// This is no reason after a committed success.
    fn not_recordable(&self, time: Timestamp) -> bool {
        let longest = self.longest_unrecorded(time);
        self.faults(Kind::is_store_outage).any(|outage| {
            time <= after(outage.to, RECONNECT_TIME) && since(outage.from, time) <= longest
        })
    }

    /// Whether the shard changed owner around `time` without a planned handoff.
    fn changed_owner(&self, time: Timestamp, endpoint: &str) -> bool {
        let longest = self.longest_unrecorded(time);
        let (from, to) = (before(time, longest), after(time, longest));
        let planned = self
            .faults(Kind::is_handoff)
            .any(|fault| fault.from <= to && after(fault.to, longest) >= from);
        !planned && self.ownership.may_have_changed(endpoint, from, to)
    }
}

/// Whether a request without a response belongs to the same attempt as another request.
fn was_sent_again(post: &Received, posts: &[&Received]) -> bool {
    let signed = post.header("webhook-timestamp");
    let is_same_attempt = |other: &&&Received| {
        other.index != post.index && other.header("webhook-timestamp") == signed
    };
    post.answered.is_none() && posts.iter().any(|other| is_same_attempt(&other))
}

fn is_record_of(attempt: &Attempt, post: &Received) -> bool {
    let from = attempt.at;
    let to = after(from, millis(attempt.duration_ms) + SKEW);
    let signed = post.header("webhook-timestamp");
    let same_second = attempt.request.header("webhook-timestamp") == signed.as_deref();
    let answered = attempt.response.as_ref().map(|response| response.status);
    let same_answer = answered.is_none() || answered == post.answered;
    after(post.arrived, millis(1)) >= from && post.arrived <= to && same_second && same_answer
}

fn before(time: Timestamp, duration: Duration) -> Timestamp {
    time.saturating_sub(duration).unwrap_or(Timestamp::MIN)
}
