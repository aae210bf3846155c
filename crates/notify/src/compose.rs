//! Composes the emails: plain text that a person who has never heard of Postrider can act on.
//!
//! All external text (names, URLs, endpoint responses) passes through [`one_line`].

mod digest;
mod single;

use std::time::{Duration, SystemTime};

use lettre::Message;
use lettre::message::Mailbox;
use lettre::message::header::{ContentType, Header, HeaderName, HeaderValue};
use postrider_domain::account::Account;
use postrider_domain::delivery::Delivery;
use postrider_domain::notice::{Exhaustion, Kind, Notice, Report, Warning};
use postrider_domain::time::Timestamp;
use postrider_store::EndpointView;

use crate::redact::one_line;

/// How long held deliveries are kept: without a limit.
const HELD_UNTIL: &str = "Held deliveries are kept until they are sent or discarded.";

/// The data of one notice.
pub(crate) struct Facts {
    pub notice: Notice,
    /// The endpoint's current state.
    pub endpoint: EndpointView,
    /// The delivery whose failure disabled the endpoint, or is expected to, if it still exists.
    pub delivery: Option<Delivery>,
    /// The URL of the endpoint's dashboard page, if the dashboard has a public URL.
    pub page: Option<String>,
}

/// The content of an email: one notice, or a list.
pub(crate) struct Content<'a> {
    pub account: &'a Account,
    pub facts: &'a [Facts],
}

impl Content<'_> {
    /// Composes the email in wire format.
    pub(crate) fn compose(
        &self,
        from: &Mailbox,
        to: Vec<Mailbox>,
        now: Timestamp,
    ) -> Result<Vec<u8>, lettre::error::Error> {
        let mut message = Message::builder()
            .from(from.clone())
            .subject(self.subject())
            .message_id(Some(self.message_id(from.email.domain())))
            .date(SystemTime::UNIX_EPOCH + Duration::from_millis(now.millis()))
            .header(AutoSubmitted)
            .header(ContentType::TEXT_PLAIN);
        for mailbox in to {
            message = message.to(mailbox);
        }
        Ok(message.body(self.body())?.formatted())
    }

    pub(crate) fn subject(&self) -> String {
        match self.facts {
            [facts] => single::subject(facts),
            _ => digest::subject(self),
        }
    }

    fn body(&self) -> String {
        match self.facts {
            [facts] => single::body(self.account, facts),
            _ => digest::body(self),
        }
    }

    /// The id is the same for every copy of the email, so that mail clients recognise duplicates.
    fn message_id(&self, domain: &str) -> String {
        let first = self.facts.first().map(|facts| &facts.notice);
        let first = first.map(|notice| format!("{}.{}", notice.endpoint, notice.at().millis()));
        let first = first.unwrap_or_default();
        match self.facts.len() {
            0 | 1 => format!("<{first}@{domain}>"),
            listed => format!("<{first}.{listed}@{domain}>"),
        }
    }

    fn account_name(&self) -> String {
        one_line(self.account.name.as_str())
    }

    fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &Facts> {
        self.facts.iter().filter(move |facts| facts.notice.kind() == kind)
    }
}

impl Facts {
    /// What is expected to disable the endpoint that a warning reports. `None` if that delivery has
    /// ended in another way since.
    fn exhaustion(&self) -> Option<Exhaustion> {
        let Report::Warning(Warning { exhaustion, .. }) = self.notice.report else { return None };
        let is_pending = |delivery: &Delivery| delivery.finished_at().is_none();
        self.delivery.as_ref().is_some_and(is_pending).then_some(exhaustion)
    }
}

/// A time without milliseconds, for estimates.
fn about(at: Timestamp) -> String {
    let text = at.to_string();
    format!("{} {} UTC", &text[..10], &text[11..16])
}

/// Suppresses out-of-office and other automatic replies (RFC 3834 §5).
#[derive(Clone)]
struct AutoSubmitted;

impl Header for AutoSubmitted {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}

#[cfg(test)]
mod tests;
