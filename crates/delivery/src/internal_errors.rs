//! When our own repeated errors count as a failure of the endpoint.
//!
//! Our own outage is not the endpoint's failure: an attempt that this node could not make is not
//! recorded. But an error that affects only one delivery would recur forever, without a record, a
//! final state or an email, and block the deliveries behind it. So it counts as a failure once it
//! has recurred often enough while this node kept making and recording other requests.

use std::collections::HashMap;

use postrider_domain::ids::DeliveryId;

/// Number of consecutive internal errors after which the next one is recorded as a failed attempt.
/// With the pause after each, that takes a minute.
pub(crate) const STREAK_LIMIT: u32 = 6;
/// Maximum deliveries of an endpoint whose internal errors are remembered.
const MAX_TRACKED: usize = 128;

/// What this node has accomplished since it started. It is healthy if both counts increase: new
/// connections show that it has the resources for them (pooled connections do not), and recorded
/// successes show that the store and everything in between work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct NodeProgress {
    /// Connections opened.
    pub(crate) connections: u64,
    /// Successful attempts recorded.
    pub(crate) successes: u64,
}

impl NodeProgress {
    fn has_advanced_since(self, earlier: Self) -> bool {
        self.connections > earlier.connections && self.successes > earlier.successes
    }
}

/// The deliveries of an endpoint whose last attempts failed with internal errors. Kept only in
/// memory: a new owner starts counting from zero.
#[derive(Debug, Default)]
pub(crate) struct InternalErrors(HashMap<DeliveryId, ErrorStreak>);

/// Consecutive internal errors. All but the first count only if the node was healthy in between.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ErrorStreak {
    length: u32,
    /// The node's progress at the last error.
    at_last_error: NodeProgress,
}

impl ErrorStreak {
    /// Whether the next internal error counts as a failure, given the node's current progress.
    pub(crate) fn counts_as_failure(self, now: NodeProgress) -> bool {
        self.length >= STREAK_LIMIT && now.has_advanced_since(self.at_last_error)
    }
}

impl InternalErrors {
    /// Notes an internal error of a delivery's attempt.
    pub(crate) fn note(&mut self, delivery: DeliveryId, now: NodeProgress) {
        if let Some(streak) = self.0.get_mut(&delivery) {
            if now.has_advanced_since(streak.at_last_error) {
                *streak =
                    ErrorStreak { length: streak.length.saturating_add(1), at_last_error: now };
            }
        } else if self.0.len() < MAX_TRACKED {
            self.0.insert(delivery, ErrorStreak { length: 1, at_last_error: now });
        }
    }

    /// Resets a delivery, because its attempt was recorded or it needs no more attempts.
    pub(crate) fn reset(&mut self, delivery: DeliveryId) {
        self.0.remove(&delivery);
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    pub(crate) fn streak(&self, delivery: DeliveryId) -> Option<ErrorStreak> {
        self.0.get(&delivery).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: DeliveryId = DeliveryId::MIN;

    fn progress(connections: u64, successes: u64) -> NodeProgress {
        NodeProgress { connections, successes }
    }

    fn counts(errors: &InternalErrors, now: NodeProgress) -> bool {
        errors.streak(ID).is_some_and(|streak| streak.counts_as_failure(now))
    }

    #[test]
    fn internal_errors_count_while_other_requests_succeed() {
        let mut errors = InternalErrors::default();
        for number in 1..=u64::from(STREAK_LIMIT) {
            assert!(!counts(&errors, progress(number, number)), "after {}", number - 1);
            errors.note(ID, progress(number, number));
        }
        let last = u64::from(STREAK_LIMIT);
        assert!(!counts(&errors, progress(last, last)), "nothing has succeeded since");
        assert!(counts(&errors, progress(last + 1, last + 1)));
        errors.reset(ID);
        assert!(!counts(&errors, progress(last + 2, last + 2)), "the count starts over");
    }

    #[test]
    fn an_outage_of_this_node_is_not_the_endpoints_failure() {
        let mut errors = InternalErrors::default();
        errors.note(ID, progress(1, 1));
        // No progress at all; no new connections; no new records.
        for stalled in [|_| progress(1, 1), |time| progress(1, time), |time| progress(time, 1)] {
            for time in 2..1_000 {
                errors.note(ID, stalled(time));
                assert!(!counts(&errors, stalled(time + 1)));
            }
        }
    }

    #[test]
    fn the_number_of_remembered_deliveries_is_bounded() {
        let mut errors = InternalErrors::default();
        let id_generator = postrider_domain::ids::IdGenerator::new(1);
        for time in 0..2 * MAX_TRACKED as u64 {
            let at = postrider_domain::time::Timestamp::from_millis(time);
            errors.note(id_generator.id(at), progress(1, 1));
        }
        assert_eq!(errors.0.len(), MAX_TRACKED);
    }
}
