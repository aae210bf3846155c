//! The log of emails about failing and disabled endpoints.
//!
//! | Key | Value | Written by |
//! |---|---|---|
//! | `a account endpoint at` | [`Email`] about the notice of that time | `emails`, after each SMTP session |
//!
//! Like deliveries, the record outlives its endpoint. It is removed with the account.

use bytes::Bytes;
use postrider_domain::email::{Email, Recipient, RecipientStatus};
use postrider_domain::ids::{AccountId, EndpointId};
use postrider_domain::notice::Kind;
use postrider_domain::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Key, Table};
use crate::codec::{self, Record};
use crate::kv::Error;

#[derive(Serialize, Deserialize)]
struct V1<'a> {
    disabled_at: Timestamp,
    at: Timestamp,
    subject: &'a str,
    #[serde(borrow)]
    to: Vec<RecipientV1<'a>>,
}

/// Appended to [`V1`].
#[derive(Default, PartialEq, Serialize, Deserialize)]
struct AppendedV1 {
    kind: KindV1,
}

#[derive(Default, PartialEq, Serialize, Deserialize)]
enum KindV1 {
    #[default]
    Disabled,
    /// `disabled_at` has no meaning. Earlier builds show it as the time of the email.
    Warning,
    Reminder,
}

#[derive(Serialize, Deserialize)]
struct RecipientV1<'a> {
    address: &'a str,
    #[serde(borrow)]
    status: RecipientStatusV1<'a>,
}

#[derive(Serialize, Deserialize)]
enum RecipientStatusV1<'a> {
    Accepted,
    Deferred(&'a str),
    Refused(&'a str),
}

impl<'a> From<&'a Recipient> for RecipientV1<'a> {
    fn from(Recipient { address, status }: &'a Recipient) -> Self {
        let status = match status {
            RecipientStatus::Accepted => RecipientStatusV1::Accepted,
            RecipientStatus::Deferred(reason) => RecipientStatusV1::Deferred(reason),
            RecipientStatus::Refused(reason) => RecipientStatusV1::Refused(reason),
        };
        Self { address, status }
    }
}

impl From<RecipientV1<'_>> for Recipient {
    fn from(RecipientV1 { address, status }: RecipientV1<'_>) -> Self {
        let status = match status {
            RecipientStatusV1::Accepted => RecipientStatus::Accepted,
            RecipientStatusV1::Deferred(reason) => RecipientStatus::Deferred(reason.to_owned()),
            RecipientStatusV1::Refused(reason) => RecipientStatus::Refused(reason.to_owned()),
        };
        Self { address: address.to_owned(), status }
    }
}

impl Record for Email {
    fn encode(&self) -> Bytes {
        let Self { kind, disabled_at, at, subject, to } = self;
        let kind = match kind {
            Kind::Disabled => KindV1::Disabled,
            Kind::Warning => KindV1::Warning,
            Kind::Reminder => KindV1::Reminder,
        };
        let to = to.iter().map(RecipientV1::from).collect();
        let fields = V1 { disabled_at: disabled_at.unwrap_or(*at), at: *at, subject, to };
        codec::appended(1, &fields, &AppendedV1 { kind })
    }

    fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let (fields, AppendedV1 { kind }) = codec::version_1_appended("email", bytes)?;
        let V1 { disabled_at, at, subject, to } = fields;
        let (kind, disabled_at) = match kind {
            KindV1::Disabled => (Kind::Disabled, Some(disabled_at)),
            KindV1::Warning => (Kind::Warning, None),
            KindV1::Reminder => (Kind::Reminder, Some(disabled_at)),
        };
        let to = to.into_iter().map(Recipient::from).collect();
        Ok(Self { kind, disabled_at, at, subject: subject.to_owned(), to })
    }
}

/// `at` is the time of the notice.
pub(crate) fn key(account: AccountId, endpoint: EndpointId, at: Timestamp) -> Vec<u8> {
    Key::account(account, Table::Email).id(endpoint).time(at).done()
}

pub(crate) fn of_endpoint(account: AccountId, endpoint: EndpointId) -> Vec<u8> {
    Key::account(account, Table::Email).id(endpoint).done()
}

#[cfg(test)]
mod tests {
    use postrider_domain::limits::{
        MAX_CONTACTS, MAX_EMAIL_BYTES, MAX_ERROR_CHARS, MAX_NAME_CHARS,
    };

    use super::*;
    use crate::codec::golden;
    use crate::kv::MAX_VALUE;

    #[test]
    fn emails_sort_by_age() {
        let key = |millis| key(AccountId::MIN, EndpointId::MAX, Timestamp::from_millis(millis));
        assert!(key(9) < key(300));
        assert!(key(9).starts_with(&of_endpoint(AccountId::MIN, EndpointId::MAX)));
    }

    #[test]
    fn the_largest_email_fits() {
        let recipient = Recipient {
            address: "a".repeat(MAX_EMAIL_BYTES),
            status: RecipientStatus::Refused("\u{10ffff}".repeat(MAX_ERROR_CHARS)),
        };
        let email = Email {
            kind: Kind::Disabled,
            disabled_at: Some(Timestamp::EPOCH),
            at: Timestamp::EPOCH,
            subject: "\u{10ffff}".repeat(MAX_NAME_CHARS + 100),
            to: vec![recipient; MAX_CONTACTS],
        };
        let value = email.encode();
        assert!(value.len() <= MAX_VALUE, "{}", value.len());
        assert_eq!(Email::decode(&value), Ok(email));
    }

    #[test]
    fn golden() {
        let to = |address: &str, status| Recipient { address: address.to_owned(), status };
        let email = Email {
            kind: Kind::Disabled,
            disabled_at: Some(Timestamp::from_millis(1_700_000_000_000)),
            at: Timestamp::from_millis(1_700_000_000_001),
            subject: "Disabled".to_owned(),
            to: vec![
                to("a@b.example", RecipientStatus::Accepted),
                to("c@d.example", RecipientStatus::Deferred("451 later".to_owned())),
                to("e@f.example", RecipientStatus::Refused("550 no".to_owned())),
            ],
        };
        golden::check(
            &email,
            "\
             0180d095ffbc3181d095ffbc310844697361626c6564030b6140622e6578616d\
             706c65000b6340642e6578616d706c650109343531206c617465720b6540662e\
             6578616d706c650206353530206e6f",
        );
        let reminder = Email { kind: Kind::Reminder, to: Vec::new(), ..email };
        golden::check(&reminder, "0180d095ffbc3181d095ffbc310844697361626c65640002");
        let warning = Email { kind: Kind::Warning, disabled_at: None, ..reminder };
        golden::check(&warning, "0181d095ffbc3181d095ffbc310844697361626c65640001");
    }
}
