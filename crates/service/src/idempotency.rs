//! Names of requests, which make them safe to repeat.

use postrider_domain::limits::MAX_IDEMPOTENCY_KEY_BYTES;
use postrider_store::Idempotency;
use sha2::{Digest, Sha256};

/// An idempotency key, as its hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdempotencyKey([u8; 32]);

/// Why bytes are no [`IdempotencyKey`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("must have 1 to {MAX_IDEMPOTENCY_KEY_BYTES} visible ASCII characters")]
pub struct IdempotencyKeyError;

impl IdempotencyKey {
    /// Checks `key`.
    ///
    /// # Errors
    /// When it is empty, too long, or has other characters than visible ASCII.
    pub fn parse(key: &[u8]) -> Result<Self, IdempotencyKeyError> {
        let fits = (1..=MAX_IDEMPOTENCY_KEY_BYTES).contains(&key.len());
        if fits && key.iter().all(u8::is_ascii_graphic) {
            Ok(Self(Sha256::digest(key).into()))
        } else {
            Err(IdempotencyKeyError)
        }
    }

    /// The key together with the hash of the request that it came with.
    #[must_use]
    pub fn of_request(self, body_sha256: [u8; 32]) -> Idempotency {
        Idempotency { key_sha256: self.0, body_sha256 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_bounded_and_visible() {
        assert!(IdempotencyKey::parse(b"order-17").is_ok());
        assert!(IdempotencyKey::parse(&[b'x'; MAX_IDEMPOTENCY_KEY_BYTES]).is_ok());
        for bad in [&b""[..], b"a b", b"\x7f", "ä".as_bytes(), &[b'x'; 257]] {
            assert_eq!(IdempotencyKey::parse(bad), Err(IdempotencyKeyError));
        }
    }
}
