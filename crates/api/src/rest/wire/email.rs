//! Emails about failing and disabled endpoints.

use postrider_domain::email::{Email, Recipient, RecipientStatus};
use postrider_domain::notice::Kind;
use postrider_domain::time::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa::openapi::schema::Object;

use super::string_enum;

/// The emails about an endpoint.
#[derive(Serialize, ToSchema)]
#[schema(as = Emails)]
pub(crate) struct EmailsBody {
    /// The emails, newest first.
    pub data: Vec<EmailBody>,
}

/// An email about a failing or disabled endpoint. It may list other endpoints of the account too.
#[derive(Serialize, ToSchema)]
#[schema(as = Email)]
pub(crate) struct EmailBody {
    /// What the email reports. `warning`: every attempt has failed for an hour. `disabled`: the
    /// endpoint was disabled. `reminder`: it was still disabled three days later.
    #[schema(schema_with = kind)]
    kind: &'static str,
    /// When the endpoint was disabled; null for a warning.
    #[schema(value_type = Option<String>, format = DateTime)]
    disabled_at: Option<Timestamp>,
    /// When the email was last submitted to the mail server.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// The subject line.
    #[schema(example = "Webhook endpoint \"Orders\" was disabled")]
    subject: String,
    /// The recipients. Empty if the account had no usable contact address.
    to: Vec<RecipientBody>,
}

/// A recipient of an email.
#[derive(Serialize, ToSchema)]
#[schema(as = Recipient)]
pub(crate) struct RecipientBody {
    /// The email address.
    address: String,
    /// Whether the mail server accepted the email for this recipient. `deferred`: it will be
    /// retried. `refused`: it will not be retried, because the server rejected it, deferred it too
    /// often, or it could not be composed.
    #[schema(schema_with = verdict)]
    verdict: &'static str,
    /// The reason for a deferral or refusal; null if the email was accepted.
    reason: Option<String>,
}

const WARNING: &str = "warning";
const DISABLED: &str = "disabled";
const REMINDER: &str = "reminder";

const ACCEPTED: &str = "accepted";
const DEFERRED: &str = "deferred";
const REFUSED: &str = "refused";

impl From<Email> for EmailBody {
    fn from(email: Email) -> Self {
        let Email { kind, disabled_at, at, subject, to } = email;
        let kind = match kind {
            Kind::Warning => WARNING,
            Kind::Disabled => DISABLED,
            Kind::Reminder => REMINDER,
        };
        Self { kind, disabled_at, at, subject, to: to.into_iter().map(Into::into).collect() }
    }
}

impl From<Recipient> for RecipientBody {
    fn from(Recipient { address, status }: Recipient) -> Self {
        let (verdict, reason) = match status {
            RecipientStatus::Accepted => (ACCEPTED, None),
            RecipientStatus::Deferred(reason) => (DEFERRED, Some(reason)),
            RecipientStatus::Refused(reason) => (REFUSED, Some(reason)),
        };
        Self { address, verdict, reason }
    }
}

fn kind() -> Object {
    string_enum(&[WARNING, DISABLED, REMINDER])
}

fn verdict() -> Object {
    string_enum(&[ACCEPTED, DEFERRED, REFUSED])
}
