//! Custom headers that are added to an endpoint's requests.

use http::{HeaderName, HeaderValue};

use crate::limits::{MAX_HEADER_NAME_BYTES, MAX_HEADER_VALUE_BYTES, MAX_HEADERS};

/// The custom headers of one endpoint, as given. Each name and value is valid (RFC 9110 §5), and
/// none overrides a header that Postrider itself sends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CustomHeaders(Vec<(String, String)>);

/// Why a header is rejected.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum HeaderError {
    /// The name is not a token.
    #[error("is not a valid header name (RFC 9110 §5.1) of at most {MAX_HEADER_NAME_BYTES} bytes")]
    Name,
    /// The value has control characters, is not ASCII, or is too long.
    #[error(
        "must be at most {MAX_HEADER_VALUE_BYTES} visible ASCII characters, spaces and tabs, \
         without leading or trailing whitespace"
    )]
    Value,
    /// Postrider or HTTP itself sets this header.
    #[error("is set by Postrider and cannot be overridden")]
    Reserved,
    /// The name appears twice, ignoring case.
    #[error("is a duplicate (header names are case-insensitive)")]
    Duplicate,
    #[error("exceeds the limit of {MAX_HEADERS} headers")]
    TooMany,
}

/// Headers that belong to the connection or to the webhook request itself.
const RESERVED: [&str; 19] = [
    "accept",
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "date",
    "expect",
    "host",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "via",
    "forwarded",
];

/// The prefix of the headers of Standard Webhooks and of our own metadata.
const RESERVED_PREFIX: &str = "webhook-";

impl CustomHeaders {
    /// Validates all headers.
    ///
    /// # Errors
    /// Every invalid, reserved or duplicate header, by name.
    pub fn parse(
        headers: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, Vec<(String, HeaderError)>> {
        let mut accepted: Vec<(String, String)> = Vec::new();
        let mut errors = Vec::new();
        for (name, value) in headers {
            let is_duplicate = accepted.iter().any(|(other, _)| other.eq_ignore_ascii_case(&name));
            match check(&name, &value) {
                Err(error) => errors.push((name, error)),
                Ok(()) if is_duplicate => errors.push((name, HeaderError::Duplicate)),
                Ok(()) if accepted.len() == MAX_HEADERS => {
                    errors.push((name, HeaderError::TooMany))
                }
                Ok(()) => accepted.push((name, value)),
            }
        }
        if errors.is_empty() { Ok(Self(accepted)) } else { Err(errors) }
    }

    /// Restores stored headers without validation.
    #[must_use]
    pub fn from_stored(headers: Vec<(String, String)>) -> Self {
        Self(headers)
    }

    /// Names, as given, and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

fn check(name: &str, value: &str) -> Result<(), HeaderError> {
    if name.len() > MAX_HEADER_NAME_BYTES || HeaderName::try_from(name).is_err() {
        return Err(HeaderError::Name);
    }
    let lower = name.to_ascii_lowercase();
    if RESERVED.contains(&lower.as_str()) || lower.starts_with(RESERVED_PREFIX) {
        return Err(HeaderError::Reserved);
    }
    let is_valid = value.is_ascii() && HeaderValue::try_from(value).is_ok();
    if value.len() > MAX_HEADER_VALUE_BYTES || !is_valid || value.trim() != value {
        return Err(HeaderError::Value);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error_for(name: &str, value: &str) -> Option<HeaderError> {
        CustomHeaders::parse([(name.to_owned(), value.to_owned())]).err().map(|mut e| e.remove(0).1)
    }

    #[test]
    fn valid_headers_keep_their_spelling() {
        let given = [("X-Api-Key".to_owned(), "s3cret = \t;".to_owned())];
        let headers = CustomHeaders::parse(given.clone()).expect("valid");
        assert_eq!(headers.iter().collect::<Vec<_>>(), [("X-Api-Key", "s3cret = \t;")]);
        assert_eq!(error_for("Authorization", "Bearer x"), None);
        assert_eq!(error_for("x-empty", ""), None);
    }

    #[test]
    fn injection_and_override_are_rejected() {
        assert_eq!(error_for("X-A", "a\r\nX-B: c"), Some(HeaderError::Value));
        assert_eq!(error_for("X-A", "é"), Some(HeaderError::Value));
        assert_eq!(error_for("X-A", " a"), Some(HeaderError::Value));
        assert_eq!(error_for("X-A", &"v".repeat(2000)), Some(HeaderError::Value));
        for name in ["", "X A", "X:A", "X\r\nA", "é"] {
            assert_eq!(error_for(name, "v"), Some(HeaderError::Name), "{name}");
        }
        for name in ["Host", "content-LENGTH", "Webhook-Signature", "webhook-x", "User-Agent"] {
            assert_eq!(error_for(name, "v"), Some(HeaderError::Reserved), "{name}");
        }
    }

    #[test]
    fn duplicates_and_too_many_are_rejected() {
        let pair = |name: &str| (name.to_owned(), String::new());
        let duplicate = CustomHeaders::parse([pair("X-A"), pair("x-a")]).expect_err("rejected");
        assert_eq!(duplicate, [("x-a".to_owned(), HeaderError::Duplicate)]);
        let many =
            CustomHeaders::parse((0..33).map(|n| pair(&format!("x-{n}")))).expect_err("rejected");
        assert_eq!(many, [("x-32".to_owned(), HeaderError::TooMany)]);
    }
}
