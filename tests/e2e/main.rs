//! End-to-end tests of the real binary over its HTTP API, one module per subject.

mod api_errors;
mod api_surface;
mod auth_and_isolation;
mod clock;
mod cluster;
mod delivery;
mod email;
mod embedded;
mod foundationdb;
mod held;
mod idempotency;
mod listen;
mod ordering;
mod outcomes;
mod replays;
mod resend;
mod retries_and_disable;
mod secrets;
mod slow_endpoints;
mod ssrf;
mod start_up;
mod telemetry;
mod test_events;

use std::time::Duration;

/// Timeout for things that happen at once on an idle machine. It is generous because tests share
/// two processors, and costs time only when a test fails.
const SOON: Duration = Duration::from_secs(10);
