//! The system clock. This is the only place that reads it.
//!
//! A wall clock set forward or back by mistake would make retries an hour early or late. A step of
//! the wall clock is therefore accepted only after it has lasted for [`ACCEPT_AFTER`]; until then,
//! time advances with the monotonic clock. An operator who corrects a wrong clock waits as long. What
//! an accepted step means for retries is decided in `domain::retry`.
//! Drift, including slewing by a time daemon, is followed at once. Webhook signatures use the raw
//! wall clock ([`Clock::wall`]), because receivers with correct clocks reject timestamps that are
//! minutes off.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use postrider_cluster::lease_validity::Uptime;
use postrider_domain::clock_check;
use postrider_domain::time::{Clock, Timestamp};
use rustix::time::{ClockId, clock_gettime};

/// How long a step must last before it is accepted.
const ACCEPT_AFTER: Duration = Duration::from_secs(60);

/// The system clock with steps filtered out. Create one per process.
#[derive(Default)]
pub struct SystemClock(Mutex<StepFilter>);

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let mut filter = self.0.lock();
        filter.now(self.wall(), self.uptime())
    }

    #[expect(clippy::disallowed_methods, reason = "all other code gets its clock from here")]
    fn wall(&self) -> Timestamp {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::EPOCH.plus(since_epoch)
    }
}

impl Uptime for SystemClock {
    fn uptime(&self) -> Duration {
        Duration::try_from(clock_gettime(ClockId::Boottime)).unwrap_or_default()
    }
}

/// Combines the wall clock and the monotonic clock.
#[derive(Default)]
struct StepFilter {
    /// Both readings when the clocks last agreed.
    last_agreed: Option<(Timestamp, Duration)>,
    /// The uptime at which the wall clock stepped.
    stepped_at: Option<Duration>,
}

impl StepFilter {
    /// The filtered time, given the readings of both clocks.
    fn now(&mut self, wall: Timestamp, uptime: Duration) -> Timestamp {
        let Some((last_agreed, at)) = self.last_agreed else {
            self.last_agreed = Some((wall, uptime));
            return wall;
        };
        let expected = last_agreed.plus(uptime.saturating_sub(at));
        if wall.since(expected).max(expected.since(wall)) <= clock_check::STEP {
            self.last_agreed = Some((wall, uptime));
            self.stepped_at = None;
            return wall;
        }
        let since = *self.stepped_at.get_or_insert_with(|| {
            tracing::warn!(%wall, %expected, "the wall clock stepped; ignoring the step unless it lasts");
            uptime
        });
        if uptime.saturating_sub(since) < ACCEPT_AFTER {
            return expected;
        }
        tracing::warn!(%wall, before = %expected, "accepted the wall clock step");
        *self = Self { last_agreed: Some((wall, uptime)), stepped_at: None };
        wall
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_millis(1_700_000_000_000);
    const HOUR: Duration = Duration::from_secs(3600);

    fn after(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn drift_is_followed() {
        let mut filter = StepFilter::default();
        for step in 0..1_000 {
            // One second every ten minutes.
            let wall = START.plus(after(600) * step + after(1) * step);
            assert_eq!(filter.now(wall, after(600) * step), wall);
        }
    }

    #[test]
    fn a_step_that_is_reverted_in_time_has_no_effect() {
        for wrong in [START.plus(HOUR), START.minus(HOUR)] {
            let mut filter = StepFilter::default();
            filter.now(START, after(0));
            for second in 1..=59 {
                let now = filter.now(wrong.plus(after(second)), after(second));
                assert_eq!(now, START.plus(after(second)));
            }
            assert_eq!(filter.now(START.plus(after(60)), after(60)), START.plus(after(60)));
            // The next step starts a new waiting period.
            assert_eq!(filter.now(wrong.plus(after(119)), after(119)), START.plus(after(119)));
        }
    }

    #[test]
    fn a_step_that_lasts_is_accepted() {
        let mut filter = StepFilter::default();
        filter.now(START, after(0));
        let right = |second| START.plus(HOUR + after(second));
        assert_eq!(filter.now(right(1), after(1)), START.plus(after(1)));
        assert_eq!(filter.now(right(61), after(61)), right(61));
        assert_eq!(filter.now(right(62), after(62)), right(62));
    }

    #[test]
    fn time_suspended_is_not_a_step() {
        let mut filter = StepFilter::default();
        filter.now(START, after(0));
        assert_eq!(filter.now(START.plus(HOUR), HOUR), START.plus(HOUR));
    }

    #[test]
    fn the_system_clock_advances() {
        let clock = SystemClock::default();
        let (first, second) = (clock.now(), clock.now());
        assert!(first > START && second >= first);
        assert!(clock.wall() >= second && clock.uptime() > Duration::ZERO);
    }
}
