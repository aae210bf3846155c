//! The API's response types. Fields that callers must not rely on are left out, and unknown fields
//! are ignored.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;

#[derive(Clone, Debug, Deserialize)]
pub struct Page<T> {
    pub data: Vec<T>,
    pub next_cursor: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct AccountRecord {
    pub id: String,
    pub name: String,
    pub contact_emails: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct NewKey {
    pub id: String,
    pub key: String,
}

#[derive(Clone, Debug, Deserialize)]
pub struct PortalLink {
    pub url: String,
    pub expires_at: Timestamp,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Endpoint {
    pub id: String,
    pub name: String,
    pub url: String,
    pub event_types: Vec<String>,
    pub headers: BTreeMap<String, String>,
    pub ordering: String,
    pub state: String,
    pub disabled: Option<Disabled>,
    pub failure_count: u64,
    pub last_error: Option<LastError>,
    pub pending: u64,
    pub held: u64,
    pub oldest_pending_at: Option<Timestamp>,
    /// Only in the response to its creation.
    pub signing_secret: Option<String>,
}

impl Endpoint {
    /// Whether it was disabled because a delivery was exhausted.
    #[must_use]
    pub fn is_exhausted(&self) -> bool {
        self.disabled.as_ref().is_some_and(|disabled| disabled.reason == "exhausted")
    }
}

#[derive(Clone, Debug, Deserialize)]
pub struct Disabled {
    pub reason: String,
    pub at: Timestamp,
    pub delivery_id: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct LastError {
    pub at: Timestamp,
    pub kind: String,
    pub status: Option<u16>,
    pub message: String,
    pub delivery_id: String,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Accepted {
    pub id: String,
    pub event_type: String,
    pub created_at: Timestamp,
    pub deliveries: u64,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Event {
    pub id: String,
    pub event_type: String,
    pub created_at: Timestamp,
    pub deliveries: u64,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Delivery {
    pub id: String,
    pub event_id: String,
    pub endpoint_id: String,
    pub event_type: String,
    pub state: String,
    pub attempt_count: u64,
    pub next_attempt_at: Option<Timestamp>,
    pub created_at: Timestamp,
    pub finished_at: Option<Timestamp>,
    /// Empty in lists.
    #[serde(default)]
    pub attempts: Vec<Attempt>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Attempt {
    pub number: u64,
    pub at: Timestamp,
    pub duration_ms: u64,
    pub request: WireRequest,
    pub response: Option<WireResponse>,
    pub error: Option<AttemptError>,
    pub next_attempt_at: Option<Timestamp>,
    /// The owner's fence, if shown.
    pub shard: Option<u64>,
    pub epoch: Option<u64>,
    pub node: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Cluster {
    pub shards: u64,
    pub nodes: Vec<Member>,
    pub unowned: u64,
    pub oldest_pending_age_ms: Option<u64>,
    /// Only on request.
    #[serde(default)]
    pub owners: Vec<Ownership>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Member {
    /// The boot id.
    pub id: String,
    pub name: String,
    pub state: String,
    pub shards: u64,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Ownership {
    pub shard: u64,
    pub node: String,
    pub epoch: u64,
}

#[derive(Clone, Debug, Deserialize)]
pub struct WireRequest {
    pub method: String,
    pub url: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

#[derive(Clone, Debug, Deserialize)]
pub struct WireResponse {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

#[derive(Clone, Debug, Deserialize)]
pub struct AttemptError {
    pub kind: String,
    pub message: String,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Tested {
    pub request: WireRequest,
    pub response: Option<WireResponse>,
    pub error: Option<AttemptError>,
    pub duration_ms: u64,
    pub phases: Phases,
}

/// In milliseconds.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Phases {
    pub dns_ms: Option<f64>,
    pub connect_ms: Option<f64>,
    pub tls_ms: Option<f64>,
    pub wait_ms: Option<f64>,
    pub read_ms: Option<f64>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Replay {
    pub id: String,
    pub endpoint: Option<String>,
    pub state: String,
    pub total: u64,
    pub done: u64,
}

/// RFC 9457.
#[derive(Clone, Debug, Deserialize)]
pub struct Problem {
    #[serde(rename = "type")]
    pub kind: String,
    pub title: String,
    pub status: u16,
    pub detail: Option<String>,
    #[serde(default)]
    pub errors: Vec<FieldError>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct FieldError {
    pub pointer: String,
    pub detail: String,
}

impl Problem {
    /// The JSON pointers of the invalid fields, sorted.
    #[must_use]
    pub fn pointers(&self) -> Vec<&str> {
        let mut pointers: Vec<_> = self.errors.iter().map(|e| e.pointer.as_str()).collect();
        pointers.sort_unstable();
        pointers
    }
}

impl Delivery {
    /// A summary for error messages.
    #[must_use]
    pub fn summary(&self) -> String {
        let errors: Vec<_> =
            self.attempts.iter().filter_map(|a| a.error.as_ref()).map(|e| &e.kind).collect();
        format!("{} {} after {} attempts {errors:?}", self.id, self.state, self.attempt_count)
    }
}

impl WireRequest {
    /// The value of a header; the name is case-insensitive.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }
}

impl WireResponse {
    /// The value of a header; the name is case-insensitive.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }
}

fn find<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}
