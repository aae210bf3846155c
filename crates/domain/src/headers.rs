//! The headers that an endpoint's owner adds to its requests.

use http::{HeaderName, HeaderValue};

use crate::limits::{MAX_HEADER_NAME_BYTES, MAX_HEADER_VALUE_BYTES, MAX_HEADERS};

/// Headers of one endpoint, in the order of their names. Each name and value is legal
/// (RFC 9110 §5) and none takes the place of one that Postrider itself sends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CustomHeaders(Vec<(String, String)>);

/// Why one header is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum HeaderError {
    /// Not a token.
    #[error("is not a legal header name (RFC 9110 §5.1) of at most {MAX_HEADER_NAME_BYTES} bytes")]
    Name,
    /// Control characters, not ASCII, or too long.
    #[error(
        "must be visible ASCII characters, spaces and tabs, at most {MAX_HEADER_VALUE_BYTES}, \
         with no space at either end"
    )]
    Value,
    /// One that Postrider or HTTP itself sets.
    #[error("is set by Postrider and cannot be overridden")]
    Reserved,
    /// The same name twice, in another spelling.
    #[error("is given twice (header names do not distinguish case)")]
    Twice,
    /// More than the bound.
    #[error("at most {MAX_HEADERS} headers are accepted")]
    TooMany,
}

/// Headers whose meaning belongs to the connection or to the webhook request itself.
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

/// What Standard Webhooks and our own metadata are named with.
const RESERVED_PREFIX: &str = "webhook-";

impl CustomHeaders {
    /// Checks every header, and gives all errors with the name that each is about.
    ///
    /// # Errors
    /// Every header that is not legal, reserved, or given twice.
    pub fn parse(
        headers: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, Vec<(String, HeaderError)>> {
        let mut good: Vec<(String, String)> = Vec::new();
        let mut errors = Vec::new();
        for (name, value) in headers {
            let twice = good.iter().any(|(other, _)| other.eq_ignore_ascii_case(&name));
            match check(&name, &value) {
                Err(error) => errors.push((name, error)),
                Ok(()) if twice => errors.push((name, HeaderError::Twice)),
                Ok(()) if good.len() == MAX_HEADERS => errors.push((name, HeaderError::TooMany)),
                Ok(()) => good.push((name, value)),
            }
        }
        if errors.is_empty() { Ok(Self(good)) } else { Err(errors) }
    }

    /// Takes back what [`Self::iter`] gave, from the store.
    #[must_use]
    pub fn from_stored(headers: Vec<(String, String)>) -> Self {
        Self(headers)
    }

    /// Names, as they were given, and values.
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
    let legal = value.is_ascii() && HeaderValue::try_from(value).is_ok();
    if value.len() > MAX_HEADER_VALUE_BYTES || !legal || value.trim() != value {
        return Err(HeaderError::Value);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str, value: &str) -> Option<HeaderError> {
        CustomHeaders::parse([(name.to_owned(), value.to_owned())]).err().map(|mut e| e.remove(0).1)
    }

    #[test]
    fn legal_headers_keep_their_spelling() {
        let given = [("X-Api-Key".to_owned(), "s3cret = \t;".to_owned())];
        let headers = CustomHeaders::parse(given.clone()).expect("legal");
        assert_eq!(headers.iter().collect::<Vec<_>>(), [("X-Api-Key", "s3cret = \t;")]);
        assert_eq!(one("Authorization", "Bearer x"), None);
        assert_eq!(one("x-empty", ""), None);
    }

    #[test]
    fn injection_and_override_are_refused() {
        assert_eq!(one("X-A", "a\r\nX-B: c"), Some(HeaderError::Value));
        assert_eq!(one("X-A", "é"), Some(HeaderError::Value));
        assert_eq!(one("X-A", " a"), Some(HeaderError::Value));
        assert_eq!(one("X-A", &"v".repeat(2000)), Some(HeaderError::Value));
        for name in ["", "X A", "X:A", "X\r\nA", "é"] {
            assert_eq!(one(name, "v"), Some(HeaderError::Name), "{name}");
        }
        for name in ["Host", "content-LENGTH", "Webhook-Signature", "webhook-x", "User-Agent"] {
            assert_eq!(one(name, "v"), Some(HeaderError::Reserved), "{name}");
        }
    }

    #[test]
    fn twice_and_too_many() {
        let pair = |name: &str| (name.to_owned(), String::new());
        let twice = CustomHeaders::parse([pair("X-A"), pair("x-a")]).expect_err("refused");
        assert_eq!(twice, [("x-a".to_owned(), HeaderError::Twice)]);
        let many =
            CustomHeaders::parse((0..33).map(|n| pair(&format!("x-{n}")))).expect_err("refused");
        assert_eq!(many, [("x-32".to_owned(), HeaderError::TooMany)]);
    }
}
