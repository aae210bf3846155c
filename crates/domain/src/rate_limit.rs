//! The rate limit that an endpoint's owner sets: a token bucket, computed as GCRA (ITU-T I.371).

use std::time::Duration;

use crate::throttle::Uptime;

/// The range of requests per second.
pub const PER_SECOND_RANGE: (f64, f64) = (0.01, 1_000.0);
/// The largest burst.
pub const MAX_BURST: u32 = 1_000;

/// At most `burst` requests at once, and `per_second` on average.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// Requests per 1,000 seconds.
    per_1000_seconds: u32,
    burst: u32,
}

/// Why a rate limit is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RateLimitError {
    #[error("must be a number from 0.01 to 1000")]
    PerSecond,
    #[error("must be a number from 1 to {MAX_BURST}")]
    Burst,
}

impl RateLimit {
    /// A limit of `per_second`, rounded to thousandths, with bursts of `burst`.
    ///
    /// # Errors
    /// When a value is out of range.
    pub fn new(per_second: f64, burst: u32) -> Result<Self, RateLimitError> {
        let (min, max) = PER_SECOND_RANGE;
        if !(min..=max).contains(&per_second) {
            return Err(RateLimitError::PerSecond);
        }
        if !(1..=MAX_BURST).contains(&burst) {
            return Err(RateLimitError::Burst);
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "from 10 to 1,000,000"
        )]
        let per_1000_seconds = (per_second * 1_000.0).round() as u32;
        Ok(Self { per_1000_seconds, burst })
    }

    /// A limit as it was stored. Values out of range are moved into it.
    #[must_use]
    pub fn from_stored(per_1000_seconds: u32, burst: u32) -> Self {
        Self { per_1000_seconds: per_1000_seconds.max(1), burst: burst.max(1) }
    }

    #[must_use]
    pub fn per_second(self) -> f64 {
        f64::from(self.per_1000_seconds) / 1_000.0
    }

    #[must_use]
    pub const fn per_1000_seconds(self) -> u32 {
        self.per_1000_seconds
    }

    #[must_use]
    pub const fn burst(self) -> u32 {
        self.burst
    }

    /// The time between two requests at the average rate.
    fn interval(self) -> Duration {
        Duration::from_secs(1_000) / self.per_1000_seconds
    }
}

/// The tokens that an endpoint has left.
#[derive(Clone, Copy, Debug)]
pub struct TokenBucket {
    /// When the bucket is full again.
    full_at: Uptime,
    /// When it was known to be empty. Until then it fills at any limit.
    empty_at: Option<Uptime>,
}

impl TokenBucket {
    /// A bucket that was empty at `now`, whatever its size: nobody knows what was sent before.
    #[must_use]
    pub fn empty(now: Uptime) -> Self {
        Self { full_at: now, empty_at: Some(now) }
    }

    /// When the next request may start. It may have passed.
    #[must_use]
    pub fn ready_at(&self, limit: RateLimit) -> Uptime {
        self.full_at(limit).saturating_sub(limit.interval() * (limit.burst - 1))
    }

    /// When a burst may start.
    #[must_use]
    pub fn full_at(&self, limit: RateLimit) -> Uptime {
        let filled = self.empty_at.map(|at| at + limit.interval() * limit.burst);
        self.full_at.max(filled.unwrap_or_default())
    }

    /// Takes a token for a request that starts.
    pub fn take(&mut self, limit: RateLimit, now: Uptime) {
        self.full_at = self.full_at(limit).max(now) + limit.interval();
        self.empty_at = None;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Starts requests as early as the bucket allows, and returns their times.
    fn starts(
        mut bucket: TokenBucket,
        limit: RateLimit,
        from: Uptime,
        count: usize,
    ) -> Vec<Uptime> {
        let mut now = from;
        let step = |_| {
            now = now.max(bucket.ready_at(limit));
            bucket.take(limit, now);
            now
        };
        (0..count).map(step).collect()
    }

    #[test]
    fn a_full_bucket_allows_a_burst_then_the_average_rate() {
        let limit = RateLimit::new(2.0, 3).expect("valid");
        let bucket = TokenBucket::empty(Duration::ZERO);
        let later = Duration::from_secs(100);
        let found = starts(bucket, limit, later, 5);
        let expected = [0, 0, 0, 500, 1_000].map(|ms| later + Duration::from_millis(ms));
        assert_eq!(found, expected);
    }

    #[test]
    fn an_empty_bucket_starts_at_the_average_rate() {
        let limit = RateLimit::new(1.0, 10).expect("valid");
        let now = Duration::from_secs(5);
        let found = starts(TokenBucket::empty(now), limit, now, 3);
        assert_eq!(found, [6, 7, 8].map(Duration::from_secs));
    }

    #[test]
    fn values_out_of_range_are_rejected() {
        for per_second in [0.0, -1.0, 0.009, 1_000.1, f64::NAN, f64::INFINITY] {
            assert_eq!(RateLimit::new(per_second, 1), Err(RateLimitError::PerSecond));
        }
        for burst in [0, MAX_BURST + 1] {
            assert_eq!(RateLimit::new(1.0, burst), Err(RateLimitError::Burst));
        }
        assert_eq!(RateLimit::new(0.01, 1).map(RateLimit::per_second), Ok(0.01));
    }

    proptest! {
        #[test]
        fn no_period_has_more_requests_than_the_limit_allows(
            per_second in 0.01_f64..1_000.0, burst in 1_u32..50, gaps in prop::collection::vec(0_u64..3_000, 1..80)
        ) {
            let limit = RateLimit::new(per_second, burst).expect("valid");
            let mut bucket = TokenBucket::empty(Duration::ZERO);
            let mut now = Duration::ZERO;
            let mut starts = Vec::new();
            for gap in gaps {
                now = (now + Duration::from_millis(gap)).max(bucket.ready_at(limit));
                bucket.take(limit, now);
                starts.push(now);
            }
            for (first, from) in starts.iter().enumerate() {
                for (last, to) in starts.iter().enumerate().skip(first) {
                    let count = (last - first + 1) as f64;
                    let allowed = f64::from(burst) + (*to - *from).as_secs_f64() * limit.per_second();
                    prop_assert!(count <= allowed + 1e-3, "{count} > {allowed}");
                }
            }
        }
    }
}
