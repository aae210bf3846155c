//! An HTTP request to an endpoint and its response, exactly as sent and received.

use std::time::Duration;

use postrider_domain::attempt::Phases;
use postrider_domain::attempt::{RequestHead, Response};
use postrider_domain::outcome::AttemptError;
use postrider_domain::outcome::ErrorKind;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa::openapi::schema::Object;

use super::string_enum;

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
    /// The HTTP method, always `POST`.
    #[schema(example = "POST")]
    method: &'static str,
    /// The URL, with path and query as they were sent.
    url: String,
    /// The headers as pairs of name and value, in the order on the wire.
    #[schema(value_type = Vec<Vec<String>>, example = json!([["content-type", "application/json"]]))]
    headers: Vec<(String, String)>,
    /// The body, which is the event's payload; null if the event is no longer stored.
    body: Option<String>,
}

/// A response from an endpoint.
#[derive(Serialize, ToSchema)]
#[schema(as = WebhookResponse)]
pub(crate) struct ResponseBody {
    /// The HTTP status code.
    #[schema(example = 200)]
    status: u16,
    /// The headers as pairs of name and value, in the order on the wire.
    #[schema(value_type = Vec<Vec<String>>)]
    headers: Vec<(String, String)>,
    /// The first 4 KiB of the body as text. Invalid UTF-8 is replaced by U+FFFD.
    body: String,
}

/// The reason why an attempt failed.
#[derive(Serialize, ToSchema)]
#[schema(as = AttemptError)]
pub(crate) struct ErrorBody {
    /// The kind of failure.
    #[schema(schema_with = error_kind)]
    kind: ErrorKind,
    /// A description of the failure.
    message: String,
}

/// The result of a test event.
#[derive(Serialize, ToSchema)]
#[schema(as = TestResult)]
pub(crate) struct TestBody {
    /// The request.
    pub request: RequestBody,
    /// The response; null if none was received.
    pub response: Option<ResponseBody>,
    /// The error; null if the request succeeded.
    pub error: Option<ErrorBody>,
    /// The duration of the request in milliseconds.
    pub duration_ms: u32,
    /// The durations of the request's phases.
    pub phases: PhasesBody,
}

/// The durations of a request's consecutive phases, in milliseconds to three decimal places. A phase
/// that did not take place is null. If there is no response, the request failed in the last phase
/// with a value.
#[derive(Serialize, ToSchema)]
#[schema(as = Phases)]
pub(crate) struct PhasesBody {
    /// The DNS lookup; null if the URL contains an IP address.
    #[schema(example = 1.25)]
    dns_ms: Option<f64>,
    /// Establishing the TCP connection, including attempts with other addresses of the host.
    #[schema(example = 20.125)]
    connect_ms: Option<f64>,
    /// The TLS handshake; null if the URL does not use https.
    #[schema(example = 41.5)]
    tls_ms: Option<f64>,
    /// From the established connection to the status line and headers of the response: sending the
    /// request and waiting for the response.
    #[schema(example = 52.75)]
    wait_ms: Option<f64>,
    /// Reading the response body, up to the read limit.
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

/// Milliseconds, rounded to the microsecond.
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
    string_enum(&KINDS)
}
