//! The log of emails.

use postrider_domain::email::{Email, Recipient, RecipientStatus};
use postrider_domain::time::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa::openapi::schema::Object;

use super::choices;

/// The emails about an endpoint.
#[derive(Serialize, ToSchema)]
#[schema(as = Emails)]
pub(crate) struct EmailsBody {
    /// The emails, the latest first.
    pub data: Vec<EmailBody>,
}

/// What became of one email.
#[derive(Serialize, ToSchema)]
#[schema(as = Email)]
pub(crate) struct EmailBody {
    /// When the endpoint was disabled.
    #[schema(value_type = String, format = DateTime)]
    disabled_at: Timestamp,
    /// When the mail server was last asked to take the email.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// The subject.
    #[schema(example = "Webhook endpoint \"Orders\" was disabled")]
    subject: String,
    /// Who it is for. Nobody, when the account had no contact that an email can be sent to.
    to: Vec<RecipientBody>,
}

/// Somebody whom an email is for.
#[derive(Serialize, ToSchema)]
#[schema(as = Recipient)]
pub(crate) struct RecipientBody {
    /// The address.
    address: String,
    /// What the mail server said of it last. What is deferred is tried again. It counts as refused
    /// also when it was deferred too often, or when the email could not be written.
    #[schema(schema_with = verdict)]
    verdict: &'static str,
    /// Why it was deferred or refused; null when it was accepted.
    reason: Option<String>,
}

const ACCEPTED: &str = "accepted";
const DEFERRED: &str = "deferred";
const REFUSED: &str = "refused";

impl From<Email> for EmailBody {
    fn from(email: Email) -> Self {
        let Email { disabled_at, at, subject, to } = email;
        Self { disabled_at, at, subject, to: to.into_iter().map(Into::into).collect() }
    }
}

impl From<Recipient> for RecipientBody {
    fn from(Recipient { address, verdict }: Recipient) -> Self {
        let (verdict, reason) = match verdict {
            RecipientStatus::Accepted => (ACCEPTED, None),
            RecipientStatus::Deferred(reason) => (DEFERRED, Some(reason)),
            RecipientStatus::Refused(reason) => (REFUSED, Some(reason)),
        };
        Self { address, verdict, reason }
    }
}

fn verdict() -> Object {
    choices(&[ACCEPTED, DEFERRED, REFUSED])
}
