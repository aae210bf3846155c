//! What goes wrong, as RFC 9457 problem details.

use std::sync::Arc;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::header::{CONNECTION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Method, StatusCode, Uri};
use postrider_domain::findings::Finding;
use postrider_service::{InvalidField, ServiceError};
use postrider_store::{EventDeliveriesError, kv};
use serde::Serialize;
use utoipa::ToSchema;

use crate::web::choice::name_of;
pub use crate::web::findings::FieldError;
use crate::web::findings::{Findings, UNKNOWN_CURSOR, child};

/// The media type of a problem.
pub(crate) const PROBLEM_JSON: &str = "application/problem+json";
/// Seconds after which to try again when the store does not answer, or too many requests wait.
pub(crate) const RETRY_SOON_SECONDS: u32 = 1;
/// Seconds after which to try again when the store's disk is full: somebody has to act first.
const RETRY_FULL_SECONDS: u32 = 30;

/// Why a request failed (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
pub struct Problem {
    /// What kind of problem this is: `about:blank` when the status says it all.
    #[serde(rename = "type")]
    #[schema(example = "urn:postrider:problem:invalid-request")]
    kind: &'static str,
    /// The kind in words.
    #[schema(example = "The request has invalid fields")]
    title: &'static str,
    /// The HTTP status.
    #[schema(example = 422)]
    status: u16,
    /// What went wrong this time.
    detail: String,
    /// Every invalid field, each with what is wrong with it.
    errors: Vec<FieldError>,
    #[serde(skip)]
    retry_after_seconds: Option<u32>,
}

impl Problem {
    /// A problem that its status explains.
    pub(crate) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            kind: "about:blank",
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            detail: detail.into(),
            errors: Vec::new(),
            retry_after_seconds: None,
        }
    }

    /// Fields of a well-formed body that break the rules.
    pub(crate) fn invalid_fields(errors: Vec<FieldError>) -> Self {
        Self::invalid(StatusCode::UNPROCESSABLE_ENTITY, errors)
    }

    /// Query parameters that break the rules.
    pub(crate) fn invalid_query(errors: Vec<FieldError>) -> Self {
        Self::invalid(StatusCode::BAD_REQUEST, errors)
    }

    fn invalid(status: StatusCode, errors: Vec<FieldError>) -> Self {
        let first = errors
            .first()
            .map_or_else(String::new, |error| format!("{} {}", error.pointer, error.detail));
        let detail = match errors.len() {
            0 | 1 => first,
            n => format!("{first}; and {} more", n - 1),
        };
        Self {
            kind: "urn:postrider:problem:invalid-request",
            title: "The request has invalid fields",
            errors,
            ..Self::new(status, detail.trim_start())
        }
    }

    /// The request contradicts what is stored.
    pub(crate) fn conflict(
        kind: &'static str,
        title: &'static str,
        detail: impl Into<String>,
    ) -> Self {
        Self { kind, title, ..Self::new(StatusCode::CONFLICT, detail) }
    }

    /// There is no such thing, or the caller may not know of it.
    pub(crate) fn not_found(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("There is no such {what}."))
    }

    /// Our own mistake. The caller has already logged what it was.
    pub(crate) fn internal() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "The request failed through no fault of yours. The log has the details.",
        )
    }

    /// The HTTP status.
    pub(crate) fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).expect("it was made from a StatusCode")
    }

    /// What went wrong this time.
    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }

    /// Every invalid field.
    pub(crate) fn errors(&self) -> &[FieldError] {
        &self.errors
    }

    /// Itself, when a form that is shown again can say it; an error for the whole page otherwise.
    pub(crate) fn of_form(self) -> Result<Self, Self> {
        if self.status == StatusCode::CONFLICT.as_u16() { Ok(self) } else { self.of_fields() }
    }

    /// This problem when fields are what it is about, so that a form can be shown again with it.
    ///
    /// # Errors
    /// Any other problem.
    pub(crate) fn of_fields(self) -> Result<Self, Self> {
        if self.errors.is_empty() { Err(self) } else { Ok(self) }
    }

    /// Try again later.
    pub(crate) fn later(status: StatusCode, seconds: u32, detail: &str) -> Self {
        Self { retry_after_seconds: Some(seconds), ..Self::new(status, detail) }
    }
}

impl From<kv::Error> for Problem {
    fn from(error: kv::Error) -> Self {
        let unavailable = StatusCode::SERVICE_UNAVAILABLE;
        match error {
            kv::Error::TooLarge { .. } => Self::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "The request makes more data than one transaction can hold. Split it.",
            ),
            kv::Error::Full => {
                tracing::error!(%error, "a request was refused");
                Self::later(unavailable, RETRY_FULL_SECONDS, "The store has no room left.")
            }
            kv::Error::MaybeCommitted => {
                tracing::warn!(%error, "a request was cut off");
                Self::later(
                    StatusCode::GATEWAY_TIMEOUT,
                    RETRY_SOON_SECONDS,
                    "The store became unavailable during the request; it may or may not have taken \
                     effect. Retry it; an event with the same idempotency key is accepted once.",
                )
            }
            // The store itself runs a transaction again after a conflict; it gives up in time.
            kv::Error::Unavailable(_) | kv::Error::Conflict => {
                // While the store is away this is every request.
                tracing::debug!(%error, "a request was refused");
                Self::later(unavailable, RETRY_SOON_SECONDS, "The store cannot be reached.")
            }
            kv::Error::Corrupt(_) => {
                tracing::error!(%error, "a request failed");
                Self::internal()
            }
        }
    }
}

impl From<EventDeliveriesError> for Problem {
    fn from(error: EventDeliveriesError) -> Self {
        match error {
            EventDeliveriesError::NoSuchEvent => Self::not_found("event"),
            EventDeliveriesError::UnknownCursor => {
                let mut findings = Findings::default();
                findings.add(child("", "cursor"), UNKNOWN_CURSOR);
                Self::invalid_query(findings.into_errors())
            }
            EventDeliveriesError::Store(error) => error.into(),
        }
    }
}

impl From<ServiceError> for Problem {
    fn from(error: ServiceError) -> Self {
        match error {
            ServiceError::NotFound(resource) => Self::not_found(resource.as_str()),
            ServiceError::EndpointDeleted => Self::conflict(
                "urn:postrider:problem:endpoint-deleted",
                "The endpoint was deleted",
                "Nothing can be delivered to it again.",
            ),
            ServiceError::IdempotencyKeyReused => Self::conflict(
                "urn:postrider:problem:idempotency-key-reused",
                "The idempotency key was used with another request",
                "Repeat a request unchanged, or use another Idempotency-Key.",
            ),
            ServiceError::ChangedMeanwhile => Self::conflict(
                "urn:postrider:problem:changed-meanwhile",
                "It was changed in the meantime",
                "Somebody else changed this in the meantime. Your changes are below: save again to \
                 overwrite theirs.",
            ),
            ServiceError::ReplayEnded(state) => Self::conflict(
                "urn:postrider:problem:replay-ended",
                "The replay has ended",
                format!("It is {}.", name_of(&state)),
            ),
            ServiceError::InvalidFields(fields) => {
                Self::invalid_fields(fields.into_iter().map(Into::into).collect())
            }
            ServiceError::InvalidEvents(findings) => {
                let error = |finding: Finding| FieldError {
                    pointer: format!("/{}{}", finding.field.as_str(), finding.pointer),
                    detail: finding.detail,
                };
                Self::invalid_fields(findings.into_vec().into_iter().map(error).collect())
            }
            ServiceError::Random(error) => {
                tracing::error!(%error, "the operating system gave no random bytes");
                Self::internal()
            }
            ServiceError::Store(error) => error.into(),
        }
    }
}

impl From<InvalidField> for FieldError {
    fn from(InvalidField { pointer, detail }: InvalidField) -> Self {
        Self { pointer, detail }
    }
}

impl From<Findings> for Problem {
    fn from(findings: Findings) -> Self {
        Self::invalid_fields(findings.into_errors())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, retry_after) = (self.status(), self.retry_after_seconds);
        let mut response = (status, Json(&self)).into_response();
        // The dashboard shows it as a page.
        response.extensions_mut().insert(Arc::new(self));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        if let Some(seconds) = retry_after {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if matches!(status, StatusCode::PAYLOAD_TOO_LARGE | StatusCode::REQUEST_TIMEOUT) {
            // A part of the body may be unread, and no request can follow it.
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// Answers where there is nothing.
pub(crate) async fn no_such_route(uri: Uri) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, format!("There is nothing at {}.", uri.path()))
}

/// Answers where there is something, but not with this method. The router adds `Allow`.
pub(crate) async fn no_such_method(method: Method, uri: Uri) -> Problem {
    let detail = format!("{} does not take {method}.", uri.path());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail)
}
