//! Accounts (tenants), their contacts and their keys.

use crate::ids::{AccountId, KeyId};
use crate::limits::{MAX_EMAIL_BYTES, MAX_NAME_CHARS};
use crate::time::Timestamp;

/// An account: who owns endpoints and events, and whom an email goes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its id.
    pub id: AccountId,
    /// What people call it.
    pub name: Name,
    /// Who is told when one of its endpoints is disabled.
    pub contact_emails: Vec<EmailAddress>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// An account's API key. The key itself is shown once and never stored, only its hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    /// Its id, which is no secret.
    pub id: KeyId,
    /// The account that it opens.
    pub account: AccountId,
    /// What people call it.
    pub name: Name,
    /// SHA-256 of the key. Keys have 256 random bits, so no slow hash is needed.
    pub sha256: [u8; 32],
    /// When it was made.
    pub created_at: Timestamp,
}

/// A name for people: 1 to 200 characters, none of them a control character, and not
/// only white space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name(String);

/// Why a text is no [`Name`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("must have 1 to {MAX_NAME_CHARS} characters, without control characters")]
pub struct NameError;

impl Name {
    /// Checks `text`.
    ///
    /// # Errors
    /// When it is empty, too long, or has control characters.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let fits = !text.trim().is_empty() && text.chars().count() <= MAX_NAME_CHARS;
        if fits && !text.chars().any(char::is_control) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError)
        }
    }

    /// Takes back what [`Self::as_str`] gave, from the store.
    #[must_use]
    pub fn from_stored(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// An address that mail can be sent to: `local@domain`, ASCII, at most 254 bytes. Whether
/// somebody reads it only a mail can tell, so the check is of the form alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmailAddress(String);

/// Why a text is no [`EmailAddress`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("must be an email address such as ops@example.com")]
pub struct EmailAddressError;

impl EmailAddress {
    /// Checks `text`.
    ///
    /// # Errors
    /// When it is not of the form `local@domain`.
    pub fn parse(text: &str) -> Result<Self, EmailAddressError> {
        let (local, domain) = text.rsplit_once('@').ok_or(EmailAddressError)?;
        let local_fits = !local.is_empty()
            && local.len() <= 64
            && local.split('.').all(|atom| !atom.is_empty() && atom.bytes().all(is_atom_byte));
        let domain_fits = domain.split('.').all(|label| {
            let edge = label.starts_with('-') || label.ends_with('-');
            (1..=63).contains(&label.len())
                && !edge
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        });
        if text.len() <= MAX_EMAIL_BYTES && local_fits && domain_fits {
            Ok(Self(text.to_owned()))
        } else {
            Err(EmailAddressError)
        }
    }

    /// Takes back what [`Self::as_str`] gave, from the store.
    #[must_use]
    pub fn from_stored(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// `atext` of RFC 5322 §3.2.3.
fn is_atom_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn email_addresses() {
        for good in ["a@b", "ops+x@example.com", "first.last@sub.example.co"] {
            assert!(EmailAddress::parse(good).is_ok(), "{good}");
        }
        let long = format!("{}@example.com", "a".repeat(65));
        for bad in [
            "",
            "a",
            "@b",
            "a@",
            "a b@c.d",
            "a@b..c",
            "a@-b",
            "a\r\nBcc: x@y",
            "a@b\n",
            ".a@b",
            &long,
        ] {
            assert!(EmailAddress::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names() {
        assert!(Name::parse("Käufer GmbH").is_ok());
        for bad in ["", "  ", "a\nb", "a\0b", &"x".repeat(201)] {
            assert!(Name::parse(bad).is_err(), "{bad}");
        }
    }
}
