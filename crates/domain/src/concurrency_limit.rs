//! The adaptive limit of requests in flight to one endpoint: additive increase on success,
//! multiplicative decrease on failure (AIMD, as in RFC 5681).

use crate::limits::MAX_IN_FLIGHT_PER_ENDPOINT;

/// The initial limit of an endpoint without recent failures.
const HEALTHY_START: u32 = 4;

/// The adaptive limit of one endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConcurrencyLimit {
    limit: u32,
}

impl ConcurrencyLimit {
    /// The initial limit after `failure_count` consecutive failures. A failing endpoint starts
    /// with a single request, so that its backlog does not overwhelm it as it recovers.
    #[must_use]
    pub const fn starting(failure_count: u32) -> Self {
        Self { limit: if failure_count == 0 { HEALTHY_START } else { 1 } }
    }

    /// How many requests may be in flight.
    #[must_use]
    pub const fn limit(self) -> u32 {
        self.limit
    }

    /// Increases by one, up to 16.
    #[must_use]
    pub fn after_success(self) -> Self {
        Self { limit: (self.limit + 1).min(MAX_IN_FLIGHT_PER_ENDPOINT) }
    }

    /// Halves, down to 1.
    #[must_use]
    pub fn after_failure(self) -> Self {
        Self { limit: (self.limit / 2).max(1) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_limit_stays_from_1_to_16(start in 0_u32..3, successes in prop::collection::vec(any::<bool>(), 0..200)) {
            let mut current = ConcurrencyLimit::starting(start);
            for success in successes {
                current = if success { current.after_success() } else { current.after_failure() };
                prop_assert!((1..=MAX_IN_FLIGHT_PER_ENDPOINT).contains(&current.limit()));
            }
        }
    }

    #[test]
    fn four_failures_reduce_the_limit_to_one() {
        let full = ConcurrencyLimit { limit: 16 };
        let after = (0..4).fold(full, |current, _| current.after_failure());
        assert_eq!(after.limit(), 1);
    }
}
