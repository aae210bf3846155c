//! Idempotency keys, which make requests safe to retry.

use postrider_domain::limits::MAX_IDEMPOTENCY_KEY_BYTES;
use postrider_store::Idempotency;
use sha2::{Digest, Sha256};

/// An idempotency key, as its hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdempotencyKey([u8; 32]);

/// The bytes are not a valid [`IdempotencyKey`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("must be 1 to {MAX_IDEMPOTENCY_KEY_BYTES} visible ASCII characters")]
pub struct IdempotencyKeyError;

impl IdempotencyKey {
    /// Parses a key of visible ASCII characters.
    pub fn parse(key: &[u8]) -> Result<Self, IdempotencyKeyError> {
        let has_valid_length = (1..=MAX_IDEMPOTENCY_KEY_BYTES).contains(&key.len());
        if has_valid_length && key.iter().all(u8::is_ascii_graphic) {
            Ok(Self(Sha256::digest(key).into()))
        } else {
            Err(IdempotencyKeyError)
        }
    }

    /// Binds the key to a request, given the hash of its body.
    #[must_use]
    pub fn for_request(self, body_sha256: [u8; 32]) -> Idempotency {
        Idempotency { key_sha256: self.0, body_sha256 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_limited_in_length_and_characters() {
        assert!(IdempotencyKey::parse(b"order-17").is_ok());
        assert!(IdempotencyKey::parse(&[b'x'; MAX_IDEMPOTENCY_KEY_BYTES]).is_ok());
        for bad in [&b""[..], b"a b", b"\x7f", "ä".as_bytes(), &[b'x'; 257]] {
            assert_eq!(IdempotencyKey::parse(bad), Err(IdempotencyKeyError));
        }
    }
}
