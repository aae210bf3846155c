//! Events, their payloads, and event types.

use std::fmt;

use bytes::Bytes;

use crate::ids::{AccountId, EventId};
use crate::json::{self, JsonError, JsonErrorReason, nests_deeper_than};
use crate::limits::{MAX_BODY_BYTES, MAX_EVENT_TYPE_BYTES, MAX_JSON_DEPTH};
use crate::time::Timestamp;

/// An accepted event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Receivers see it as `webhook-id`, the same on every attempt.
    pub id: EventId,
    pub account: AccountId,
    pub event_type: EventTypeName,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// Sent byte for byte.
    pub payload: Payload,
}

/// The name of an event type, such as `application.created`: parts of letters, digits, `_` and
/// `-`, joined by dots, at most 128 bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventTypeName(String);

/// The text is not an [`EventTypeName`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "must be segments of letters, digits, _ and - separated by dots, such as application.created, \
     and at most {MAX_EVENT_TYPE_BYTES} bytes long"
)]
pub struct EventTypeNameError;

impl EventTypeName {
    /// Validates `text`.
    ///
    /// # Errors
    /// When it does not have this form.
    pub fn parse(text: &str) -> Result<Self, EventTypeNameError> {
        let part_fits = |part: &str| {
            !part.is_empty()
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
        };
        if text.len() <= MAX_EVENT_TYPE_BYTES && text.split('.').all(part_fits) {
            Ok(Self(text.to_owned()))
        } else {
            Err(EventTypeNameError)
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

impl fmt::Display for EventTypeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for EventTypeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An entry of the event type catalogue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventType {
    pub name: EventTypeName,
    pub description: String,
    /// An example payload as JSON text; test events send it.
    pub example: String,
    /// A JSON Schema 2020-12 as JSON text, which payloads must satisfy.
    pub schema: Option<String>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// JSON text that [`json::check`] accepts, of at most 256 KiB. It is never reserialized, so receivers
/// get the original bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload(Bytes);

/// Why bytes are not a [`Payload`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PayloadError {
    #[error("has {0} bytes; at most {MAX_BODY_BYTES} are allowed")]
    TooLarge(usize),
    #[error(transparent)]
    Json(#[from] JsonError),
}

impl Payload {
    /// Validates `bytes`.
    ///
    /// # Errors
    /// When they exceed a limit or are not acceptable JSON.
    pub fn parse(bytes: Bytes) -> Result<Self, PayloadError> {
        if bytes.len() > MAX_BODY_BYTES {
            return Err(PayloadError::TooLarge(bytes.len()));
        }
        json::check(&bytes)?;
        Ok(Self(bytes))
    }

    /// Checks only the limits of bytes that another node has validated.
    ///
    /// # Errors
    /// When they exceed a limit.
    pub fn within_limits(bytes: Bytes) -> Result<Self, PayloadError> {
        if bytes.len() > MAX_BODY_BYTES {
            return Err(PayloadError::TooLarge(bytes.len()));
        }
        if nests_deeper_than(&bytes, MAX_JSON_DEPTH) {
            let reason = JsonErrorReason::TooDeep;
            return Err(JsonError { pointer: String::new(), reason }.into());
        }
        Ok(Self(bytes))
    }

    /// Restores a stored payload without validation.
    #[must_use]
    pub fn from_stored(bytes: Bytes) -> Self {
        Self(bytes)
    }

    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }
}

impl PayloadError {
    /// The value with the error, as a JSON pointer; `""` is the whole payload.
    #[must_use]
    pub fn pointer(&self) -> &str {
        match self {
            Self::TooLarge(_) => "",
            Self::Json(error) => &error.pointer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_type_names_are_validated() {
        for good in ["application.created", "a", "A_1.b-2.c"] {
            assert!(EventTypeName::parse(good).is_ok(), "{good}");
        }
        let long = "a".repeat(129);
        for bad in ["", ".", "a.", ".a", "a..b", "a b", "*", "a/b", "ä", long.as_str()] {
            assert!(EventTypeName::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn payloads_keep_their_bytes() {
        let text = Bytes::from_static(b" {\"a\" : [1, 2.50] }\n");
        assert_eq!(Payload::parse(text.clone()).map(|p| p.bytes().clone()), Ok(text));
    }

    #[test]
    fn payloads_are_bounded() {
        let nest = |depth: usize| Bytes::from("[".repeat(depth) + &"]".repeat(depth));
        assert!(Payload::parse(nest(MAX_JSON_DEPTH)).is_ok());
        let reason = JsonErrorReason::TooDeep;
        let too_deep = PayloadError::Json(JsonError { pointer: String::new(), reason });
        assert_eq!(Payload::parse(nest(MAX_JSON_DEPTH + 1)), Err(too_deep));
        assert_eq!(Payload::parse(nest(200_000)), Err(PayloadError::TooLarge(400_000)));
        let in_string = Bytes::from(format!("\"{}\\\"{}\"", "[".repeat(100), "{".repeat(100)));
        assert!(Payload::parse(in_string).is_ok());
        for bad in ["", "{", "nul", "{\"a\":1}x", "'a'", "\"\u{1}\""] {
            let error = Payload::parse(bad.into()).expect_err(bad).to_string();
            assert!(error.starts_with("is not valid JSON: "), "{bad}: {error}");
        }
    }
}
