//! Error responses as problem details (RFC 9457).

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

use crate::web::choice::json_name;
pub use crate::web::field_errors::FieldError;
use crate::web::field_errors::{FieldErrors, UNKNOWN_CURSOR, pointer_to};

/// The media type of a problem.
pub(crate) const PROBLEM_JSON: &str = "application/problem+json";
/// The Retry-After when the store is unavailable, or too many requests are in progress.
pub(crate) const RETRY_SOON_SECONDS: u32 = 1;
/// The Retry-After when the store's disk is full, which requires operator action.
const RETRY_FULL_SECONDS: u32 = 30;

/// Problem details of a failed request (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
pub struct Problem {
    /// The problem type: a URN, or `about:blank` if the status is specific enough.
    #[serde(rename = "type")]
    #[schema(example = "urn:postrider:problem:invalid-request")]
    kind: &'static str,
    /// A short summary of the problem type.
    #[schema(example = "Invalid request")]
    title: &'static str,
    /// The HTTP status code.
    #[schema(example = 422)]
    status: u16,
    /// An explanation of this occurrence of the problem.
    #[schema(example = "/event_type is required")]
    detail: String,
    /// All invalid fields of the request. Empty for other problems.
    errors: Vec<FieldError>,
    #[serde(skip)]
    retry_after_seconds: Option<u32>,
}

impl Problem {
    /// A problem of the type `about:blank`.
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

    /// A well-formed body has invalid fields.
    pub(crate) fn invalid_fields(errors: Vec<FieldError>) -> Self {
        Self::invalid(StatusCode::UNPROCESSABLE_ENTITY, errors)
    }

    /// Query parameters are invalid.
    pub(crate) fn invalid_query(errors: Vec<FieldError>) -> Self {
        Self::invalid(StatusCode::BAD_REQUEST, errors)
    }

    fn invalid(status: StatusCode, errors: Vec<FieldError>) -> Self {
        let first = errors
            .first()
            .map_or_else(String::new, |error| format!("{} {}", error.pointer, error.detail));
        let detail = match errors.len() {
            0 | 1 => first,
            2 => format!("{first} (and 1 more error)"),
            n => format!("{first} (and {} more errors)", n - 1),
        };
        Self {
            kind: "urn:postrider:problem:invalid-request",
            title: "Invalid request",
            errors,
            ..Self::new(status, detail.trim_start())
        }
    }

    /// The request conflicts with the state of a resource.
    pub(crate) fn conflict(
        kind: &'static str,
        title: &'static str,
        detail: impl Into<String>,
    ) -> Self {
        Self { kind, title, ..Self::new(StatusCode::CONFLICT, detail) }
    }

    /// A request with the same idempotency key is in progress.
    pub(crate) fn request_in_progress() -> Self {
        let problem = Self::conflict(
            "urn:postrider:problem:idempotency-key-in-use",
            "A request with this idempotency key is in progress",
            "Retry the request to get its answer. If it was interrupted, it is executed again after \
             two minutes.",
        );
        Self { retry_after_seconds: Some(RETRY_SOON_SECONDS), ..problem }
    }

    /// The request took effect earlier, but its answer cannot be repeated.
    pub(crate) fn answer_not_kept() -> Self {
        Self::conflict(
            "urn:postrider:problem:answer-not-kept",
            "The answer to the first request was not kept",
            "A request with this Idempotency-Key has taken effect. Its answer was too large to be \
             kept, or the operator key has been changed since. Nothing was changed by this request.",
        )
    }

    /// The resource does not exist, or the caller may not access it.
    pub(crate) fn not_found(resource: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("No such {resource}."))
    }

    /// An internal error. The caller has already logged its cause.
    pub(crate) fn internal() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "An internal error occurred. The server's log has the details.",
        )
    }

    /// The HTTP status code.
    pub(crate) fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).expect("it was created from a StatusCode")
    }

    /// The explanation of this occurrence.
    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }

    /// All invalid fields.
    pub(crate) fn errors(&self) -> &[FieldError] {
        &self.errors
    }

    /// Like [`Self::if_invalid_fields`], and `Ok` also for a conflict.
    pub(crate) fn if_invalid_fields_or_conflict(self) -> Result<Self, Self> {
        if self.status == StatusCode::CONFLICT.as_u16() {
            Ok(self)
        } else {
            self.if_invalid_fields()
        }
    }

    /// `Ok` if the problem has field errors, so that a form can be shown again with them. Other
    /// problems become an error page.
    pub(crate) fn if_invalid_fields(self) -> Result<Self, Self> {
        if self.errors.is_empty() { Err(self) } else { Ok(self) }
    }

    /// A temporary problem, with a Retry-After.
    pub(crate) fn retry_after(status: StatusCode, seconds: u32, detail: &str) -> Self {
        Self { retry_after_seconds: Some(seconds), ..Self::new(status, detail) }
    }
}

impl From<kv::Error> for Problem {
    fn from(error: kv::Error) -> Self {
        let unavailable = StatusCode::SERVICE_UNAVAILABLE;
        match error {
            kv::Error::TooLarge { .. } => Self::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "The request creates more data than fits into one transaction. Split it into smaller \
                 requests.",
            ),
            kv::Error::Full => {
                tracing::error!(%error, "rejected a request: the store is full");
                Self::retry_after(unavailable, RETRY_FULL_SECONDS, "The store is full.")
            }
            kv::Error::MaybeCommitted => {
                tracing::warn!(%error, "a request may or may not have taken effect");
                Self::retry_after(
                    StatusCode::GATEWAY_TIMEOUT,
                    RETRY_SOON_SECONDS,
                    "The store became unavailable during the request; it may or may not have taken \
                     effect. Retry the request; with the same Idempotency-Key, it takes effect only \
                     once.",
                )
            }
            // The store has already retried the transaction until its deadline.
            kv::Error::Unavailable(_) | kv::Error::Conflict => {
                // At debug level, because during an outage every request fails.
                tracing::debug!(%error, "rejected a request: the store is unavailable");
                Self::retry_after(unavailable, RETRY_SOON_SECONDS, "The store is unavailable.")
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
                let mut errors = FieldErrors::default();
                errors.add(pointer_to("", "cursor"), UNKNOWN_CURSOR);
                Self::invalid_query(errors.into_vec())
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
                "Deleted endpoints cannot receive deliveries.",
            ),
            ServiceError::EndpointDisabled => Self::conflict(
                "urn:postrider:problem:endpoint-disabled",
                "The endpoint is disabled",
                "Its deliveries are held. Enable the endpoint to send them.",
            ),
            ServiceError::DeliveryEnded(state) => Self::conflict(
                "urn:postrider:problem:delivery-ended",
                "The delivery has ended",
                format!("The delivery is {} and cannot be discarded.", json_name(&state)),
            ),
            ServiceError::IdempotencyKeyReused => Self::conflict(
                "urn:postrider:problem:idempotency-key-reused",
                "The idempotency key was used with a different request",
                "Retry the original request unchanged, or use a new Idempotency-Key.",
            ),
            // The answer was looked for, and was not found any more.
            ServiceError::RepeatedRequest => Self::retry_after(
                StatusCode::SERVICE_UNAVAILABLE,
                RETRY_SOON_SECONDS,
                "The Idempotency-Key has just expired. Retry the request.",
            ),
            ServiceError::ConcurrentUpdate => Self::conflict(
                "urn:postrider:problem:changed-meanwhile",
                "The resource was updated concurrently",
                "Someone else saved changes after you opened this page. Your changes are below; save \
                 again to overwrite theirs.",
            ),
            ServiceError::ReplayEnded(state) => Self::conflict(
                "urn:postrider:problem:replay-ended",
                "The replay has ended",
                format!("The replay is {} and cannot be changed.", json_name(&state)),
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
                tracing::error!(%error, "reading random bytes from the operating system failed");
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

impl From<FieldErrors> for Problem {
    fn from(errors: FieldErrors) -> Self {
        Self::invalid_fields(errors.into_vec())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, retry_after) = (self.status(), self.retry_after_seconds);
        let mut response = (status, Json(&self)).into_response();
        // The dashboard renders the problem as a page.
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
            // Part of the body may be unread, so the connection cannot be reused.
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// The response for unknown paths.
pub(crate) async fn route_not_found(uri: Uri) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, format!("Unknown path: {}", uri.path()))
}

/// The response for unsupported methods of a known path. The router adds `Allow`.
pub(crate) async fn method_not_allowed(method: Method, uri: Uri) -> Problem {
    let detail = format!("{} does not support {method}.", uri.path());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail)
}
