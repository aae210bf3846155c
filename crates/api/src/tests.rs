//! Tests of the API from the outside: requests and responses over an in-memory store.

mod account_api;
mod browser;
mod contract;
mod dashboard;
mod dashboard_deliveries;
mod dashboard_events;
mod dashboard_test_events;
mod early_responses;
mod errors;
mod events;
pub(crate) mod harness;
mod idempotency;
mod malformed_paths;
mod operator_api;
