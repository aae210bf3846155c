//! When an endpoint is disabled.

use serde::{Deserialize, Serialize};

use crate::endpoint::{Disabled, DisabledReason, State};
use crate::ids::DeliveryId;
use crate::outcome::Failure;
use crate::retry::NextAttempt;
use crate::time::Timestamp;

/// Which exhausted delivery disables its endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DisableWhen {
    /// Every one.
    #[default]
    Exhausted,
    /// One since whose first attempt no other delivery to the endpoint has succeeded.
    ExhaustedAndNothingDelivered,
}

impl DisableWhen {
    pub const ALL: [Self; 2] = [Self::Exhausted, Self::ExhaustedAndNothingDelivered];

    /// The name in the API and the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Exhausted => "exhausted",
            Self::ExhaustedAndNothingDelivered => "exhausted_and_nothing_delivered",
        }
    }
}

/// The installation's policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Which exhausted delivery disables its endpoint, unless the endpoint has a setting of its
    /// own.
    pub when: DisableWhen,
    /// Whether a 410 Gone disables the endpoint at once. By default it is an ordinary failure.
    pub on_gone: bool,
}

/// A failed attempt of a delivery.
#[derive(Clone, Copy, Debug)]
pub struct FailedDelivery<'a> {
    pub delivery: DeliveryId,
    pub failure: &'a Failure,
    pub next: NextAttempt,
    /// Whether another delivery has succeeded since the first attempt of this one.
    pub others_delivered: bool,
    /// When the attempt ended.
    pub at: Timestamp,
}

impl Policy {
    /// Whether the delivery, once it is exhausted, disables its endpoint.
    #[must_use]
    pub fn disables_when_exhausted(self, failed: FailedDelivery<'_>) -> bool {
        match self.when {
            DisableWhen::Exhausted => true,
            DisableWhen::ExhaustedAndNothingDelivered => !failed.others_delivered,
        }
    }
}

/// Decides whether a failed attempt disables its endpoint. An endpoint that is already disabled or
/// deleted is left alone.
#[must_use]
pub fn after_failure(
    endpoint: &State,
    failed: FailedDelivery<'_>,
    policy: Policy,
) -> Option<Disabled> {
    let reason = match failed.next {
        _ if *endpoint != State::Enabled => return None,
        _ if policy.on_gone && failed.failure.status == Some(410) => DisabledReason::Gone,
        NextAttempt::Exhausted if policy.disables_when_exhausted(failed) => {
            DisabledReason::Exhausted
        }
        NextAttempt::Exhausted | NextAttempt::At(_) => return None,
    };
    Some(Disabled { reason, at: failed.at, delivery: Some(failed.delivery) })
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
        let policy = Policy { on_gone, ..Policy::default() };
        after_failure(endpoint, failed(&failure, next), policy).map(|d| d.reason)
    }

    fn failed(failure: &Failure, next: NextAttempt) -> FailedDelivery<'_> {
        let (delivery, others_delivered) = (DeliveryId::MIN, true);
        FailedDelivery { delivery, failure, next, others_delivered, at: NOW }
    }

    #[test]
    fn an_endpoint_that_receives_other_deliveries_can_be_spared() {
        let Outcome::Failure(failure) = outcome::of_status(400, None, None) else {
            panic!("400 is not a failure")
        };
        let disables = |when, others_delivered| {
            let failed =
                FailedDelivery { others_delivered, ..failed(&failure, NextAttempt::Exhausted) };
            after_failure(&State::Enabled, failed, Policy { when, on_gone: false }).is_some()
        };
        assert!(disables(DisableWhen::Exhausted, true));
        assert!(disables(DisableWhen::Exhausted, false));
        assert!(!disables(DisableWhen::ExhaustedAndNothingDelivered, true));
        assert!(disables(DisableWhen::ExhaustedAndNothingDelivered, false));
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
