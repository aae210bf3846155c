//! When a failed delivery is retried, and when its attempts are exhausted.
//!
//! Exponential backoff with jitter: `delay(k) = base × factor^(k-1) × uniform(1-j, 1+j)`
//! before retry `k`. `base` is derived rather than configured: it is the largest value with which
//! the last retry still starts within the window after the start of the first attempt, even if
//! every jitter is at its maximum and every attempt times out.
//!
//! Due times are wall-clock times, which outlive the process. Only the number of attempts ends
//! a schedule, never its window, so no step of the clock costs an attempt. After a step forward,
//! the attempts that it made due take place, and each next one has its delay from then on. After
//! a step back, [`due_after_step_back`] applies.

use std::time::Duration;

use crate::throttle::MAX_REST;
use crate::time::Timestamp;

/// The retry schedule of an installation.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    max_retries: u8,
    window: Duration,
    factor: f64,
    jitter: f64,
    timeout: Duration,
    base: Duration,
}

/// The shortest first delay; a window that would require less is rejected.
const MIN_BASE: Duration = Duration::from_millis(1);
/// The maximum number of retries that can be configured.
pub const MAX_RETRIES: u8 = 100;
/// The longest window: 90 days.
pub const MAX_WINDOW: Duration = Duration::from_secs(90 * 24 * 3600);
/// Longer than any delay of a valid schedule, and short enough that sums do not overflow.
const MAX_DELAY: Duration = Duration::from_secs(1000 * 365 * 24 * 3600);

/// Why a schedule is rejected.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum PolicyError {
    /// `max_retries` is out of range.
    #[error("max_retries must be at most {MAX_RETRIES}")]
    MaxRetries,
    /// `factor` is out of range.
    #[error("factor must be a number from 1 to 10")]
    Factor,
    /// `jitter` is out of range.
    #[error("jitter must be a number from 0 to 0.9")]
    Jitter,
    /// The delays exceed the largest window.
    #[error(
        "{max_retries} retries, each delay {factor} times the one before, do not fit into any window; \
         lower max_retries or factor"
    )]
    FitsNoWindow { max_retries: u8, factor: f64 },
    /// `window` is longer than 90 days.
    #[error("window must be at most 90 days")]
    WindowTooLong,
    /// The attempts do not fit in the window.
    #[error(
        "the window is too small for {attempts} attempts that may each take {timeout:?}; \
         the smallest window that fits is {smallest:?}"
    )]
    WindowTooSmall { attempts: u32, timeout: Duration, smallest: Duration },
}

/// The next step after a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextAttempt {
    /// Another attempt, not before this time.
    At(Timestamp),
    /// No further attempt: all are used up.
    Exhausted,
}

/// The facts about a failed attempt that the schedule depends on.
#[derive(Clone, Copy, Debug)]
pub struct FailedAttempt {
    /// Attempts made in this schedule, including this one; at least 1.
    pub attempts: u8,
    /// When the first of them began.
    pub first_attempt_at: Timestamp,
    pub ended_at: Timestamp,
    /// The value of the `Retry-After` header.
    pub retry_after: Option<Duration>,
}

/// When a retry is due that was to be made at `due`, once the clock has been set back and shows
/// `now`. It waits no longer from now on than `delay`, its delay after the last attempt.
#[must_use]
pub fn due_after_step_back(due: Timestamp, delay: Duration, now: Timestamp) -> Timestamp {
    due.min(now.plus(delay))
}

impl Policy {
    /// A schedule of `max_retries` retries within `window`, for attempts that take at most
    /// `timeout` each.
    ///
    /// # Errors
    /// When a value is out of range or the attempts do not fit.
    pub fn new(
        max_retries: u8,
        window: Duration,
        factor: f64,
        jitter: f64,
        timeout: Duration,
    ) -> Result<Self, PolicyError> {
        if max_retries > MAX_RETRIES {
            return Err(PolicyError::MaxRetries);
        }
        if !(1.0..=10.0).contains(&factor) {
            return Err(PolicyError::Factor);
        }
        if !(0.0..=0.9).contains(&jitter) {
            return Err(PolicyError::Jitter);
        }
        if window > MAX_WINDOW {
            return Err(PolicyError::WindowTooLong);
        }
        let mut policy = Self { max_retries, window, factor, jitter, timeout, base: MIN_BASE };
        let smallest = policy.worst_case();
        if smallest > MAX_WINDOW {
            return Err(PolicyError::FitsNoWindow { max_retries, factor });
        }
        if max_retries > 0 && smallest > window {
            let smallest = Duration::from_millis(ceil_millis(smallest));
            let attempts = policy.max_attempts();
            return Err(PolicyError::WindowTooSmall { attempts, timeout, smallest });
        }
        policy.base = policy.derive_base();
        Ok(policy)
    }

    /// The next attempt after a failed one. `random`, from 0 to 1, determines the jitter.
    #[must_use]
    pub fn next(&self, failed: FailedAttempt, random: f64) -> NextAttempt {
        if failed.attempts > self.max_retries {
            return NextAttempt::Exhausted;
        }
        let retry = failed.attempts.max(1);
        let (shortest, longest) = self.delay_bounds(retry);
        let jittered = shortest + (longest - shortest).mul_f64(random.clamp(0.0, 1.0));
        let requested = failed.retry_after.unwrap_or_default().min(MAX_REST);
        let wanted = failed.ended_at.plus(jittered.max(requested));
        let earliest = failed.ended_at.plus(Duration::from_millis(ceil_millis(shortest)));
        // Once the window is over, because Postrider was down or its clock was set forward, hurrying
        // gains nothing.
        if failed.ended_at >= failed.first_attempt_at.plus(self.window) {
            return NextAttempt::At(wanted.max(earliest));
        }
        // The latest start that leaves enough time for the remaining retries at their shortest
        // delays. Jitter alone never exceeds it, but `Retry-After` can. If Postrider itself was so
        // late that nothing fits, keeping the delays apart matters more than the window.
        let rest = self.shortest_after(retry);
        let latest = failed.first_attempt_at.plus(self.window.saturating_sub(rest));
        NextAttempt::At(wanted.min(latest).max(earliest))
    }

    /// About when a delivery will have used up its attempts if they keep failing: `attempts` have been
    /// made, and the next one is due at `due`.
    #[must_use]
    pub fn expected_exhaustion(&self, attempts: u8, due: Timestamp) -> Timestamp {
        let retries = attempts.saturating_add(1)..=self.max_retries;
        due.plus(retries.map(|retry| self.delay(retry)).sum())
    }

    /// The delay before retry `retry` (from 1) without jitter.
    #[must_use]
    pub fn delay(&self, retry: u8) -> Duration {
        let delay = self.base.as_secs_f64() * self.factor.powi(i32::from(retry) - 1);
        // Only schedules that `new` rejects exceed the maximum.
        Duration::try_from_secs_f64(delay).unwrap_or(MAX_DELAY).min(MAX_DELAY)
    }

    /// The shortest and the longest delay before retry `retry` (from 1), with jitter.
    #[must_use]
    pub fn delay_bounds(&self, retry: u8) -> (Duration, Duration) {
        let delay = self.delay(retry);
        (delay.mul_f64(1.0 - self.jitter), delay.mul_f64(1.0 + self.jitter))
    }

    #[must_use]
    pub fn max_retries(&self) -> u8 {
        self.max_retries
    }

    #[must_use]
    pub fn max_attempts(&self) -> u32 {
        u32::from(self.max_retries) + 1
    }

    /// How long after the first attempt the last retry may start.
    #[must_use]
    pub fn window(&self) -> Duration {
        self.window
    }

    /// The ratio of each delay to the one before.
    #[must_use]
    pub fn factor(&self) -> f64 {
        self.factor
    }

    /// The largest relative deviation of a delay.
    #[must_use]
    pub fn jitter(&self) -> f64 {
        self.jitter
    }

    /// The timeout of one attempt.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The longest time from the start of the first attempt to the start of the last retry.
    fn worst_case(&self) -> Duration {
        (1..=self.max_retries).map(|k| self.timeout + self.delay_bounds(k).1).sum()
    }

    /// The time from the start of retry `retry` to the start of the last one, if every attempt
    /// times out and every delay is at its shortest.
    fn shortest_after(&self, retry: u8) -> Duration {
        (retry + 1..=self.max_retries).map(|k| self.timeout + self.delay_bounds(k).0).sum()
    }

    fn derive_base(&self) -> Duration {
        if self.max_retries == 0 {
            return MIN_BASE;
        }
        let total_delay = self.window.saturating_sub(self.timeout * u32::from(self.max_retries));
        let weights: f64 = (0..self.max_retries).map(|k| self.factor.powi(i32::from(k))).sum();
        let base = total_delay.div_f64((1.0 + self.jitter) * weights);
        // Rounded down to microseconds, so that floating-point sums stay within the window.
        let micros = u64::try_from(base.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(micros).max(MIN_BASE)
    }
}

fn ceil_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

impl Default for Policy {
    /// 10 retries within 24 hours, factor 2.5, jitter 0.2, 5 seconds an attempt.
    fn default() -> Self {
        Self::new(10, Duration::from_secs(24 * 3600), 2.5, 0.2, Duration::from_secs(5))
            .expect("the defaults fit")
    }
}

#[cfg(test)]
mod tests;
