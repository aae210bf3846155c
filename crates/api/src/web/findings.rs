//! The errors of a request, gathered so that the caller learns all of them at once.

use std::fmt::Display;

use postrider_domain::limits::{MAX_ERROR_CHARS, clip};
use serde::Serialize;
use utoipa::ToSchema;

/// Most errors that one answer lists.
const MAX_ERRORS: usize = 1_000;

/// The error of a cursor that belongs to another list.
pub(crate) const UNKNOWN_CURSOR: &str = "must be the next_cursor of another page of this list";

/// One invalid field of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    /// A JSON pointer (RFC 6901) to the invalid field: in the request's body, where `""` is all of
    /// it, or, with status 400 and a valid body, in the query, read as an object.
    #[schema(example = "/event_types/3")]
    pub pointer: String,
    /// What is wrong with it.
    #[schema(example = "is not in the catalogue")]
    pub detail: String,
}

/// The errors found so far.
#[derive(Debug, Default)]
pub(crate) struct Findings(Vec<FieldError>);

impl Findings {
    pub(crate) fn add(&mut self, pointer: impl Into<String>, detail: impl Display) {
        if self.0.len() < MAX_ERRORS {
            let detail = clip(&detail.to_string(), MAX_ERROR_CHARS);
            self.0.push(FieldError { pointer: pointer.into(), detail });
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Itself as an error, unless it is empty.
    pub(crate) fn check(self) -> Result<(), Self> {
        if self.0.is_empty() { Ok(()) } else { Err(self) }
    }

    pub(crate) fn into_errors(self) -> Vec<FieldError> {
        self.0
    }
}

impl<T: Into<FieldError>> Extend<T> for Findings {
    fn extend<I: IntoIterator<Item = T>>(&mut self, errors: I) {
        for error in errors {
            let FieldError { pointer, detail } = error.into();
            self.add(pointer, detail);
        }
    }
}

/// The pointer to a field of what `parent` points to (RFC 6901 §3).
pub(crate) fn child(parent: &str, name: &str) -> String {
    format!("{parent}/{}", name.replace('~', "~0").replace('/', "~1"))
}
