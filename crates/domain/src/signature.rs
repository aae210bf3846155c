//! Standard Webhooks signatures (specification 1.0, "Symmetric signatures"): HMAC-SHA256 of
//! `id.timestamp.body`, written `v1,BASE64`.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::time::Timestamp;

/// The prefix of a secret's text form.
const PREFIX: &str = "whsec_";

/// A symmetric signing secret of 32 random bytes; `whsec_` and base64 in text.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret([u8; 32]);

/// The text is not a signing secret.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("must be {PREFIX} followed by 32 bytes in base64")]
pub struct ParseSecretError;

impl Secret {
    /// A secret from random bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The secret bytes.
    #[must_use]
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Parses the text form.
    pub fn parse(text: &str) -> Result<Self, ParseSecretError> {
        let bytes = text.strip_prefix(PREFIX).and_then(|rest| BASE64.decode(rest).ok());
        bytes.and_then(|bytes| bytes.try_into().ok()).map(Self).ok_or(ParseSecretError)
    }

    /// The secret in its text form.
    #[must_use]
    pub fn reveal(&self) -> String {
        format!("{PREFIX}{}", BASE64.encode(self.0))
    }

    fn mac(&self, id: &str, timestamp: &str, body: &[u8]) -> Hmac<Sha256> {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
            mac.update(part);
        }
        mac
    }

    /// Whether one of the space-separated signatures in `header` was made with this secret.
    #[must_use]
    pub fn verifies(&self, id: &str, timestamp: &str, body: &[u8], header: &str) -> bool {
        let signatures = header.split(' ').filter_map(|entry| entry.strip_prefix("v1,"));
        signatures
            .filter_map(|text| BASE64.decode(text).ok())
            .any(|bytes| self.mac(id, timestamp, body).verify_slice(&bytes).is_ok())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The value of `webhook-signature`: one signature per secret, in order.
#[must_use]
pub fn header<'a>(
    secrets: impl Iterator<Item = &'a Secret>,
    id: &str,
    at: Timestamp,
    body: &[u8],
) -> String {
    let timestamp = at.seconds().to_string();
    let mut value = String::new();
    for secret in secrets {
        if !value.is_empty() {
            value.push(' ');
        }
        value.push_str("v1,");
        BASE64.encode_string(secret.mac(id, &timestamp, body).finalize().into_bytes(), &mut value);
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_match_the_reference_library() {
        let secret = Secret::from_bytes([7; 32]);
        let body = br#"{"a":"\u00e9","b":[1,2]}"#;
        let reference = standardwebhooks::Webhook::new(&secret.reveal()).expect("a valid secret");
        let theirs = reference.sign("evt_1", 1_700_000_000, body).expect("signed");
        let ours =
            header([&secret].into_iter(), "evt_1", Timestamp::from_millis(1_700_000_000_999), body);
        assert_eq!(ours, theirs);
        assert!(secret.verifies("evt_1", "1700000000", body, &ours));
        assert!(secret.verifies("evt_1", "1700000000", body, &format!("v1,AAAA {ours}")));
        assert!(!secret.verifies("evt_2", "1700000000", body, &ours));
        assert!(!secret.verifies("evt_1", "1700000001", body, &ours));
        assert!(!secret.verifies("evt_1", "1700000000", b"{}", &ours));
        assert!(!Secret::from_bytes([8; 32]).verifies("evt_1", "1700000000", body, &ours));
    }

    #[test]
    fn secrets_round_trip_and_are_redacted_in_debug_output() {
        let secret = Secret::from_bytes([200; 32]);
        assert_eq!(Secret::parse(&secret.reveal()), Ok(secret.clone()));
        assert_eq!(format!("{secret:?}"), "Secret(…)");
        for bad in ["", "whsec_", "whsec_AAAA", "AAAA", "whsec_!"] {
            assert_eq!(Secret::parse(bad), Err(ParseSecretError), "{bad}");
        }
    }
}
