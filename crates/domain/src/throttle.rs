//! How fast an endpoint takes requests, as learnt from its responses.
//!
//! An endpoint refuses a request when it responds with 429 or 503. It then rests: no request is
//! sent for as long as its `Retry-After` asks, or for a pause that doubles with each refusal in
//! a row. Afterwards one request at a time probes it. Once it accepts one, requests are spaced at
//! half the rate at which it refused, and each success brings them closer together: quickly up
//! to just below that rate, and beyond only after many successes. The rate is a property of the
//! endpoint, not of a delivery: a burst of a hundred deliveries costs few of them an attempt.

use std::time::Duration;

/// A time on a monotonic clock, since any origin.
pub type Uptime = Duration;

/// The longest rest that `Retry-After` can ask for.
pub const MAX_REST: Duration = Duration::from_secs(3600);
/// The shortest and the longest pause after a refusal without `Retry-After`. An endpoint that has
/// recovered is noticed within the longest, if there is anything to send.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(60));
/// The longest time between two requests.
const MAX_INTERVAL: Duration = Duration::from_secs(60);
/// Requests that are closer together than this are not spaced.
const MIN_INTERVAL: Duration = Duration::from_millis(2);
/// The interval after a success, relative to the one before.
const GROWTH: f64 = 0.9;
/// The interval that is kept for a long time, relative to the one at which the endpoint refused.
const SAFE: f64 = 1.1;
/// How many successes at the safe interval it takes before shorter ones are tried.
const SUCCESSES_BEFORE_GROWTH: u32 = 100;

/// What is known about the rate that one endpoint accepts. A new one is unlimited.
#[derive(Clone, Debug, Default)]
pub struct Throttle {
    /// The least time between the starts of two requests.
    interval: Duration,
    /// The interval that has proved safe, if the endpoint has refused because of the rate.
    safe_interval: Duration,
    /// Successes at the safe interval.
    safe_successes: u32,
    /// Refusals since the last success.
    refusals: u32,
    /// When the latest refusal arrived that `refusals` includes.
    refused_at: Uptime,
    rests_until: Uptime,
    /// When the next request may start because of `interval`.
    next_start: Uptime,
    successes: Recent,
}

/// A refused request.
#[derive(Clone, Copy, Debug)]
pub struct Refusal {
    /// When the request started.
    pub started_at: Uptime,
    /// The delay that the endpoint asked for.
    pub retry_after: Option<Duration>,
    /// Until the next attempt of the refused delivery. The endpoint does not rest longer, so that
    /// the delivery's last attempt still starts within its window.
    pub next_attempt_in: Duration,
}

impl Throttle {
    /// When the next request may start. It may have passed.
    #[must_use]
    pub fn ready_at(&self) -> Uptime {
        self.rests_until.max(self.next_start)
    }

    /// Whether only one request may be in flight, to find out whether the endpoint accepts again.
    #[must_use]
    pub fn is_probing(&self) -> bool {
        self.refusals > 0
    }

    /// Notes that a request starts.
    pub fn started(&mut self, now: Uptime) {
        self.next_start = now + self.interval;
    }

    /// Notes that the endpoint accepted a request.
    pub fn succeeded(&mut self, now: Uptime) {
        self.successes.add(now);
        self.refusals = 0;
        if self.interval.is_zero() {
            return;
        }
        let shorter = self.interval.mul_f64(GROWTH);
        if self.interval > self.safe_interval {
            self.interval = shorter.max(self.safe_interval);
        } else if self.safe_successes < SUCCESSES_BEFORE_GROWTH {
            self.safe_successes += 1;
        } else {
            (self.interval, self.safe_interval) = (shorter, Duration::ZERO);
        }
        if self.interval < MIN_INTERVAL {
            self.interval = Duration::ZERO;
        }
    }

    /// Notes that the endpoint refused a request.
    pub fn refused(&mut self, refusal: Refusal, now: Uptime) {
        let Refusal { started_at, retry_after, next_attempt_in } = refusal;
        // Several requests in flight may be refused for the same reason.
        if self.refusals == 0 || started_at >= self.refused_at {
            self.refusals += 1;
            self.refused_at = now;
            // Only the first refusal depends on the rate: a probe is a single request.
            if self.refusals == 1 {
                self.slow_down(now);
            }
        }
        let pause = retry_after.map_or_else(|| self.pause(), |asked| asked.max(PAUSE.0));
        let rest = pause.min(next_attempt_in).min(MAX_REST);
        self.rests_until = self.rests_until.max(now + rest);
    }

    /// Rests for `duration`, because an earlier owner of the endpoint was refused.
    pub fn rest(&mut self, duration: Duration, now: Uptime) {
        self.refusals = self.refusals.max(1);
        self.refused_at = now;
        self.rests_until = now + duration.min(PAUSE.1);
    }

    fn slow_down(&mut self, now: Uptime) {
        let measured = self.successes.interval(now);
        let refused = self.interval.max(measured.unwrap_or(Duration::ZERO));
        self.safe_successes = 0;
        // Without a recent success, the rate was not the reason.
        self.safe_interval = refused.mul_f64(SAFE).min(MAX_INTERVAL);
        let unknown = Duration::from_secs(1);
        self.interval = if refused.is_zero() { unknown } else { (refused * 2).min(MAX_INTERVAL) };
    }

    fn pause(&self) -> Duration {
        let doublings = self.refusals.saturating_sub(1).min(16);
        let (shortest, longest) = PAUSE;
        self.interval.max(shortest).saturating_mul(1 << doublings).min(longest)
    }
}

/// Counts successes in the current second and the one before.
#[derive(Clone, Copy, Debug, Default)]
struct Recent {
    second: u64,
    current: u32,
    previous: u32,
}

impl Recent {
    fn add(&mut self, now: Uptime) {
        self.advance(now);
        self.current = self.current.saturating_add(1);
    }

    fn advance(&mut self, now: Uptime) {
        let second = now.as_secs();
        if second != self.second {
            let previous = if second == self.second + 1 { self.current } else { 0 };
            *self = Self { second, current: 0, previous };
        }
    }

    /// The mean time between the successes of the last one to two seconds. `None` without any.
    fn interval(mut self, now: Uptime) -> Option<Duration> {
        self.advance(now);
        let count = self.current.saturating_add(self.previous);
        let seconds =
            if self.previous > 0 { 1.0 + f64::from(now.subsec_millis()) / 1e3 } else { 1.0 };
        (count > 0).then(|| Duration::from_secs_f64(seconds / f64::from(count)))
    }
}

#[cfg(test)]
mod tests;
