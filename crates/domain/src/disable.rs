//! When an endpoint is disabled.

use crate::endpoint::{Disabled, DisabledReason, State};
use crate::ids::DeliveryId;
use crate::outcome::Failure;
use crate::retry::Next;
use crate::time::Timestamp;

/// The installation's choice in the matter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Whether a 410 Gone disables the endpoint at once. By default it is a failure like
    /// any other.
    pub on_gone: bool,
}

/// Whether a failed attempt disables its endpoint: the first delivery to use up its attempts
/// does. An endpoint that is disabled or deleted already stays as it is.
#[must_use]
pub fn after_failure(
    endpoint: &State,
    failure: &Failure,
    next: Next,
    policy: Policy,
    delivery: DeliveryId,
    now: Timestamp,
) -> Option<Disabled> {
    let reason = match next {
        _ if *endpoint != State::Enabled => return None,
        _ if policy.on_gone && failure.status == Some(410) => DisabledReason::Gone,
        Next::Exhausted => DisabledReason::Exhausted,
        Next::At(_) => return None,
    };
    Some(Disabled { reason, at: now, delivery: Some(delivery) })
}

/// What a person's request to disable leads to; nothing when it is not enabled.
#[must_use]
pub fn by_hand(endpoint: &State, now: Timestamp) -> Option<Disabled> {
    let reason = DisabledReason::Manual;
    (*endpoint == State::Enabled).then_some(Disabled { reason, at: now, delivery: None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::{self, Outcome};

    const NOW: Timestamp = Timestamp::from_millis(7);
    const LATER: Next = Next::At(NOW);

    fn reason(endpoint: &State, status: u16, next: Next, on_gone: bool) -> Option<DisabledReason> {
        let Outcome::Failure(failure) = outcome::of_status(status, None, None) else {
            panic!("{status} is no failure")
        };
        let policy = Policy { on_gone };
        after_failure(endpoint, &failure, next, policy, DeliveryId::MIN, NOW).map(|d| d.reason)
    }

    #[test]
    fn exhaustion_disables_and_nothing_less() {
        assert_eq!(
            reason(&State::Enabled, 500, Next::Exhausted, false),
            Some(DisabledReason::Exhausted)
        );
        assert_eq!(reason(&State::Enabled, 500, LATER, false), None);
        assert_eq!(reason(&State::Enabled, 410, LATER, false), None);
        assert_eq!(reason(&State::Enabled, 410, LATER, true), Some(DisabledReason::Gone));
        assert_eq!(reason(&State::Enabled, 404, LATER, true), None);
    }

    #[test]
    fn it_happens_once() {
        let disabled = State::Disabled(by_hand(&State::Enabled, NOW).expect("enabled"));
        assert_eq!(by_hand(&disabled, NOW), None);
        for state in [disabled, State::Deleted] {
            assert_eq!(reason(&state, 500, Next::Exhausted, true), None);
            assert_eq!(by_hand(&state, NOW), None);
        }
    }
}
