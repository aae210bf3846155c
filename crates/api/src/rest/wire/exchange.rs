//! One HTTP request to an endpoint and what came of it, exactly as it went over the wire.

use std::time::Duration;

use postrider_domain::attempt::Phases;
use postrider_domain::attempt::{RequestHead, Response};
use postrider_domain::outcome::AttemptError;
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
    /// How long each part of it took.
    pub phases: PhasesBody,
}

/// How long the parts of a request took, one after the other, in milliseconds with three
/// decimals. Null is what did not take place; the last one with a value is where a request that
/// got no answer broke off.
#[derive(Serialize, ToSchema)]
#[schema(as = Phases)]
pub(crate) struct PhasesBody {
    /// Resolving the host's name; null when the URL has an address.
    #[schema(example = 1.25)]
    dns_ms: Option<f64>,
    /// The TCP connection, whichever of the host's addresses gave it.
    #[schema(example = 20.125)]
    connect_ms: Option<f64>,
    /// The TLS handshake; null without TLS.
    #[schema(example = 41.5)]
    tls_ms: Option<f64>,
    /// From the connection to the answer's status line and headers: the request's way there, the
    /// receiver's work and the answer's way back.
    #[schema(example = 52.75)]
    wait_ms: Option<f64>,
    /// Reading the answer's body, as much as is read of it.
    #[schema(example = 0.031)]
    read_ms: Option<f64>,
}

impl From<Phases> for PhasesBody {
    fn from(Phases { dns, connect, tls, wait, read }: Phases) -> Self {
        Self {
            dns_ms: dns.map(millis),
            connect_ms: connect.map(millis),
            tls_ms: tls.map(millis),
            wait_ms: wait.map(millis),
            read_ms: read.map(millis),
        }
    }
}

/// Milliseconds, down to the microsecond.
pub(crate) fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
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
