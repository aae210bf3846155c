//! What one finished attempt changes. A plain function: state, input and time in, what to
//! write and what to do after the commit out.

use crate::delivery::{Attempt, Delivery, End, Progress, RequestHead, Response};
use crate::disable;
use crate::endpoint::{Disabled, Health, LastError, State};
use crate::ids::AttemptId;
use crate::notice::{self, Notice};
use crate::outcome::{Failure, Outcome};
use crate::retry::{self, Next};
use crate::time::Timestamp;

/// The installation's rules.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// When a failure is tried again.
    pub retry: retry::Policy,
    /// When an endpoint is disabled.
    pub disable: disable::Policy,
}

/// What the store holds of a delivery and its endpoint before the attempt is recorded.
#[derive(Clone, Debug)]
pub struct Before {
    /// The delivery.
    pub delivery: Delivery,
    /// Whether its endpoint is sent to.
    pub endpoint: State,
    /// How the endpoint has fared.
    pub health: Health,
}

/// A request that was made, and how it ended.
#[derive(Clone, Debug)]
pub struct Attempted {
    /// The attempt's id.
    pub id: AttemptId,
    /// 1 for the first.
    pub number: u8,
    /// When it began.
    pub at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
    /// How long it took by a clock that does not jump, in milliseconds.
    pub duration_ms: u32,
    /// What was sent.
    pub request: RequestHead,
    /// What came back.
    pub response: Option<Response>,
    /// What that means.
    pub outcome: Outcome,
    /// From 0 to 1; picks the jitter.
    pub luck: f64,
}

/// What to write, in one transaction.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The attempt, to be added.
    pub attempt: Attempt,
    /// The delivery, changed.
    pub delivery: Delivery,
    /// The endpoint's health, if it changed.
    pub health: Option<Health>,
    /// The endpoint is disabled by this.
    pub disabled: Option<Disabled>,
    /// The people of the account must be told.
    pub notice: Option<Notice>,
}

/// Decides what follows from an attempt.
///
/// # Panics
/// When the delivery is finished, or the attempt is not its next one: the caller looks first.
#[must_use]
pub fn decide(before: &Before, attempted: Attempted, rules: &Rules) -> Step {
    let delivery = &before.delivery;
    assert!(delivery.due().is_some(), "{} is finished", delivery.id);
    assert_eq!(
        attempted.number,
        delivery.attempt_count + 1,
        "attempts of {} have a gap",
        delivery.id
    );
    match attempted.outcome.clone() {
        Outcome::Success { .. } => succeed(before, attempted),
        Outcome::Failure(failure) => fail(before, attempted, &failure, rules),
    }
}

fn succeed(before: &Before, attempted: Attempted) -> Step {
    let progress = Progress::Finished { end: End::Delivered, at: attempted.ended_at };
    let health = Health { failure_count: 0, last_error: before.health.last_error.clone() };
    Step {
        delivery: advance(&before.delivery, &attempted, progress),
        attempt: record(attempted, None),
        health: (health != before.health).then_some(health),
        disabled: None,
        notice: None,
    }
}

fn fail(before: &Before, attempted: Attempted, failure: &Failure, rules: &Rules) -> Step {
    let delivery = &before.delivery;
    let ended_at = attempted.ended_at;
    let failed = retry::Failed {
        attempts: attempted.number,
        first_attempt_at: delivery.first_attempt_at.unwrap_or(attempted.at),
        ended_at,
        retry_after: failure.retry_after,
    };
    let next = rules.retry.next(failed, attempted.luck);
    let (due, progress) = match next {
        Next::At(due) => (Some(due), Progress::Pending { due }),
        Next::Exhausted => (None, Progress::Finished { end: End::Exhausted, at: ended_at }),
    };
    let health = Health {
        failure_count: before.health.failure_count.saturating_add(1),
        last_error: Some(LastError {
            at: ended_at,
            kind: failure.kind,
            status: failure.status,
            message: failure.message.clone(),
            delivery: delivery.id,
        }),
    };
    let disabled = disable::after_failure(
        &before.endpoint,
        failure,
        next,
        rules.disable,
        delivery.id,
        ended_at,
    );
    let notice = disabled.clone().filter(notice::earned).map(|disabled| Notice {
        account: delivery.account,
        endpoint: delivery.endpoint,
        disabled,
        failure_count: health.failure_count,
        last_error: health.last_error.clone(),
    });
    Step {
        delivery: advance(delivery, &attempted, progress),
        attempt: record(attempted, due),
        health: Some(health),
        disabled,
        notice,
    }
}

fn advance(delivery: &Delivery, attempted: &Attempted, progress: Progress) -> Delivery {
    Delivery {
        attempt_count: attempted.number,
        first_attempt_at: delivery.first_attempt_at.or(Some(attempted.at)),
        progress,
        ..delivery.clone()
    }
}

fn record(attempted: Attempted, due: Option<Timestamp>) -> Attempt {
    Attempt {
        id: attempted.id,
        number: attempted.number,
        at: attempted.at,
        duration_ms: attempted.duration_ms,
        request: attempted.request,
        response: attempted.response,
        error: attempted.outcome.error(),
        next_attempt_at: due,
    }
}

#[cfg(test)]
mod tests;
