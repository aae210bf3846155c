//! What has become of the email about one notice: the record that people are shown.

use crate::limits::{MAX_ERROR_CHARS, clip};
use crate::time::Timestamp;

/// What became of the email about one notice, so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Email {
    /// When the endpoint was disabled; with the endpoint it names the notice.
    pub disabled_at: Timestamp,
    /// When the mail server was last asked.
    pub at: Timestamp,
    /// The subject.
    pub subject: String,
    /// What the mail server said of each recipient. Nobody, when the account had no contact that
    /// an email can be sent to.
    pub to: Vec<Recipient>,
}

/// Somebody whom an email is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    /// The address.
    pub address: String,
    /// What the mail server said of it last.
    pub verdict: Verdict,
}

/// What a mail server says to one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It took the email.
    Accepted,
    /// Not now (4XX): it is asked again.
    Deferred(String),
    /// Never (5XX), or given up: it was put off too often, or the email cannot be written.
    Refused(String),
}

impl Email {
    /// Whether no email is owed to `address` any more: it was accepted, or refused for good.
    #[must_use]
    pub fn is_settled(&self, address: &str) -> bool {
        let recipient = self.to.iter().find(|recipient| recipient.address == address);
        recipient.is_some_and(|it| !matches!(it.verdict, Verdict::Deferred(_)))
    }

    /// Notes what the mail server said of a recipient, whatever it had said before. Only the
    /// beginning of a long reason is kept.
    pub fn note(&mut self, address: &str, verdict: Verdict) {
        let verdict = verdict.clipped();
        match self.to.iter_mut().find(|recipient| recipient.address == address) {
            Some(recipient) => recipient.verdict = verdict,
            None => self.to.push(Recipient { address: address.to_owned(), verdict }),
        }
    }
}

impl Verdict {
    fn clipped(self) -> Self {
        match self {
            Self::Accepted => Self::Accepted,
            Self::Deferred(reason) => Self::Deferred(clip(&reason, MAX_ERROR_CHARS)),
            Self::Refused(reason) => Self::Refused(clip(&reason, MAX_ERROR_CHARS)),
        }
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
    fn a_long_reason_is_clipped() {
        let at = Timestamp::EPOCH;
        let mut email = Email { disabled_at: at, at, subject: String::new(), to: Vec::new() };
        for verdict in [Verdict::Deferred, Verdict::Refused] {
            email.note("a", verdict("no ".repeat(MAX_ERROR_CHARS)));
            let (Verdict::Deferred(reason) | Verdict::Refused(reason)) = &email.to[0].verdict
            else {
                panic!("{email:?}");
            };
            assert!(reason.chars().count() <= MAX_ERROR_CHARS);
        }
    }
}
