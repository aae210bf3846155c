//! Which change earns an email, and what the email must be able to say.

use serde::{Deserialize, Serialize};

use crate::endpoint::{Disabled, DisabledReason, LastError};
use crate::ids::{AccountId, EndpointId};
use crate::time::Timestamp;

/// Something an account's people must be told by email. Written in the transaction of the
/// change that it tells of, and removed once the mail server has taken the email.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

/// What became of the email about one notice, so far.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Email {
    /// When the endpoint was disabled; with the endpoint it names the notice.
    pub disabled_at: Timestamp,
    /// When the mail server was last asked.
    pub at: Timestamp,
    /// The subject.
    pub subject: String,
    /// What the mail server said of each recipient. Nobody, when the account had no contact.
    pub to: Vec<Recipient>,
}

/// Somebody whom an email is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipient {
    /// The address.
    pub address: String,
    /// What the mail server said of it last.
    pub verdict: Verdict,
}

/// What a mail server says to one recipient.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// It took the email.
    Accepted,
    /// Not now (4XX): it is asked again.
    Deferred(String),
    /// Never (5XX), or put off so often that it was given up.
    Refused(String),
}

impl Email {
    /// Whether no email is owed to `address` any more: it was accepted, or refused for good.
    #[must_use]
    pub fn is_settled(&self, address: &str) -> bool {
        let recipient = self.to.iter().find(|recipient| recipient.address == address);
        recipient.is_some_and(|it| !matches!(it.verdict, Verdict::Deferred(_)))
    }

    /// Notes what the mail server said of a recipient, whatever it had said before.
    pub fn note(&mut self, address: &str, verdict: Verdict) {
        match self.to.iter_mut().find(|recipient| recipient.address == address) {
            Some(recipient) => recipient.verdict = verdict,
            None => self.to.push(Recipient { address: address.to_owned(), verdict }),
        }
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
    fn the_last_verdict_on_each_recipient_counts() {
        let at = Timestamp::EPOCH;
        let mut email = Email { disabled_at: at, at, subject: String::new(), to: Vec::new() };
        let later = || Verdict::Deferred("full".to_owned());
        email.note("a", later());
        email.note("b", Verdict::Refused("unknown".to_owned()));
        assert!(!email.is_settled("a") && email.is_settled("b") && !email.is_settled("c"));
        email.note("a", Verdict::Accepted);
        assert!(email.is_settled("a"));
        assert_eq!(email.to.len(), 2);
    }

    #[test]
    fn people_are_told_what_they_did_not_do_themselves() {
        let disabled = |reason| Disabled { reason, at: Timestamp::EPOCH, delivery: None };
        assert!(earned(&disabled(DisabledReason::Exhausted)));
        assert!(earned(&disabled(DisabledReason::Gone)));
        assert!(!earned(&disabled(DisabledReason::Manual)));
    }
}
