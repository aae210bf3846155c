//! The system's clock, the one place where it is read, and steadied.
//!
//! A wall clock that is set forward or back by mistake would make retries an hour early or late. So
//! a step is believed only when it has lasted: until then time goes on as it did, by the clock that
//! cannot be set. Whoever sets a wrong clock right waits for [`BELIEVED_AFTER`]; drift, and what a
//! time daemon slews, is followed at once. What others hold against their own clocks, a webhook's
//! signature above all, takes the wall clock as it is: a receiver whose clock is right refuses
//! whatever is signed minutes off.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use postrider_cluster::pulse::Uptime;
use postrider_domain::time::{Clock, Timestamp};
use rustix::time::{ClockId, clock_gettime};

/// What differs by more is a step.
const STEP: Duration = Duration::from_secs(2);
/// How long a step must last to be believed.
const BELIEVED_AFTER: Duration = Duration::from_secs(60);

/// The system's clock, steadied. There is one in a process.
#[derive(Default)]
pub struct SystemClock(Mutex<Steady>);

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let mut steady = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        steady.now(self.wall(), self.uptime())
    }

    #[expect(clippy::disallowed_methods, reason = "this is the clock that everybody else is given")]
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

/// What is made of the two clocks.
#[derive(Default)]
struct Steady {
    /// The two at a moment when they agreed.
    agreed: Option<(Timestamp, Duration)>,
    /// Since when, by the clock that cannot be set, they have not.
    stepped: Option<Duration>,
}

impl Steady {
    /// The time, when the wall clock says `wall` and the machine has run for `running`.
    fn now(&mut self, wall: Timestamp, running: Duration) -> Timestamp {
        let Some((agreed, at)) = self.agreed else {
            self.agreed = Some((wall, running));
            return wall;
        };
        let expected = agreed.plus(running.saturating_sub(at));
        if wall.since(expected).max(expected.since(wall)) <= STEP {
            self.agreed = Some((wall, running));
            self.stepped = None;
            return wall;
        }
        let since = *self.stepped.get_or_insert_with(|| {
            tracing::warn!(%wall, %expected, "the clock was set; that is believed if it lasts");
            running
        });
        if running.saturating_sub(since) < BELIEVED_AFTER {
            return expected;
        }
        tracing::warn!(%wall, before = %expected, "the clock that was set is believed");
        *self = Self { agreed: Some((wall, running)), stepped: None };
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
        let mut steady = Steady::default();
        for step in 0..1_000 {
            // A second in ten minutes.
            let wall = START.plus(after(600) * step + after(1) * step);
            assert_eq!(steady.now(wall, after(600) * step), wall);
        }
    }

    #[test]
    fn a_step_that_is_taken_back_never_was() {
        for wrong in [START.plus(HOUR), START.minus(HOUR)] {
            let mut steady = Steady::default();
            steady.now(START, after(0));
            for second in 1..=59 {
                let told = steady.now(wrong.plus(after(second)), after(second));
                assert_eq!(told, START.plus(after(second)));
            }
            assert_eq!(steady.now(START.plus(after(60)), after(60)), START.plus(after(60)));
            // And the next one begins anew.
            assert_eq!(steady.now(wrong.plus(after(119)), after(119)), START.plus(after(119)));
        }
    }

    #[test]
    fn a_step_that_lasts_is_believed() {
        let mut steady = Steady::default();
        steady.now(START, after(0));
        let right = |second| START.plus(HOUR + after(second));
        assert_eq!(steady.now(right(1), after(1)), START.plus(after(1)));
        assert_eq!(steady.now(right(61), after(61)), right(61));
        assert_eq!(steady.now(right(62), after(62)), right(62));
    }

    #[test]
    fn a_machine_that_slept_knows_how_long() {
        let mut steady = Steady::default();
        steady.now(START, after(0));
        assert_eq!(steady.now(START.plus(HOUR), HOUR), START.plus(HOUR));
    }

    #[test]
    fn it_is_the_systems() {
        let clock = SystemClock::default();
        let (first, second) = (clock.now(), clock.now());
        assert!(first > START && second >= first);
        assert!(clock.wall() >= second && clock.uptime() > Duration::ZERO);
    }
}
