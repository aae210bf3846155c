//! When an endpoint is disabled.

use crate::endpoint::{Disabled, DisabledReason, State};
use crate::ids::DeliveryId;
use crate::outcome::Failure;
use crate::retry::NextAttempt;
use crate::time::Timestamp;

/// The installation's policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Whether a 410 Gone disables the endpoint at once. By default it is an ordinary failure.
    pub on_gone: bool,
}

/// Decides whether a failed attempt disables its endpoint: the first delivery to exhaust its
/// attempts does. An endpoint that is already disabled or deleted is left alone.
#[must_use]
pub fn after_failure(
    endpoint: &State,
    failure: &Failure,
    next: NextAttempt,
    policy: Policy,
    delivery: DeliveryId,
    now: Timestamp,
) -> Option<Disabled> {
    let reason = match next {
        _ if *endpoint != State::Enabled => return None,
        _ if policy.on_gone && failure.status == Some(410) => DisabledReason::Gone,
        NextAttempt::Exhausted => DisabledReason::Exhausted,
        NextAttempt::At(_) => return None,
    };
    Some(Disabled { reason, at: now, delivery: Some(delivery) })
}

/// Disables an endpoint at a person's request. `None` if it is not enabled.
#[must_use]
pub fn manually(endpoint: &State, now: Timestamp) -> Option<Disabled> {
    let reason = DisabledReason::Manual;
    (*endpoint == State::Enabled).then_some(Disabled { reason, at: now, delivery: None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::{self, Outcome};

    const NOW: Timestamp = Timestamp::from_millis(7);
    const LATER: NextAttempt = NextAttempt::At(NOW);

    fn reason(
        endpoint: &State,
        status: u16,
        next: NextAttempt,
        on_gone: bool,
    ) -> Option<DisabledReason> {
        let Outcome::Failure(failure) = outcome::of_status(status, None, None) else {
            panic!("{status} is not a failure")
        };
        let policy = Policy { on_gone };
        after_failure(endpoint, &failure, next, policy, DeliveryId::MIN, NOW).map(|d| d.reason)
    }

    #[test]
    fn only_exhaustion_or_gone_disables() {
        assert_eq!(
            reason(&State::Enabled, 500, NextAttempt::Exhausted, false),
            Some(DisabledReason::Exhausted)
        );
        assert_eq!(reason(&State::Enabled, 500, LATER, false), None);
        assert_eq!(reason(&State::Enabled, 410, LATER, false), None);
        assert_eq!(reason(&State::Enabled, 410, LATER, true), Some(DisabledReason::Gone));
        assert_eq!(reason(&State::Enabled, 404, LATER, true), None);
    }

    #[test]
    fn an_endpoint_is_disabled_once() {
        let disabled = State::Disabled(manually(&State::Enabled, NOW).expect("enabled"));
        assert_eq!(manually(&disabled, NOW), None);
        for state in [disabled, State::Deleted] {
            assert_eq!(reason(&state, 500, NextAttempt::Exhausted, true), None);
            assert_eq!(manually(&state, NOW), None);
        }
    }
}
