//! The state transition that a finished attempt causes: a pure function from the stored state and
//! the attempt to the writes of one transaction.

use crate::attempt::{Attempt, Exchange};
use crate::delivery::{Delivery, FinalState, Progress};
use crate::disable::{self, DisableWhen};
use crate::endpoint::{Disabled, Health, LastError, State};
use crate::ids::AttemptId;
use crate::notice::{self, Exhaustion, FailureSeries, Notice, Report};
use crate::outcome::{Failure, Outcome};
use crate::retry::{self, NextAttempt};
use crate::time::Timestamp;

/// The installation's rules.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// When a failed attempt is retried.
    pub retry: retry::Policy,
    /// When an endpoint is disabled.
    pub disable: disable::Policy,
    /// When an account is warned.
    pub notice: notice::Policy,
}

/// The stored state of a delivery and its endpoint before the attempt is recorded.
#[derive(Clone, Debug)]
pub struct DeliveryContext {
    pub delivery: Delivery,
    pub endpoint: State,
    /// How often the endpoint has been enabled again.
    pub resumptions: u32,
    pub health: Health,
}

/// A finished attempt.
#[derive(Clone, Debug)]
pub struct AttemptResult {
    pub id: AttemptId,
    /// 1 for the first.
    pub number: u8,
    /// When it began.
    pub at: Timestamp,
    pub exchange: Exchange,
    /// A random number from 0 to 1, for the jitter of the retry delay.
    pub jitter: f64,
    /// The endpoint's own setting, as of the start of the attempt.
    pub disable_when: Option<DisableWhen>,
}

impl AttemptResult {
    /// When it ended. The duration is measured by a monotonic clock.
    #[must_use]
    pub fn ended_at(&self) -> Timestamp {
        self.at.plus(self.exchange.duration)
    }
}

/// What a finished attempt changes, written in one transaction.
#[derive(Clone, Debug, PartialEq)]
pub struct Changes {
    pub attempt: Attempt,
    pub delivery: Delivery,
    /// The endpoint's health, if it changed.
    pub health: Option<Health>,
    /// Set if this attempt disables the endpoint.
    pub disabled: Option<Disabled>,
    /// Set if the account's contacts must be emailed.
    pub notice: Option<Notice>,
}

/// Decides what an attempt changes.
///
/// # Panics
/// When the delivery is finished or the attempt is not its next one; the caller checks both.
#[must_use]
pub fn decide(context: &DeliveryContext, result: AttemptResult, rules: &Rules) -> Changes {
    let delivery = &context.delivery;
    assert!(delivery.due().is_some(), "{} is already finished", delivery.id);
    assert_eq!(
        result.number,
        delivery.attempt_count + 1,
        "the attempt is not the next one of {}",
        delivery.id
    );
    let delivery = delivery.clone().in_schedule(context.resumptions);
    match result.exchange.outcome.clone() {
        Outcome::Success { .. } => succeed(context, &delivery, result),
        Outcome::Failure(failure) => fail(context, &delivery, result, &failure, rules),
    }
}

fn succeed(context: &DeliveryContext, delivery: &Delivery, result: AttemptResult) -> Changes {
    let ended_at = result.ended_at();
    let progress = Progress::Finished { end: FinalState::Delivered, at: ended_at };
    let mut health = context.health.clone();
    // Nothing is written for a healthy endpoint.
    if health.failure_count > 0 {
        (health.failure_count, health.recovered_at) = (0, Some(ended_at));
    }
    health.series = None;
    Changes {
        delivery: advance(delivery, &result, progress),
        attempt: record(result, None),
        health: (health != context.health).then_some(health),
        disabled: None,
        notice: None,
    }
}

fn fail(
    context: &DeliveryContext,
    delivery: &Delivery,
    result: AttemptResult,
    failure: &Failure,
    rules: &Rules,
) -> Changes {
    let ended_at = result.ended_at();
    let first_attempt_at = delivery.first_attempt_at.unwrap_or(result.at);
    let failed = retry::FailedAttempt {
        attempts: result.number - delivery.schedule.earlier_attempts,
        first_attempt_at,
        ended_at,
        retry_after: failure.retry_after,
    };
    let next = match result.number {
        // There is no number for another attempt.
        u8::MAX => NextAttempt::Exhausted,
        _ => rules.retry.next(failed, result.jitter),
    };
    let (due, progress) = match next {
        NextAttempt::At(due) => (Some(due), Progress::Pending { due }),
        NextAttempt::Exhausted => {
            (None, Progress::Finished { end: FinalState::Exhausted, at: ended_at })
        }
    };
    let failed_delivery = disable::FailedDelivery {
        delivery: delivery.id,
        failure,
        next,
        // A success after this delivery's first failure has ended a series of failures.
        others_delivered: context.health.recovered_at.is_some_and(|at| at >= first_attempt_at),
        at: ended_at,
    };
    let when = result.disable_when.unwrap_or(rules.disable.when);
    let policy = disable::Policy { when, ..rules.disable };
    let disabled = disable::after_failure(&context.endpoint, failed_delivery, policy);
    let exhaustion = due.filter(|_| policy.disables_when_exhausted(failed_delivery)).map(|due| {
        let at = rules.retry.expected_exhaustion(failed.attempts, due);
        Exhaustion { delivery: delivery.id, at }
    });
    let mut series =
        FailureSeries::after_failure(context.health.series, delivery.id, exhaustion, ended_at);
    let report = match &disabled {
        Some(disabled) => notice::is_required(disabled).then(|| Report::Disabled(disabled.clone())),
        None if context.endpoint == State::Enabled => {
            series.warn(rules.notice, ended_at).map(Report::Warning)
        }
        None => None,
    };
    let health = Health {
        failure_count: context.health.failure_count.saturating_add(1),
        last_error: Some(LastError {
            at: ended_at,
            kind: failure.kind,
            status: failure.status,
            message: failure.message.clone(),
            delivery: delivery.id,
        }),
        recovered_at: context.health.recovered_at,
        series: Some(series),
    };
    let notice = report.map(|report| Notice {
        account: delivery.account,
        endpoint: delivery.endpoint,
        report,
        failure_count: health.failure_count,
        last_error: health.last_error.clone(),
    });
    Changes {
        delivery: advance(delivery, &result, progress),
        attempt: record(result, due),
        health: Some(health),
        disabled,
        notice,
    }
}

fn advance(delivery: &Delivery, result: &AttemptResult, progress: Progress) -> Delivery {
    Delivery {
        attempt_count: result.number,
        first_attempt_at: delivery.first_attempt_at.or(Some(result.at)),
        progress,
        ..delivery.clone()
    }
}

fn record(result: AttemptResult, due: Option<Timestamp>) -> Attempt {
    Attempt {
        id: result.id,
        number: result.number,
        at: result.at,
        duration_ms: result.exchange.duration_ms(),
        error: result.exchange.outcome.error(),
        request: result.exchange.request,
        response: result.exchange.response,
        next_attempt_at: due,
    }
}

#[cfg(test)]
mod tests;
