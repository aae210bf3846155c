//! What handlers take from a request: its body, and the id or name at the end of its path.

use std::str::FromStr;
use std::time::Duration;

use axum::extract::{FromRequest, FromRequestParts, RawPathParams, Request};
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use postrider_domain::limits::{MAX_BATCH_BODY_BYTES, MAX_BODY_BYTES};

use crate::web::problem::Problem;

/// How long a body may take to arrive; a caller who trickles does not hold a place for ever.
const MAX_BODY_TIME: Duration = Duration::from_secs(10);

/// The bytes of a body that is said to be JSON, at most `MAX` of them. Nothing is parsed yet.
pub(crate) struct JsonBody<const MAX: usize = MAX_BODY_BYTES>(pub Bytes);

/// The body of a batch of events.
pub(crate) type BatchBody = JsonBody<MAX_BATCH_BODY_BYTES>;

impl<S: Sync, const MAX: usize> FromRequest<S> for JsonBody<MAX> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        check_media_type(request.headers())?;
        let (parts, body) = request.into_parts();
        if declares_more_than(MAX, &parts.headers) {
            return Err(too_large(MAX));
        }
        let read = Limited::new(body, MAX).collect();
        match tokio::time::timeout(MAX_BODY_TIME, read).await {
            Ok(Ok(read)) => Ok(Self(read.to_bytes())),
            Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large(MAX)),
            Ok(Err(_)) => {
                Err(Problem::new(StatusCode::BAD_REQUEST, "The body broke off before its end."))
            }
            Err(_) => Err(Problem::new(
                StatusCode::REQUEST_TIMEOUT,
                format!("The body took longer than {MAX_BODY_TIME:?} to arrive."),
            )),
        }
    }
}

/// Refuses what is declared to be something else than JSON. A request that declares nothing is
/// taken at its word by the parser.
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
        "Send JSON, with the header «Content-Type: application/json».",
    ))
}

/// Whether a body says that it is too large, before a byte of it is read.
fn declares_more_than(max: usize, headers: &HeaderMap) -> bool {
    let declared = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    let length = declared.and_then(|value| value.parse::<u64>().ok());
    length.is_some_and(|length| usize::try_from(length).map_or(true, |length| length > max))
}

fn too_large(max: usize) -> Problem {
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, format!("The body has more than {max} bytes."))
}

/// The last parameter of the path. An id that cannot be one names nothing that exists: 404.
pub(crate) struct PathId<T>(pub T);

impl<S: Send + Sync, T: FromStr> FromRequestParts<S> for PathId<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let (name, text) = last_parameter(parts, state).await?;
        text.parse().map(Self).map_err(|_| Problem::not_found(&name))
    }
}

/// The last parameter of the path, as it is. One that is not UTF-8 names nothing that exists: 404.
pub(crate) struct PathText(pub String);

impl<S: Send + Sync> FromRequestParts<S> for PathText {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        last_parameter(parts, state).await.map(|(_, text)| Self(text))
    }
}

/// The name and the decoded text of the path's last parameter.
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
