//! Origins (RFC 6454): the dashboard's public URL, and the sites that may embed it.

use std::fmt;

use url::Url;

/// An origin: scheme, host and port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin(String);

/// The text is not an origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be an http or https URL without a path, such as https://app.example.com")]
pub struct OriginError;

impl Origin {
    /// Parses an origin.
    ///
    /// # Errors
    /// If the text is not an http or https URL, or has credentials, a path, a query or a fragment.
    pub fn parse(text: &str) -> Result<Self, OriginError> {
        let url = Url::parse(text).map_err(|_| OriginError)?;
        let web = matches!(url.scheme(), "http" | "https");
        let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        let anonymous = url.username().is_empty() && url.password().is_none();
        let whole = web && bare && anonymous;
        whole.then(|| Self(url.origin().ascii_serialization())).ok_or(OriginError)
    }

    /// Whether the scheme is https.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.0.starts_with("https:")
    }
}

/// Without a trailing slash.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins() {
        let read = |text| Origin::parse(text).map(|origin| origin.to_string());
        assert_eq!(read("https://app.example.com").as_deref(), Ok("https://app.example.com"));
        assert_eq!(read("https://app.example.com/").as_deref(), Ok("https://app.example.com"));
        assert_eq!(read("http://localhost:3000").as_deref(), Ok("http://localhost:3000"));
        for bad in ["", "app.example.com", "https://a/b", "https://a b", "ftp://a", "https://u@a"] {
            assert!(read(bad).is_err(), "{bad}");
        }
        assert!(Origin::parse("https://a").is_ok_and(|origin| origin.is_https()));
        assert!(Origin::parse("http://a").is_ok_and(|origin| !origin.is_https()));
    }
}
