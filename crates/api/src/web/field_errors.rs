//! Field errors of a request, collected so that all of them are reported at once.

use std::fmt::Display;

use postrider_domain::limits::{MAX_ERROR_CHARS, truncate};
use serde::Serialize;
use utoipa::ToSchema;

/// The maximum number of errors in one response.
const MAX_ERRORS: usize = 1_000;

/// The error for a cursor that this list did not return.
pub(crate) const UNKNOWN_CURSOR: &str = "must be a next_cursor returned for this list";

/// An invalid field of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    /// A JSON pointer (RFC 6901) to the invalid field of the request body. With status 400, it
    /// points to the invalid query parameter instead. The empty pointer refers to the whole body.
    #[schema(example = "/event_types/3")]
    pub pointer: String,
    /// The reason why the field is invalid.
    #[schema(example = "is not in the catalogue")]
    pub detail: String,
}

/// The field errors found so far.
#[derive(Debug, Default)]
pub(crate) struct FieldErrors(Vec<FieldError>);

impl FieldErrors {
    pub(crate) fn add(&mut self, pointer: impl Into<String>, detail: impl Display) {
        if self.0.len() < MAX_ERRORS {
            let detail = truncate(&detail.to_string(), MAX_ERROR_CHARS);
            self.0.push(FieldError { pointer: pointer.into(), detail });
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// `Ok` if there are no errors.
    pub(crate) fn into_result(self) -> Result<(), Self> {
        if self.0.is_empty() { Ok(()) } else { Err(self) }
    }

    pub(crate) fn into_vec(self) -> Vec<FieldError> {
        self.0
    }
}

impl<T: Into<FieldError>> Extend<T> for FieldErrors {
    fn extend<I: IntoIterator<Item = T>>(&mut self, errors: I) {
        for error in errors {
            let FieldError { pointer, detail } = error.into();
            self.add(pointer, detail);
        }
    }
}

/// The pointer to the field `name` of the object at `parent` (RFC 6901 §3).
pub(crate) fn pointer_to(parent: &str, name: &str) -> String {
    format!("{parent}/{}", name.replace('~', "~0").replace('/', "~1"))
}
