//! Which changes trigger an email, and what the email needs to know.

use crate::endpoint::{Disabled, DisabledReason, LastError};
use crate::ids::{AccountId, EndpointId};
use crate::time::Timestamp;

/// A change that an account's contacts must be emailed about. It is written in the same
/// transaction as the change, and removed once the email has been accepted or permanently refused
/// for every contact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    pub account: AccountId,
    /// The endpoint that was disabled.
    pub endpoint: EndpointId,
    pub disabled: Disabled,
    /// Consecutive failed attempts.
    pub failure_count: u32,
    /// The failure that caused it.
    pub last_error: Option<LastError>,
}

impl Notice {
    /// When the change happened. Together with the endpoint it identifies the notice, so writing
    /// a notice again does not duplicate it.
    #[must_use]
    pub fn at(&self) -> Timestamp {
        self.disabled.at
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

    #[test]
    fn only_automatic_disabling_triggers_an_email() {
        let disabled = |reason| Disabled { reason, at: Timestamp::EPOCH, delivery: None };
        assert!(is_required(&disabled(DisabledReason::Exhausted)));
        assert!(is_required(&disabled(DisabledReason::Gone)));
        assert!(!is_required(&disabled(DisabledReason::Manual)));
    }
}
