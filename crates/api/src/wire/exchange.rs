//! One HTTP request to an endpoint and what came of it, exactly as it went over the wire.

use postrider_domain::delivery::{AttemptError, RequestHead, Response};
use postrider_domain::outcome::ErrorKind;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa::openapi::schema::Object;

use super::choices;

const KINDS: [ErrorKind; 7] = [
    ErrorKind::Timeout,
    ErrorKind::Dns,
    ErrorKind::Connect,
    ErrorKind::Tls,
    ErrorKind::Status,
    ErrorKind::Blocked,
    ErrorKind::Protocol,
];

/// A request to an endpoint.
#[derive(Serialize, ToSchema)]
#[schema(as = WebhookRequest)]
pub(crate) struct RequestBody {
    /// Always `POST`.
    #[schema(example = "POST")]
    method: &'static str,
    /// Where it went.
    url: String,
    /// Names and values, in their order on the wire.
    #[schema(value_type = Vec<Vec<String>>, example = json!([["content-type", "application/json"]]))]
    headers: Vec<(String, String)>,
    /// The body as text: the payload. Null when the event is no longer kept.
    body: Option<String>,
}

/// An endpoint's answer.
#[derive(Serialize, ToSchema)]
#[schema(as = WebhookResponse)]
pub(crate) struct ResponseBody {
    /// The status.
    #[schema(example = 200)]
    status: u16,
    /// Names and values, in their order on the wire.
    #[schema(value_type = Vec<Vec<String>>)]
    headers: Vec<(String, String)>,
    /// The first 4 KiB of the body as text; what is not UTF-8 is replaced.
    body: String,
}

/// Why an attempt failed.
#[derive(Serialize, ToSchema)]
#[schema(as = AttemptError)]
pub(crate) struct ErrorBody {
    /// What kind of failure it was.
    #[schema(schema_with = error_kind)]
    kind: ErrorKind,
    /// What happened, in words.
    message: String,
}

/// What a test event did.
#[derive(Serialize, ToSchema)]
#[schema(as = TestResult)]
pub(crate) struct TestBody {
    /// What was sent.
    pub request: RequestBody,
    /// What came back; null when nothing did.
    pub response: Option<ResponseBody>,
    /// What went wrong; null on success.
    pub error: Option<ErrorBody>,
    /// How long it took, in milliseconds.
    pub duration_ms: u32,
}

impl RequestBody {
    pub(crate) fn new(head: RequestHead, payload: Option<&[u8]>) -> Self {
        Self {
            method: "POST",
            url: head.url,
            headers: head.headers,
            body: payload.map(|bytes| String::from_utf8_lossy(bytes).into_owned()),
        }
    }
}

impl From<Response> for ResponseBody {
    fn from(response: Response) -> Self {
        Self {
            status: response.status,
            headers: response.headers,
            body: String::from_utf8_lossy(&response.body).into_owned(),
        }
    }
}

impl From<AttemptError> for ErrorBody {
    fn from(error: AttemptError) -> Self {
        Self { kind: error.kind, message: error.message }
    }
}

pub(crate) fn error_kind() -> Object {
    choices(&KINDS)
}
