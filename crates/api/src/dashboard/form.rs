//! What a form brought in: names and values (application/x-www-form-urlencoded), and how it becomes
//! the JSON that the API's functions read.

use std::time::Duration;

use axum::body::Body;
use axum::extract::FromRequestParts;
use bytes::Bytes;
use http::StatusCode;
use http::request::Parts;
use http_body_util::{BodyExt, Limited};
use maud::{Markup, html};
use postrider_domain::time::Timestamp;
use serde_json::Value;
use url::form_urlencoded;

use crate::web::problem::{FieldError, Problem};

/// Largest form, in bytes: the largest body of an API call, whose quotes may each take three bytes.
pub(crate) const MAX_BYTES: usize = 3 * postrider_domain::limits::MAX_BODY_BYTES;
/// Most values in a form.
const MAX_VALUES: usize = 10_000;
/// The field of [`seen`].
const SEEN: &str = "seen";
/// How long a form may take to arrive.
const MAX_TIME: Duration = Duration::from_secs(10);

/// A form's names and values, in their order.
#[derive(Clone, Debug)]
pub(crate) struct Form(Vec<(String, String)>);

impl Form {
    /// Reads a form of at most so many bytes from a request's body.
    pub(crate) async fn read(body: Body, max: usize) -> Result<Self, Problem> {
        let read = tokio::time::timeout(MAX_TIME, Limited::new(body, max).collect()).await;
        let bytes = match read {
            Ok(Ok(read)) => read.to_bytes(),
            Ok(Err(_)) => {
                let detail = "The form is too large, or broke off before its end.";
                return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail));
            }
            Err(_) => {
                let detail = "The form took too long to arrive.";
                return Err(Problem::new(StatusCode::REQUEST_TIMEOUT, detail));
            }
        };
        Ok(Self::parse(&bytes))
    }

    /// Reads a form's text. Nothing that is no form's text is refused: it has odd names.
    pub(crate) fn parse(text: &[u8]) -> Self {
        let pairs = form_urlencoded::parse(text).take(MAX_VALUES);
        Self(pairs.map(|(name, value)| (name.into_owned(), lines(&value))).collect())
    }

    /// A value; `""` when there is none.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.0.iter().find(|(other, _)| other == name).map_or("", |(_, value)| value)
    }

    /// All values of a name.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let named = self.0.iter().filter(|(other, _)| other == name);
        named.map(|(_, value)| value.as_str()).collect()
    }

    /// Which state of a thing somebody changes, as [`seen`] hid it in the form; one that there never
    /// was when it is missing.
    pub(crate) fn seen(&self) -> Timestamp {
        self.text(SEEN).parse().unwrap_or(Timestamp::EPOCH)
    }

    /// Whether there is a value.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(other, _)| other == name)
    }
}

/// Browsers send the ends of lines as CR LF.
fn lines(text: &str) -> String {
    text.replace("\r\n", "\n")
}

impl<S: Sync> FromRequestParts<S> for Form {
    type Rejection = Problem;

    /// What the gate read.
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts.extensions.remove::<Self>().ok_or_else(|| {
            tracing::error!(path = parts.uri.path(), "a form's page lies outside the gate");
            Problem::internal()
        })
    }
}

/// The hidden field that tells which state of a thing somebody changes: when it was last changed.
pub(crate) fn seen(updated_at: Timestamp) -> Markup {
    html! { input type="hidden" name=(SEEN) value=(updated_at); }
}

/// What is wrong with a form as a whole, with the way to the page as it is now.
pub(crate) fn as_a_whole(problem: Option<&Problem>, page: &str) -> Markup {
    let problem = problem.filter(|problem| problem.errors().is_empty());
    html! {
        @if let Some(problem) = problem {
            p.error role="alert" { (problem.detail()) " " a href=(page) { "Load the current version" } }
        }
    }
}

/// JSON as the API's functions read it.
pub(crate) fn body(value: &Value) -> Bytes {
    Bytes::from(value.to_string())
}

/// An object with these texts, in their order; a name that comes twice comes twice.
pub(crate) fn object_of_texts<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let pairs: Vec<_> =
        pairs.map(|(name, value)| format!("{}:{}", quoted(name), quoted(value))).collect();
    format!("{{{}}}", pairs.join(","))
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// What is wrong with a form, by field.
#[derive(Clone, Copy, Default)]
pub(crate) struct Errors<'a>(Option<&'a [FieldError]>);

impl<'a> Errors<'a> {
    /// The errors of a problem with fields.
    pub(crate) fn of(problem: Option<&'a Problem>) -> Self {
        Self(problem.map(Problem::errors))
    }

    /// What is wrong with a field or with anything within it.
    pub(crate) fn at(self, field: &str) -> Vec<String> {
        let errors = self.0.unwrap_or_default().iter();
        let within = errors.filter_map(|error| {
            let rest = error.pointer.strip_prefix('/')?.strip_prefix(field)?;
            let inner = rest.strip_prefix('/').or((rest.is_empty()).then_some(""))?;
            Some(if inner.is_empty() || inner.bytes().all(|b| b.is_ascii_digit()) {
                error.detail.clone()
            } else {
                format!("{}: {}", inner.replace("~1", "/").replace("~0", "~"), error.detail)
            })
        });
        within.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_by_name() {
        let form = Form::parse(b"a=1&b=x+%26%0D%0Ay&a=2&c&%ff=%ff");
        assert_eq!((form.text("a"), form.all("a")), ("1", vec!["1", "2"]));
        assert_eq!(form.text("b"), "x &\ny");
        assert!(form.has("c") && !form.has("d"));
        assert_eq!((form.text("c"), form.text("d")), ("", ""));
    }

    #[test]
    fn errors_stand_beside_their_fields() {
        let error = |pointer: &str| FieldError { pointer: pointer.into(), detail: "is odd".into() };
        let errors = ["/url", "/event_types/3", "/headers/X~1Y", "/urls", ""].map(error);
        let problem = Problem::invalid_fields(errors.to_vec());
        let errors = Errors::of(Some(&problem));
        assert_eq!(errors.at("url"), ["is odd"]);
        assert_eq!(errors.at("event_types"), ["is odd"]);
        assert_eq!(errors.at("headers"), ["X/Y: is odd"]);
        assert!(errors.at("name").is_empty() && Errors::of(None).at("url").is_empty());
    }

    #[test]
    fn texts_become_an_object() {
        let pairs = [("a", "\"x\n"), ("a", "é")];
        assert_eq!(object_of_texts(pairs.into_iter()), r#"{"a":"\"x\n","a":"é"}"#);
    }
}
