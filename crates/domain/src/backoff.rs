//! Exponential backoff with jitter, so that clients that lost a server at the same time do not all
//! retry at the same time.

use std::time::Duration;

/// How long to wait before each retry. The delay doubles with each consecutive failure.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    /// Delay after the first failure, before jitter.
    pub initial: Duration,
    /// Maximum delay.
    pub max: Duration,
}

impl Backoff {
    /// The delay after `failures` consecutive failures (from 1). `random`, from 0 to 1, shortens it
    /// by up to a half.
    #[must_use]
    pub fn delay(&self, failures: u32, random: f64) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        let full = self.initial.saturating_mul(1 << doublings).min(self.max);
        full.mul_f64(1.0 - random.clamp(0.0, 1.0) / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_the_maximum() {
        let backoff = Backoff { initial: Duration::from_secs(1), max: Duration::from_secs(60) };
        let delays: Vec<u64> =
            (1..=8).map(|failures| backoff.delay(failures, 0.0).as_secs()).collect();
        assert_eq!(delays, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(backoff.delay(u32::MAX, 0.0), Duration::from_secs(60));
    }

    #[test]
    fn jitter_shortens_the_delay_by_half_at_most() {
        let backoff = Backoff { initial: Duration::from_secs(2), max: Duration::from_secs(60) };
        assert_eq!(backoff.delay(1, 1.0), Duration::from_secs(1));
        assert_eq!(backoff.delay(1, 7.0), Duration::from_secs(1));
    }
}
