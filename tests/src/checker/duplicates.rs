//! I6: at least once, and more than once only for a reason.

use std::time::Duration;

use jiff::Timestamp;

use super::Violations;
use crate::client::records::{Attempt, Delivery};
use crate::evidence::{Evidence, Kill, Posts, after, since};
use crate::receiver::Received;
use crate::wait::{millis, seconds};

/// How far the receiver's and the node's note of one moment may lie apart.
const SKEW: Duration = millis(150);
/// How long after its answer an attempt may stay uncommitted while the disk is slow.
const COMMIT: Duration = seconds(2);

/// I6: after a committed 2XX, no further POST of that delivery; every duplicate is explained
/// by a crash.
///
/// Each request is matched with the recorded attempt that it was. One without a record must
/// have been under way when a node was killed; and an answer on record must have been given.
#[must_use]
pub fn explained(evidence: &Evidence) -> Violations {
    let posts = Posts::of(evidence);
    let deliveries = evidence.store.deliveries.iter();
    deliveries
        .flat_map(|delivery| faults(evidence, delivery, posts.of_delivery(delivery)))
        .collect()
}

fn faults(evidence: &Evidence, delivery: &Delivery, posts: &[&Received]) -> Violations {
    let mut unmatched: Vec<&Received> = posts.to_vec();
    let mut violations = Vec::new();
    for attempt in &delivery.attempts {
        let found = unmatched.iter().position(|post| is_record_of(attempt, post));
        match found {
            Some(index) => drop(unmatched.remove(index)),
            None if attempt.response.is_some() => {
                let (number, id) = (attempt.number, &delivery.id);
                violations.push(format!("attempt {number} of {id} has an answer nobody gave"));
            }
            None => {}
        }
    }
    let finished = delivery.finished_at.filter(|_| delivery.state == "delivered");
    for post in unmatched {
        let place = format!("request {} to {} ({})", post.index, post.path, delivery.id);
        if finished.is_some_and(|at| post.arrived > after(at, SKEW)) {
            violations.push(format!("{place} came after the delivery was delivered"));
        } else if !cut_short(post.arrived, evidence) {
            violations.push(format!("{place} is no recorded attempt, and nothing was killed"));
        }
    }
    violations
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

/// Whether a node was killed while a request that arrived at `time` may have been under way.
fn cut_short(time: Timestamp, evidence: &Evidence) -> bool {
    let longest = evidence.schedule.timeout + COMMIT;
    let explains =
        |kill: &Kill| time <= after(kill.gone, SKEW) && since(kill.sent, time) <= longest;
    evidence.kills.iter().any(explains)
}
