//! The API as callers see it: requests in, answers out, over records in memory.

mod account_calls;
mod contract;
mod dashboard;
mod dashboard_deliveries;
mod dashboard_events;
mod dashboard_tests;
mod early_answers;
mod events;
pub(crate) mod harness;
mod odd_paths;
mod operator_calls;
mod refusals;
mod visitor;
