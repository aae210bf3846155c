//! I6: at least once, and more than once only for a reason.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::held_up::held_up;
use super::tenure::Tenures;
use super::{SKEW, Violations};
use crate::client::records::{Attempt, Delivery};
use crate::evidence::{Evidence, Posts, after, since};
use crate::fault::{Fault, Kind};
use crate::receiver::Received;
use crate::wait::{millis, seconds};

/// How long after its answer an attempt may stay uncommitted while the disk is slow.
const COMMIT: Duration = seconds(2);
/// How soon every node has found the store again that was away.
const FOUND_AGAIN: Duration = seconds(2);

/// I6: after a committed 2XX, no further POST of that delivery; every duplicate is explained
/// by a crash, a pause, an outage of the store, or an owner change.
///
/// Each request is matched with the recorded attempt that it was. One without a record must
/// have its reason; and an answer on record must have been given.
#[must_use]
pub fn explained(evidence: &Evidence) -> Violations {
    Account::of(evidence).violations
}

/// How many requests without a record each reason explains. Every such request was made again.
#[must_use]
pub fn reasons(evidence: &Evidence) -> BTreeMap<Reason, usize> {
    Account::of(evidence).reasons
}

/// I6 where the clocks differ, and nothing else is wrong with any node: a delivery is answered
/// with success once.
#[must_use]
pub fn succeeded_once(evidence: &Evidence) -> Violations {
    let clocks_alone = evidence.faults.iter().all(|fault| fault.kind == Kind::Clock);
    if evidence.one_clock || !clocks_alone {
        return Vec::new();
    }
    let posts = Posts::sort(evidence);
    let succeeded = |post: &&&Received| post.answered.is_some_and(|status| status / 100 == 2);
    let mut violations = Vec::new();
    for ((event, endpoint), deliveries) in by_event_and_endpoint(evidence) {
        let successes = posts.of(event, endpoint).iter().filter(succeeded).count();
        if successes > deliveries.len() {
            let ids: Vec<_> = deliveries.iter().map(|delivery| &delivery.id).collect();
            violations.push(format!("{ids:?} were answered with success {successes} times"));
        }
    }
    violations
}

/// The deliveries of each event to each endpoint: one, and one more for every time that it was
/// repeated.
fn by_event_and_endpoint(evidence: &Evidence) -> BTreeMap<(&str, &str), Vec<&Delivery>> {
    let mut groups: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for delivery in &evidence.store.deliveries {
        let key = (delivery.event_id.as_str(), delivery.endpoint_id.as_str());
        groups.entry(key).or_default().push(delivery);
    }
    groups
}

/// Why a request is no recorded attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// Its node was killed before it was recorded.
    Crash,
    /// Its node was frozen or cut off, and another took over.
    Pause,
    /// The store was away before it was recorded, and nobody knew whether it was.
    StoreAway,
    /// The shard had changed hands, for a reason that nobody planned.
    OwnerChange,
}

struct Account<'a> {
    evidence: &'a Evidence,
    tenures: Tenures,
    violations: Violations,
    reasons: BTreeMap<Reason, usize>,
}

impl<'a> Account<'a> {
    fn of(evidence: &'a Evidence) -> Self {
        let tenures = Tenures::of(evidence);
        let mut account =
            Self { evidence, tenures, violations: Vec::new(), reasons: BTreeMap::new() };
        let posts = Posts::sort(evidence);
        for ((event, endpoint), deliveries) in by_event_and_endpoint(evidence) {
            account.settle(&deliveries, posts.of(event, endpoint));
        }
        account
    }

    fn settle(&mut self, deliveries: &[&Delivery], posts: &[&Received]) {
        let mut unmatched: Vec<&Received> = posts.to_vec();
        // One without an answer fits many requests, and must not take that of another.
        let (answered, silent): (Vec<_>, Vec<_>) = deliveries
            .iter()
            .flat_map(|delivery| delivery.attempts.iter().map(|attempt| (&delivery.id, attempt)))
            .partition(|(_, attempt)| attempt.response.is_some());
        for (id, attempt) in answered.into_iter().chain(silent) {
            let found = unmatched.iter().position(|post| is_record_of(attempt, post));
            match found {
                Some(index) => drop(unmatched.remove(index)),
                None if attempt.response.is_some() => {
                    let number = attempt.number;
                    self.violations
                        .push(format!("attempt {number} of {id} has an answer nobody gave"));
                }
                None => {}
            }
        }
        for post in unmatched {
            self.explain(deliveries, post);
        }
    }

    /// Of deliveries that a replay repeated, any may have been the one that a request was for.
    fn explain(&mut self, deliveries: &[&Delivery], post: &Received) {
        let Some(delivery) = deliveries.first() else { return };
        let delivered = |d: &&Delivery| d.finished_at.filter(|_| d.state == "delivered");
        let ends: Option<Vec<Timestamp>> = deliveries.iter().map(delivered).collect();
        let finished = ends.and_then(|ends| ends.into_iter().max());
        let too_late = finished.is_some_and(|at| post.arrived > after(at, SKEW));
        let endpoint = &delivery.endpoint_id;
        let place = format!("request {} to {} ({})", post.index, post.path, delivery.id);
        let reason = if too_late {
            held_up(self.evidence, post).then_some(Reason::Pause)
        } else if self.cut_short(post.arrived, endpoint) {
            Some(Reason::Crash)
        } else if held_up(self.evidence, post) || self.overtaken(post.arrived, endpoint) {
            Some(Reason::Pause)
        } else if self.unrecordable(post.arrived) {
            Some(Reason::StoreAway)
        } else if self.changed_hands(post.arrived, endpoint) {
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
                    "{place} came at {at}, {late:?} after the delivery was delivered"
                ));
            }
            None => {
                let at = post.arrived;
                self.violations.push(format!(
                    "{place} came at {at}, and is no recorded attempt, for no reason"
                ));
            }
        }
    }

    fn faults(&self, wanted: impl Fn(Kind) -> bool) -> impl Iterator<Item = &'a Fault> {
        self.evidence.faults.iter().filter(move |fault| wanted(fault.kind))
    }

    /// How long a request that arrived at `time` may be on no record yet: until its timeout, and until
    /// the commit, which a slow disk delays.
    fn longest(&self, time: Timestamp) -> Duration {
        let longest = self.evidence.schedule.timeout + COMMIT;
        let until = after(time, longest);
        let flushes = self.evidence.slow_flushes.iter();
        let meanwhile = flushes.filter(|flush| flush.from <= until && time <= flush.to);
        longest + meanwhile.map(|flush| since(flush.to, flush.from.max(time))).sum::<Duration>()
    }

    /// Whether the owner was killed while a request that arrived at `time` may have been under
    /// way.
    fn cut_short(&self, time: Timestamp, endpoint: &str) -> bool {
        let longest = self.longest(time);
        self.faults(|kind| kind == Kind::Kill).any(|kill| {
            time <= after(kill.to, SKEW)
                && since(kill.from, time) <= longest
                && self.tenures.may_have_owned(&kill.node, endpoint, time)
        })
    }

    /// Whether the owner was paused while a request that arrived at `time` may have been under
    /// way, so that another one made it again.
    fn overtaken(&self, time: Timestamp, endpoint: &str) -> bool {
        let longest = self.longest(time);
        self.faults(Kind::is_absence).any(|pause| {
            time <= after(pause.to, longest)
                && since(pause.from, time) <= longest
                && self.tenures.may_have_owned(&pause.node, endpoint, time)
        })
    }

    /// Whether the store was away when what came of a request that arrived at `time` was to be
    /// recorded. After a committed success it is no excuse.
    fn unrecordable(&self, time: Timestamp) -> bool {
        let longest = self.longest(time);
        self.faults(Kind::is_of_the_store).any(|outage| {
            time <= after(outage.to, FOUND_AGAIN) && since(outage.from, time) <= longest
        })
    }

    /// Whether the shard changed hands about `time`, other than in good order.
    fn changed_hands(&self, time: Timestamp, endpoint: &str) -> bool {
        let longest = self.longest(time);
        let (from, to) = (before(time, longest), after(time, longest));
        let in_order = self
            .faults(Kind::is_handoff)
            .any(|fault| fault.from <= to && after(fault.to, longest) >= from);
        !in_order && self.tenures.may_have_changed(endpoint, from, to)
    }
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
