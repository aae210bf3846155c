//! Events, their payloads, and the catalogue of event types.

use std::fmt;

use bytes::Bytes;

use crate::ids::{AccountId, EventId};
use crate::limits::{MAX_BODY_BYTES, MAX_EVENT_TYPE_BYTES, MAX_JSON_DEPTH};
use crate::time::Timestamp;

/// One occurrence, accepted once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its id; receivers see it as `webhook-id`, the same on every attempt.
    pub id: EventId,
    /// Whose it is.
    pub account: AccountId,
    /// Its type.
    pub event_type: EventTypeName,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// What is sent, byte for byte.
    pub payload: Payload,
}

/// A name in the catalogue, such as `application.created`: letters, digits, `_` and `-`, in
/// parts joined by dots, at most 128 bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventTypeName(String);

/// Why a text is no [`EventTypeName`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "must be parts of letters, digits, _ and - joined by dots, such as application.created, \
     of at most {MAX_EVENT_TYPE_BYTES} bytes"
)]
pub struct EventTypeNameError;

impl EventTypeName {
    /// Checks `text`.
    ///
    /// # Errors
    /// When it is not of the form above.
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

/// An entry of the catalogue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventType {
    /// Its name.
    pub name: EventTypeName,
    /// What it means, for people.
    pub description: String,
    /// A payload of this type as JSON text; test events send it.
    pub example: String,
    /// A JSON Schema 2020-12 as JSON text, which payloads of this type must satisfy.
    pub schema: Option<String>,
    /// When it was first put.
    pub created_at: Timestamp,
    /// When it was last put.
    pub updated_at: Timestamp,
}

/// JSON text as it was given: well-formed, at most 256 KiB, nested at most 64 deep. It is
/// never written anew, so that receivers get the very bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload(Bytes);

/// Why bytes are no [`Payload`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PayloadError {
    /// Too many bytes.
    #[error("has {0} bytes; at most {MAX_BODY_BYTES} are accepted")]
    TooLarge(usize),
    /// Arrays and objects nested too deep.
    #[error("is nested more than {MAX_JSON_DEPTH} deep")]
    TooDeep,
    /// Not JSON.
    #[error("is not JSON: {0}")]
    Malformed(String),
}

impl Payload {
    /// Checks `bytes`.
    ///
    /// # Errors
    /// When they are not JSON, or over a bound.
    pub fn parse(bytes: Bytes) -> Result<Self, PayloadError> {
        let payload = Self::of_json(bytes)?;
        serde_json::from_slice::<serde::de::IgnoredAny>(&payload.0)
            .map_err(|error| PayloadError::Malformed(error.to_string()))?;
        Ok(payload)
    }

    /// Takes bytes that a JSON parser has accepted already, and checks only the bounds.
    ///
    /// # Errors
    /// When they are over a bound.
    pub fn of_json(bytes: Bytes) -> Result<Self, PayloadError> {
        if bytes.len() > MAX_BODY_BYTES {
            return Err(PayloadError::TooLarge(bytes.len()));
        }
        if nests_deeper_than(&bytes, MAX_JSON_DEPTH) {
            return Err(PayloadError::TooDeep);
        }
        Ok(Self(bytes))
    }

    /// Takes back what [`Self::bytes`] gave, from the store.
    #[must_use]
    pub fn from_stored(bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }
}

/// Whether arrays and objects of the JSON text nest deeper than `depth`.
#[must_use]
pub fn nests_deeper_than(json: &[u8], depth: usize) -> bool {
    let mut open = 0_usize;
    let mut in_string = false;
    let mut escaped = false;
    for byte in json {
        match (in_string, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => in_string = !in_string,
            (false, b'{' | b'[') => {
                open += 1;
                if open > depth {
                    return true;
                }
            }
            (false, b'}' | b']') => open = open.saturating_sub(1),
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_type_names() {
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
        assert_eq!(Payload::parse(nest(MAX_JSON_DEPTH + 1)), Err(PayloadError::TooDeep));
        assert_eq!(Payload::parse(nest(200_000)), Err(PayloadError::TooLarge(400_000)));
        let in_string = Bytes::from(format!("\"{}\\\"{}\"", "[".repeat(100), "{".repeat(100)));
        assert!(Payload::parse(in_string).is_ok());
        for bad in ["", "{", "nul", "{\"a\":1}x", "'a'", "\"\u{1}\""] {
            assert!(matches!(Payload::parse(bad.into()), Err(PayloadError::Malformed(_))), "{bad}");
        }
    }
}
