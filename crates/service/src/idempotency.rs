//! Idempotency keys, which make requests safe to retry.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use postrider_domain::limits::MAX_IDEMPOTENCY_KEY_BYTES;
use postrider_store::{Answer, Idempotency, KeyedRequest, Records};
use sha2::{Digest, Sha256};

use crate::Service;

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

/// A request with an idempotency key, and how it is answered. The answer is committed together with
/// the change. If the key has been used already, nothing is changed and the use case fails with
/// [`ServiceError::RepeatedRequest`](crate::ServiceError::RepeatedRequest).
pub struct Once<T> {
    request: KeyedRequest,
    answer: Arc<dyn Fn(&T) -> Answer + Send + Sync>,
}

impl<T> Once<T> {
    /// A request that is answered like this. `answer` may be called more than once.
    pub fn new(
        request: KeyedRequest,
        answer: impl Fn(&T) -> Answer + Send + Sync + 'static,
    ) -> Self {
        Self { request, answer: Arc::new(answer) }
    }

    pub(crate) fn request(&self) -> &KeyedRequest {
        &self.request
    }

    pub(crate) fn answer(&self, result: &T) -> Answer {
        (self.answer)(result)
    }
}

impl<T> Clone for Once<T> {
    fn clone(&self) -> Self {
        Self { request: self.request, answer: self.answer.clone() }
    }
}

impl<T> fmt::Debug for Once<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Once").field("request", &self.request).finish_non_exhaustive()
    }
}

impl Service {
    /// The records, whose next change belongs to the request. `result` makes the result of the use
    /// case from that of the change; `None` if nothing was changed.
    pub(crate) fn records_once<S: Any, T: 'static>(
        &self,
        once: Option<Once<T>>,
        result: impl Fn(&S) -> Option<T> + Send + Sync + 'static,
    ) -> Records {
        match once {
            None => self.records().clone(),
            Some(once) => self.records().answering(once.request, move |change: &S| {
                result(change).map(|result| once.answer(&result))
            }),
        }
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
