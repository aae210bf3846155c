//! Submitted forms (application/x-www-form-urlencoded) and their errors.

use std::time::Duration;

use axum::body::Body;
use axum::extract::FromRequestParts;
use http::StatusCode;
use http::request::Parts;
use http_body_util::{BodyExt, Limited};
use maud::{Markup, html};
use postrider_domain::time::Timestamp;
use url::form_urlencoded;

use crate::web::problem::{FieldError, Problem};

/// The maximum size of a form in bytes: that of an API request, with every byte percent-encoded.
pub(crate) const MAX_BYTES: usize = 3 * postrider_domain::limits::MAX_BODY_BYTES;
/// The maximum number of values in a form.
const MAX_VALUES: usize = 10_000;
/// The name of the field that [`version_field`] renders.
const VERSION: &str = "version";
/// How long reading a form may take.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// A form's names and values, in order.
#[derive(Clone, Debug)]
pub(crate) struct Form(Vec<(String, String)>);

impl Form {
    /// Reads a form of at most `max` bytes from a request's body.
    pub(crate) async fn read(body: Body, max: usize) -> Result<Self, Problem> {
        let read = tokio::time::timeout(READ_TIMEOUT, Limited::new(body, max).collect()).await;
        let bytes = match read {
            Ok(Ok(read)) => read.to_bytes(),
            Ok(Err(_)) => {
                let detail = "The form is too large or was cut off.";
                return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail));
            }
            Err(_) => {
                let detail = "The form took too long to arrive.";
                return Err(Problem::new(StatusCode::REQUEST_TIMEOUT, detail));
            }
        };
        Ok(Self::parse(&bytes))
    }

    /// Parses an encoded form. Malformed input is not an error; it yields unknown names.
    pub(crate) fn parse(text: &[u8]) -> Self {
        let pairs = form_urlencoded::parse(text).take(MAX_VALUES);
        Self(pairs.map(|(name, value)| (name.into_owned(), normalize_newlines(&value))).collect())
    }

    /// The first value of a field, or `""`.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.0.iter().find(|(other, _)| other == name).map_or("", |(_, value)| value)
    }

    /// All values of a field.
    pub(crate) fn values(&self, name: &str) -> Vec<&str> {
        let named = self.0.iter().filter(|(other, _)| other == name);
        named.map(|(_, value)| value.as_str()).collect()
    }

    /// The version that the user was editing, from the hidden [`version_field`]. Without the field,
    /// a version that never existed.
    pub(crate) fn version(&self) -> Timestamp {
        self.text(VERSION).parse().unwrap_or(Timestamp::EPOCH)
    }

    /// Whether a field is present.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(other, _)| other == name)
    }
}

/// Browsers send line breaks as CR LF.
fn normalize_newlines(text: &str) -> String {
    text.replace("\r\n", "\n")
}

impl<S: Sync> FromRequestParts<S> for Form {
    type Rejection = Problem;

    /// Takes the form that the session middleware has read.
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts.extensions.remove::<Self>().ok_or_else(|| {
            tracing::error!(
                path = parts.uri.path(),
                "form handler is not behind the session middleware"
            );
            Problem::internal()
        })
    }
}

/// The hidden field with the version that is being edited: when it was last changed.
pub(crate) fn version_field(updated_at: Timestamp) -> Markup {
    html! { input type="hidden" name=(VERSION) value=(updated_at); }
}

/// An error that concerns the whole form, with a link to the current version.
pub(crate) fn form_error(problem: Option<&Problem>, page: &str) -> Markup {
    let problem = problem.filter(|problem| problem.errors().is_empty());
    html! {
        @if let Some(problem) = problem {
            p.error role="alert" { (problem.detail()) " " a href=(page) { "Load the current version" } }
        }
    }
}

/// The errors of a form, by field.
#[derive(Clone, Copy, Default)]
pub(crate) enum Errors<'a> {
    #[default]
    None,
    Single {
        field: &'a str,
        detail: &'a str,
    },
    Fields(&'a [FieldError]),
}

impl<'a> Errors<'a> {
    /// The field errors of a problem.
    pub(crate) fn of(problem: Option<&'a Problem>) -> Self {
        problem.map_or(Self::None, |problem| Self::Fields(problem.errors()))
    }

    /// The error of one field as a whole.
    pub(crate) fn single(field: &'a str, detail: &'a str) -> Self {
        Self::Single { field, detail }
    }

    /// The errors of a field and of anything within it.
    pub(crate) fn at(self, field: &str) -> Vec<String> {
        match self {
            Self::Single { field: invalid, detail } if invalid == field => vec![detail.to_owned()],
            Self::None | Self::Single { .. } => Vec::new(),
            Self::Fields(errors) => {
                let within = errors.iter().filter_map(|error| {
                    let rest = error.pointer.strip_prefix('/')?.strip_prefix(field)?;
                    let inner = rest.strip_prefix('/').or((rest.is_empty()).then_some(""))?;
                    Some(with_subject(inner, &error.detail))
                });
                within.collect()
            }
        }
    }
}

/// An error within a field, with the number of the item or the name of the entry as its subject.
/// `inner` is the rest of the pointer; it is empty for an error of the field as a whole.
fn with_subject(inner: &str, detail: &str) -> String {
    let is_index = inner.bytes().all(|byte| byte.is_ascii_digit());
    match inner.parse::<u32>() {
        _ if inner.is_empty() => detail.to_owned(),
        Ok(index) if is_index => format!("Item {} {detail}", u64::from(index) + 1),
        _ => format!("{} {detail}", inner.replace("~1", "/").replace("~0", "~")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_by_name() {
        let form = Form::parse(b"a=1&b=x+%26%0D%0Ay&a=2&c&%ff=%ff");
        assert_eq!((form.text("a"), form.values("a")), ("1", vec!["1", "2"]));
        assert_eq!(form.text("b"), "x &\ny");
        assert!(form.has("c") && !form.has("d"));
        assert_eq!((form.text("c"), form.text("d")), ("", ""));
    }

    #[test]
    fn errors_are_found_by_field() {
        let error = |pointer: &str| FieldError { pointer: pointer.into(), detail: "is odd".into() };
        let errors = ["/url", "/event_types/3", "/headers/X~1Y", "/urls", ""].map(error);
        let problem = Problem::invalid_fields(errors.to_vec());
        let errors = Errors::of(Some(&problem));
        assert_eq!(errors.at("url"), ["is odd"]);
        assert_eq!(errors.at("event_types"), ["Item 4 is odd"]);
        assert_eq!(errors.at("headers"), ["X/Y is odd"]);
        assert!(errors.at("name").is_empty() && Errors::of(None).at("url").is_empty());
        let single = Errors::single("url", "is odd");
        assert_eq!((single.at("url"), single.at("urls")), (vec!["is odd".to_owned()], Vec::new()));
    }
}
