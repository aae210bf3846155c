//! The retry schedule, implemented a second time from the design, so that the product is not
//! checked against itself.

use std::time::Duration;

/// The required spacing of a delivery's attempts.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    /// The maximum number of retries after the first attempt.
    pub max_retries: u32,
    /// The time after the first attempt within which the last retry starts.
    pub window: Duration,
    /// The factor by which each delay exceeds the previous one.
    pub factor: f64,
    /// The largest random change of a delay, as a fraction of it.
    pub jitter: f64,
    /// The timeout of one attempt.
    pub timeout: Duration,
}

impl Schedule {
    /// The defaults except for these values.
    #[must_use]
    pub fn new(window: Duration, max_retries: u32, timeout: Duration) -> Self {
        Self { max_retries, window, factor: 2.5, jitter: 0.2, timeout }
    }

    /// The first delay without jitter: the largest with which the last retry still starts
    /// within the window, when every jitter is at its maximum and every attempt times out.
    #[must_use]
    pub fn base(&self) -> Duration {
        let waiting = self.window.saturating_sub(self.timeout * self.max_retries);
        let steps: f64 = (1..=self.max_retries).map(|retry| self.growth(retry)).sum();
        waiting.div_f64((1.0 + self.jitter) * steps)
    }

    /// The shortest delay before retry `retry`, from 1.
    #[must_use]
    pub fn shortest(&self, retry: u32) -> Duration {
        self.base().mul_f64(self.growth(retry) * (1.0 - self.jitter))
    }

    /// The longest delay before retry `retry`, from 1, unless `Retry-After` lengthens it.
    #[must_use]
    pub fn longest(&self, retry: u32) -> Duration {
        self.base().mul_f64(self.growth(retry) * (1.0 + self.jitter))
    }

    fn growth(&self, retry: u32) -> f64 {
        self.factor.powf(f64::from(retry) - 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_base_is_about_eleven_seconds() {
        let day = Duration::from_secs(24 * 3600);
        let schedule = Schedule::new(day, 10, Duration::from_secs(5));
        assert_eq!(schedule.base().as_secs(), 11);
        let longest: Duration = (1..=10).map(|k| schedule.longest(k) + schedule.timeout).sum();
        assert!(longest.abs_diff(day) < Duration::from_millis(1), "{longest:?}");
    }
}
