//! The real binary, end to end, over its HTTP interface: one module a subject.

mod api_errors;
mod auth_and_isolation;
mod cluster;
mod delivery;
mod email;
mod embedded;
mod foundationdb;
mod held;
mod idempotency;
mod isolation;
mod listen;
mod ordering;
mod outcomes;
mod replays;
mod resend;
mod retries_and_disable;
mod secrets;
mod ssrf;
mod start_up;
mod surface;
mod telemetry;
mod test_events;

use std::time::Duration;

/// How long anything may take that happens at once on a quiet machine. Tests share two
/// processors, so that it is generous; nothing waits for it but failures.
const SOON: Duration = Duration::from_secs(10);
