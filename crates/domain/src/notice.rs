//! Which changes trigger an email, and what the email needs to know.
//!
//! An account's contacts get a warning when every attempt to an endpoint has failed for an hour, an
//! email when the endpoint is disabled because of failures, and one reminder if it is still disabled
//! three days later.

use std::time::Duration;

use crate::endpoint::{Disabled, DisabledReason, LastError};
use crate::ids::{AccountId, DeliveryId, EndpointId};
use crate::time::Timestamp;

/// How long every attempt has to fail before the warning.
pub const WARN_AFTER: Duration = Duration::from_secs(3600);
/// How long after the email about a disabled endpoint the reminder is due.
pub const REMIND_AFTER: Duration = Duration::from_secs(3 * 24 * 3600);

/// When an account is warned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// How long every attempt has to fail. A constant except in tests.
    pub warn_after: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self { warn_after: WARN_AFTER }
    }
}

/// A reason to email an account's contacts. It is written in the same transaction as the change
/// that it reports, and removed once the email has been accepted or permanently refused for every
/// contact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    pub account: AccountId,
    pub endpoint: EndpointId,
    pub report: Report,
    /// Consecutive failed attempts.
    pub failure_count: u32,
    /// The latest failure.
    pub last_error: Option<LastError>,
}

/// What a notice reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    Warning(Warning),
    Disabled(Disabled),
    Reminder(Reminder),
}

/// Every attempt has failed for a while, and the endpoint will be disabled if that goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    pub at: Timestamp,
    /// When the failures began.
    pub failing_since: Timestamp,
    /// What will disable the endpoint.
    pub exhaustion: Exhaustion,
}

/// The endpoint was disabled a while ago.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reminder {
    pub disabled: Disabled,
    /// When the email is due.
    pub due: Timestamp,
}

/// The kind of a notice and of the email about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Warning,
    Disabled,
    Reminder,
}

/// A delivery that will have used up its attempts, and about when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exhaustion {
    pub delivery: DeliveryId,
    pub at: Timestamp,
}

/// An unbroken series of failed attempts to an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailureSeries {
    /// When its first attempt ended.
    pub since: Timestamp,
    /// The delivery that is expected to use up its attempts first, of those that disable the
    /// endpoint by that.
    pub exhaustion: Option<Exhaustion>,
    /// Whether the account has been warned.
    pub warned: bool,
}

impl Notice {
    /// The time of the change; for a reminder, when it is due. Together with the endpoint it
    /// identifies the notice, so writing a notice again does not duplicate it.
    #[must_use]
    pub fn at(&self) -> Timestamp {
        match &self.report {
            Report::Warning(warning) => warning.at,
            Report::Disabled(disabled) => disabled.at,
            Report::Reminder(reminder) => reminder.due,
        }
    }

    #[must_use]
    pub fn kind(&self) -> Kind {
        match self.report {
            Report::Warning(_) => Kind::Warning,
            Report::Disabled(_) => Kind::Disabled,
            Report::Reminder(_) => Kind::Reminder,
        }
    }

    /// The disabling that is reported. `None` for a warning.
    #[must_use]
    pub fn disabled(&self) -> Option<&Disabled> {
        match &self.report {
            Report::Warning(_) => None,
            Report::Disabled(disabled) | Report::Reminder(Reminder { disabled, .. }) => {
                Some(disabled)
            }
        }
    }

    /// The reminder that follows the email about a disabled endpoint, done at `now`.
    #[must_use]
    pub fn reminder(&self, now: Timestamp) -> Option<Self> {
        let Report::Disabled(disabled) = &self.report else { return None };
        let reminder = Reminder { disabled: disabled.clone(), due: now.plus(REMIND_AFTER) };
        Some(Self { report: Report::Reminder(reminder), ..self.clone() })
    }
}

impl FailureSeries {
    /// The series after another failed attempt of `delivery`, which ended at `now`. `exhaustion`
    /// says when the delivery is expected to have used up its attempts; `None` if that does not
    /// disable the endpoint, or if it has used them up.
    #[must_use]
    pub fn after_failure(
        before: Option<Self>,
        delivery: DeliveryId,
        exhaustion: Option<Exhaustion>,
        now: Timestamp,
    ) -> Self {
        let Some(before) = before else { return Self { since: now, exhaustion, warned: false } };
        // An earlier estimate for this delivery no longer holds. One that has passed is of a
        // delivery that ended in another way.
        let known = before.exhaustion.filter(|it| it.delivery != delivery && it.at > now);
        let first = known.into_iter().chain(exhaustion).min_by_key(|exhaustion| exhaustion.at);
        Self { exhaustion: first, ..before }
    }

    /// The series for a clock that was set back and shows `now`. The next failures show again which
    /// delivery is expected to use up its attempts.
    #[must_use]
    pub fn after_step_back(self, now: Timestamp) -> Self {
        if self.since <= now { self } else { Self { since: now, exhaustion: None, ..self } }
    }

    /// The warning that the series calls for at `now`, once. There is none while no delivery is
    /// known that would disable the endpoint.
    pub fn warn(&mut self, policy: Policy, now: Timestamp) -> Option<Warning> {
        let exhaustion = self.exhaustion.filter(|_| !self.warned)?;
        if now.since(self.since) < policy.warn_after {
            return None;
        }
        self.warned = true;
        Some(Warning { at: now, failing_since: self.since, exhaustion })
    }
}

/// Whether disabling an endpoint triggers an email. It does unless a person asked for it.
#[must_use]
pub fn is_required(disabled: &Disabled) -> bool {
    match disabled.reason {
        DisabledReason::Exhausted | DisabledReason::Gone => true,
        DisabledReason::Manual => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Id;

    const HOUR_MILLIS: u64 = 3_600_000;

    fn disabled(reason: DisabledReason) -> Disabled {
        Disabled { reason, at: Timestamp::EPOCH, delivery: None }
    }

    fn exhaustion(delivery: u8, at: u64) -> Exhaustion {
        Exhaustion {
            delivery: DeliveryId::from_bytes([delivery; 16]),
            at: Timestamp::from_millis(at),
        }
    }

    fn after_failure(
        before: Option<FailureSeries>,
        exhaustion: Exhaustion,
        now: Timestamp,
    ) -> FailureSeries {
        FailureSeries::after_failure(before, exhaustion.delivery, Some(exhaustion), now)
    }

    #[test]
    fn only_automatic_disabling_triggers_an_email() {
        assert!(is_required(&disabled(DisabledReason::Exhausted)));
        assert!(is_required(&disabled(DisabledReason::Gone)));
        assert!(!is_required(&disabled(DisabledReason::Manual)));
    }

    #[test]
    fn a_series_warns_once_after_an_hour() {
        let at = Timestamp::from_millis;
        let day = 24 * HOUR_MILLIS;
        let mut series = after_failure(None, exhaustion(1, day), at(7));
        assert_eq!(series.warn(Policy::default(), at(7 + HOUR_MILLIS - 1)), None);
        let now = at(7 + HOUR_MILLIS);
        let warning = series.warn(Policy::default(), now).expect("a warning");
        let expected = Warning { at: now, failing_since: at(7), exhaustion: exhaustion(1, day) };
        assert_eq!(warning, expected);
        assert_eq!(series.warn(Policy::default(), at(9 * HOUR_MILLIS)), None);
        let longer = after_failure(Some(series), exhaustion(1, 2 * day), now);
        assert!(longer.warned && longer.since == at(7));
    }

    #[test]
    fn no_warning_without_a_delivery_that_would_disable_the_endpoint() {
        let at = Timestamp::from_millis;
        let spared = DeliveryId::from_bytes([1; 16]);
        let mut series = FailureSeries::after_failure(None, spared, None, at(7));
        assert_eq!(series.warn(Policy::default(), at(2 * HOUR_MILLIS)), None);
        let now = at(3 * HOUR_MILLIS);
        let mut series = after_failure(Some(series), exhaustion(2, 9 * HOUR_MILLIS), now);
        let warning = series.warn(Policy::default(), now).expect("a warning");
        assert_eq!(warning.exhaustion, exhaustion(2, 9 * HOUR_MILLIS));
    }

    #[test]
    fn the_delivery_that_exhausts_first_counts() {
        let at = Timestamp::from_millis;
        let next = |series, exhaustion| {
            let now = at(9);
            after_failure(Some(series), exhaustion, now).exhaustion.expect("known")
        };
        let series = after_failure(None, exhaustion(1, 100), at(7));
        assert_eq!(next(series, exhaustion(2, 150)), exhaustion(1, 100));
        assert_eq!(next(series, exhaustion(2, 50)), exhaustion(2, 50));
        assert_eq!(next(series, exhaustion(1, 120)), exhaustion(1, 120));
        let discarded = after_failure(None, exhaustion(1, 8), at(7));
        assert_eq!(next(discarded, exhaustion(2, 150)), exhaustion(2, 150));
        let delivery = exhaustion(1, 100).delivery;
        let exhausted = FailureSeries::after_failure(Some(series), delivery, None, at(100));
        assert_eq!(exhausted.exhaustion, None);
    }

    #[test]
    fn failures_of_the_future_are_moved_to_the_present() {
        let series = after_failure(None, exhaustion(1, 100), Timestamp::from_millis(7));
        assert_eq!(series.after_step_back(Timestamp::from_millis(7)), series);
        let mut moved = series.after_step_back(Timestamp::from_millis(3));
        let expected =
            FailureSeries { since: Timestamp::from_millis(3), exhaustion: None, warned: false };
        assert_eq!(moved, expected);
        let later = Timestamp::from_millis(3 + HOUR_MILLIS);
        moved = after_failure(Some(moved), exhaustion(1, 2 * HOUR_MILLIS), later);
        assert!(moved.warn(Policy::default(), later).is_some());
    }

    #[test]
    fn only_a_disabling_is_followed_by_a_reminder() {
        let notice = Notice {
            account: AccountId::MIN,
            endpoint: EndpointId::MIN,
            report: Report::Disabled(disabled(DisabledReason::Exhausted)),
            failure_count: 11,
            last_error: None,
        };
        let now = Timestamp::from_millis(5);
        let reminder = notice.reminder(now).expect("a reminder");
        assert_eq!((reminder.kind(), reminder.at()), (Kind::Reminder, now.plus(REMIND_AFTER)));
        assert_eq!(reminder.disabled(), notice.disabled());
        assert_eq!(reminder.reminder(now), None);
    }
}
