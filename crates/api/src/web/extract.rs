//! Extractors for request bodies and path parameters.

use std::str::FromStr;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, RawPathParams, Request};
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use postrider_domain::limits::{MAX_BATCH_BODY_BYTES, MAX_BODY_BYTES};

use crate::web::problem::Problem;

/// The deadline for reading a body. It frees the concurrency slots of slow clients.
const MAX_BODY_TIME: Duration = Duration::from_secs(10);

/// The unparsed body of a JSON request, of at most `MAX` bytes.
pub(crate) struct JsonBody<const MAX: usize = MAX_BODY_BYTES>(pub Bytes);

/// The body of a batch of events.
pub(crate) type BatchBody = JsonBody<MAX_BATCH_BODY_BYTES>;

impl<S: Sync, const MAX: usize> FromRequest<S> for JsonBody<MAX> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        Self::read(&parts.headers, body).await
    }
}

impl<const MAX: usize> JsonBody<MAX> {
    /// Reads the body of a request with these headers.
    pub(crate) async fn read(headers: &HeaderMap, body: Body) -> Result<Self, Problem> {
        check_media_type(headers)?;
        if declared_length_exceeds(MAX, headers) {
            return Err(too_large(MAX));
        }
        let collected = Limited::new(body, MAX).collect();
        match tokio::time::timeout(MAX_BODY_TIME, collected).await {
            Ok(Ok(body)) => Ok(Self(body.to_bytes())),
            Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large(MAX)),
            Ok(Err(_)) => {
                Err(Problem::new(StatusCode::BAD_REQUEST, "The request body was incomplete."))
            }
            Err(_) => Err(Problem::new(
                StatusCode::REQUEST_TIMEOUT,
                format!("The request body did not arrive within {MAX_BODY_TIME:?}."),
            )),
        }
    }
}

/// Rejects media types other than JSON. Requests without a Content-Type are parsed as JSON.
fn check_media_type(headers: &HeaderMap) -> Result<(), Problem> {
    let Some(value) = headers.get(CONTENT_TYPE) else {
        return Ok(());
    };
    let essence = value.to_str().unwrap_or("").split(';').next().unwrap_or("").trim();
    let essence = essence.to_ascii_lowercase();
    let json = essence == "application/json"
        || (essence.starts_with("application/") && essence.ends_with("+json"));
    if json {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "The request body must be JSON with the header Content-Type: application/json.",
    ))
}

/// Whether the Content-Length exceeds `max`.
fn declared_length_exceeds(max: usize, headers: &HeaderMap) -> bool {
    let declared = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    let length = declared.and_then(|value| value.parse::<u64>().ok());
    length.is_some_and(|length| usize::try_from(length).map_or(true, |length| length > max))
}

fn too_large(max: usize) -> Problem {
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, format!("The request body exceeds {max} bytes."))
}

/// The last path parameter, parsed as an id. A malformed id does not exist: 404.
pub(crate) struct PathId<T>(pub T);

impl<S: Send + Sync, T: FromStr> FromRequestParts<S> for PathId<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let (name, text) = last_parameter(parts, state).await?;
        text.parse().map(Self).map_err(|_| Problem::not_found(&name))
    }
}

/// The last path parameter as text. Text that is not UTF-8 does not exist: 404.
pub(crate) struct PathText(pub String);

impl<S: Send + Sync> FromRequestParts<S> for PathText {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        last_parameter(parts, state).await.map(|(_, text)| Self(text))
    }
}

/// The name and the decoded value of the last path parameter.
async fn last_parameter<S: Send + Sync>(
    parts: &mut Parts,
    state: &S,
) -> Result<(String, String), Problem> {
    let params = RawPathParams::from_request_parts(parts, state).await;
    let params = params.map_err(|_| Problem::not_found("resource"))?;
    let last = params.iter().last();
    let (name, text) = last.ok_or_else(|| Problem::not_found("resource"))?;
    Ok((name.to_owned(), text.to_owned()))
}
