//! The log of the email sent about a notice, as shown to the account.

use crate::limits::{MAX_ERROR_CHARS, truncate};
use crate::notice::Kind;
use crate::time::Timestamp;

/// The state of the email about one notice. An email that lists several notices has a record for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Email {
    pub kind: Kind,
    /// When the endpoint was disabled. `None` for a warning.
    pub disabled_at: Option<Timestamp>,
    /// When the email was last submitted to the mail server.
    pub at: Timestamp,
    pub subject: String,
    /// The recipients, each with the server's latest reply. Empty if the account had no usable
    /// contact.
    pub to: Vec<Recipient>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    pub address: String,
    /// The mail server's latest reply for this recipient.
    pub status: RecipientStatus,
}

/// The mail server's reply for one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecipientStatus {
    /// The server accepted the email.
    Accepted,
    /// A temporary failure (4XX): the email is retried.
    Deferred(String),
    /// A permanent failure (5XX), too many deferrals, or an email that could not be composed.
    Refused(String),
}

impl Email {
    /// Whether the email for `address` was accepted or permanently refused.
    #[must_use]
    pub fn is_final(&self, address: &str) -> bool {
        let recipient = self.to.iter().find(|recipient| recipient.address == address);
        recipient.is_some_and(|it| !matches!(it.status, RecipientStatus::Deferred(_)))
    }

    /// Replaces the reply for a recipient. A long reason is truncated.
    pub fn set_status(&mut self, address: &str, status: RecipientStatus) {
        let status = status.truncated();
        match self.to.iter_mut().find(|recipient| recipient.address == address) {
            Some(recipient) => recipient.status = status,
            None => self.to.push(Recipient { address: address.to_owned(), status }),
        }
    }
}

impl RecipientStatus {
    fn truncated(self) -> Self {
        match self {
            Self::Accepted => Self::Accepted,
            Self::Deferred(reason) => Self::Deferred(truncate(&reason, MAX_ERROR_CHARS)),
            Self::Refused(reason) => Self::Refused(truncate(&reason, MAX_ERROR_CHARS)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn email() -> Email {
        let (kind, at) = (Kind::Warning, Timestamp::EPOCH);
        Email { kind, disabled_at: None, at, subject: String::new(), to: Vec::new() }
    }

    #[test]
    fn the_latest_reply_for_each_recipient_counts() {
        let mut email = email();
        let deferred = || RecipientStatus::Deferred("full".to_owned());
        email.set_status("a", deferred());
        email.set_status("b", RecipientStatus::Refused("unknown".to_owned()));
        assert!(!email.is_final("a") && email.is_final("b") && !email.is_final("c"));
        email.set_status("a", RecipientStatus::Accepted);
        assert!(email.is_final("a"));
        assert_eq!(email.to.len(), 2);
    }

    #[test]
    fn a_long_reason_is_truncated() {
        let mut email = email();
        for status in [RecipientStatus::Deferred, RecipientStatus::Refused] {
            email.set_status("a", status("no ".repeat(MAX_ERROR_CHARS)));
            let (RecipientStatus::Deferred(reason) | RecipientStatus::Refused(reason)) =
                &email.to[0].status
            else {
                panic!("{email:?}");
            };
            assert!(reason.chars().count() <= MAX_ERROR_CHARS);
        }
    }
}
