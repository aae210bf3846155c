//! How many requests may be in flight to one endpoint: more while it succeeds, fewer when it
//! fails (additive increase, multiplicative decrease, as in RFC 5681).

use crate::limits::MAX_IN_FLIGHT_PER_ENDPOINT;

/// The limit of an endpoint that no failure is known of when its actor starts.
const HEALTHY_START: u32 = 4;

/// The adaptive limit of one endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    limit: u32,
}

impl Pace {
    /// Where an endpoint with so many failures in a row begins. One that has failed begins
    /// with a single request, so that a backlog does not fall upon it as it recovers.
    #[must_use]
    pub const fn starting(failure_count: u32) -> Self {
        Self { limit: if failure_count == 0 { HEALTHY_START } else { 1 } }
    }

    /// How many may be in flight.
    #[must_use]
    pub const fn limit(self) -> u32 {
        self.limit
    }

    /// One more, up to 16.
    #[must_use]
    pub fn after_success(self) -> Self {
        Self { limit: (self.limit + 1).min(MAX_IN_FLIGHT_PER_ENDPOINT) }
    }

    /// Half as many, down to 1.
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
            let mut pace = Pace::starting(start);
            for success in successes {
                pace = if success { pace.after_success() } else { pace.after_failure() };
                prop_assert!((1..=MAX_IN_FLIGHT_PER_ENDPOINT).contains(&pace.limit()));
            }
        }
    }

    #[test]
    fn four_failures_bring_it_to_one() {
        let full = Pace { limit: 16 };
        let after = (0..4).fold(full, |pace, _| pace.after_failure());
        assert_eq!(after.limit(), 1);
    }
}
