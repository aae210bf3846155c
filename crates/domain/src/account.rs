//! Accounts (tenants), their contacts and their API keys.

use crate::ids::{AccountId, KeyId};
use crate::limits::{MAX_EMAIL_BYTES, MAX_NAME_CHARS};
use crate::time::Timestamp;

/// A tenant: the owner of endpoints and events, with the contacts to email.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    pub id: AccountId,
    pub name: Name,
    /// The contacts to email when one of its endpoints is disabled.
    pub contact_emails: Vec<EmailAddress>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// An account's API key. The key itself is shown once; only its hash is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    /// The public id, not the secret.
    pub id: KeyId,
    pub account: AccountId,
    pub name: Name,
    /// SHA-256 of the key. Keys have 256 random bits, so no slow hash is needed.
    pub sha256: [u8; 32],
    pub created_at: Timestamp,
}

/// A display name: 1 to 200 characters, without control characters, not only white space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name(String);

/// The text is not a [`Name`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("must be 1 to {MAX_NAME_CHARS} characters long, without control characters")]
pub struct NameError;

impl Name {
    /// Validates `text`.
    ///
    /// # Errors
    /// When it is blank, too long, or contains control characters.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let fits = !text.trim().is_empty() && text.chars().count() <= MAX_NAME_CHARS;
        if fits && !text.chars().any(char::is_control) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError)
        }
    }

    /// Restores a stored value without validation.
    #[must_use]
    pub fn from_stored(text: &str) -> Self {
        Self(text.to_owned())
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// An email address: `local@domain`, ASCII, at most 254 bytes. Only the form is checked,
/// because only an email can tell whether the mailbox exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmailAddress(String);

/// The text is not an [`EmailAddress`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("must be an email address such as ops@example.com")]
pub struct EmailAddressError;

impl EmailAddress {
    /// Validates `text`.
    ///
    /// # Errors
    /// When it does not have the form `local@domain`.
    pub fn parse(text: &str) -> Result<Self, EmailAddressError> {
        let (local, domain) = text.rsplit_once('@').ok_or(EmailAddressError)?;
        let local_fits = !local.is_empty()
            && local.len() <= 64
            && local.split('.').all(|atom| !atom.is_empty() && atom.bytes().all(is_atom_byte));
        let domain_fits = domain.split('.').all(|label| {
            let edge_hyphen = label.starts_with('-') || label.ends_with('-');
            (1..=63).contains(&label.len())
                && !edge_hyphen
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        });
        if text.len() <= MAX_EMAIL_BYTES && local_fits && domain_fits {
            Ok(Self(text.to_owned()))
        } else {
            Err(EmailAddressError)
        }
    }

    /// Restores a stored value without validation.
    #[must_use]
    pub fn from_stored(text: &str) -> Self {
        Self(text.to_owned())
    }

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
    fn email_addresses_are_validated() {
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
    fn names_are_validated() {
        assert!(Name::parse("Käufer GmbH").is_ok());
        for bad in ["", "  ", "a\nb", "a\0b", &"x".repeat(201)] {
            assert!(Name::parse(bad).is_err(), "{bad}");
        }
    }
}
