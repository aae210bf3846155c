//! How long to wait after the nth failure in a row: twice as long each time, with jitter, so
//! that nodes that lost the mail server together do not come back together.

use std::time::Duration;

/// Bounds of the wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    /// After the first failure, before jitter.
    pub first: Duration,
    /// Never longer than this.
    pub longest: Duration,
}

impl Backoff {
    /// The wait after `failures` failures in a row (from 1). `luck`, from 0 to 1, takes up to a
    /// half of it away.
    pub(crate) fn wait(&self, failures: u32, luck: f64) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        let whole = self.first.saturating_mul(1 << doublings).min(self.longest);
        whole.mul_f64(1.0 - luck.clamp(0.0, 1.0) / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_its_bound() {
        let backoff = Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(60) };
        let waits: Vec<u64> =
            (1..=8).map(|failures| backoff.wait(failures, 0.0).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(backoff.wait(u32::MAX, 0.0), Duration::from_secs(60));
    }

    #[test]
    fn jitter_takes_a_half_at_most() {
        let backoff = Backoff { first: Duration::from_secs(2), longest: Duration::from_secs(60) };
        assert_eq!(backoff.wait(1, 1.0), Duration::from_secs(1));
        assert_eq!(backoff.wait(1, 7.0), Duration::from_secs(1));
    }
}
