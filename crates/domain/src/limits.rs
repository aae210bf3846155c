//! Every limit that a caller can hit.

use std::time::Duration;

/// The maximum size of a request body other than a batch: 256 KiB.
pub const MAX_BODY_BYTES: usize = 256 * 1024;
/// The maximum size of the request body of a batch: 1 MiB.
pub const MAX_BATCH_BODY_BYTES: usize = 1024 * 1024;
/// The maximum number of events in a batch.
pub const MAX_BATCH_EVENTS: usize = 1_000;
/// The maximum nesting depth of arrays and objects in a payload.
pub const MAX_JSON_DEPTH: usize = 64;
/// The maximum length of the name of an account, endpoint or key, in characters.
pub const MAX_NAME_CHARS: usize = 200;
/// The maximum length of the name of an event type, in bytes.
pub const MAX_EVENT_TYPE_BYTES: usize = 128;
/// The maximum length of the description of an event type, in characters.
pub const MAX_DESCRIPTION_CHARS: usize = 2_000;
/// The maximum size of the example or schema of an event type; it has to fit into one record.
pub const MAX_CATALOGUE_JSON_BYTES: usize = 32 * 1024;
/// The maximum number of event types that an endpoint lists (`*` subscribes to all).
pub const MAX_EVENT_TYPES_PER_ENDPOINT: usize = 100;
/// The maximum length of an endpoint's URL, in bytes (the common limit of browsers and proxies).
pub const MAX_URL_BYTES: usize = 2_048;
/// The maximum number of custom headers of an endpoint.
pub const MAX_HEADERS: usize = 32;
/// The maximum length of the name of a custom header, in bytes.
pub const MAX_HEADER_NAME_BYTES: usize = 128;
/// The maximum length of the value of a custom header, in bytes.
pub const MAX_HEADER_VALUE_BYTES: usize = 1_024;
/// The maximum number of contacts of an account.
pub const MAX_CONTACTS: usize = 20;
/// The maximum length of an email address (RFC 5321 §4.5.3.1.3, the path without its brackets).
pub const MAX_EMAIL_BYTES: usize = 254;
/// The maximum length of an idempotency key, in bytes.
pub const MAX_IDEMPOTENCY_KEY_BYTES: usize = 256;
/// The maximum size of an answer that is kept under an idempotency key. It has to fit into one
/// record.
pub const MAX_KEPT_ANSWER_BYTES: usize = 80 * 1024;
/// How long a response is read on once its status is known.
pub const MAX_RESPONSE_READ_TIME: Duration = Duration::from_millis(500);
/// How much of a response is read.
pub const MAX_RESPONSE_READ_BYTES: usize = 16 * 1024;
/// How much of a response body is kept with the attempt.
pub const MAX_RESPONSE_KEPT_BYTES: usize = 4 * 1024;
/// How much of the response headers is kept, names and values together.
pub const MAX_RESPONSE_HEADERS_KEPT_BYTES: usize = 8 * 1024;
/// The maximum length of an error message kept with an attempt, in characters.
pub const MAX_ERROR_CHARS: usize = 500;
/// The maximum number of endpoints that an event is delivered to in the transaction that accepts
/// it. An event with more subscribers is fanned out in steps of this size.
pub const MAX_FAN_OUT_PER_TRANSACTION: usize = 500;
/// The maximum length of a search text, in characters.
pub const MAX_SEARCH_CHARS: usize = 200;
/// The default page size.
pub const DEFAULT_PAGE: usize = 50;
/// The maximum page size.
pub const MAX_PAGE: usize = 250;
/// The maximum number of requests in flight to an endpoint.
pub const MAX_IN_FLIGHT_PER_ENDPOINT: u32 = 16;

/// Truncates `text` to at most `chars` characters.
#[must_use]
pub fn truncate(text: &str, chars: usize) -> String {
    text.chars().take(chars).collect()
}
