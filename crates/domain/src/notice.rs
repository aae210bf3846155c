//! Which change earns an email, and what the email must be able to say.

use crate::endpoint::{Disabled, DisabledReason, LastError};
use crate::ids::{AccountId, EndpointId};
use crate::time::Timestamp;

/// Something an account's people must be told by email. Written in the transaction of the
/// change that it tells of, and removed once the mail server has taken the email.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Whose people.
    pub account: AccountId,
    /// The endpoint that was disabled.
    pub endpoint: EndpointId,
    /// How it was disabled.
    pub disabled: Disabled,
    /// How many attempts in a row had failed.
    pub failure_count: u32,
    /// The failure that did it.
    pub last_error: Option<LastError>,
}

impl Notice {
    /// When the change happened; with the endpoint it names the notice, so one disabling is
    /// one notice however often it is written.
    #[must_use]
    pub fn at(&self) -> Timestamp {
        self.disabled.at
    }
}

/// Whether a disabling earns an email: those that nobody asked for do.
#[must_use]
pub fn earned(disabled: &Disabled) -> bool {
    match disabled.reason {
        DisabledReason::Exhausted | DisabledReason::Gone => true,
        DisabledReason::Manual => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_are_told_what_they_did_not_do_themselves() {
        let disabled = |reason| Disabled { reason, at: Timestamp::EPOCH, delivery: None };
        assert!(earned(&disabled(DisabledReason::Exhausted)));
        assert!(earned(&disabled(DisabledReason::Gone)));
        assert!(!earned(&disabled(DisabledReason::Manual)));
    }
}
