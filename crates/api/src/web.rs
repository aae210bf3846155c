//! Shared parts of the HTTP APIs: middleware, extractors, field parsing, errors and pagination.

pub(crate) mod auth;
pub(crate) mod choice;
pub(crate) mod drain_body;
pub(crate) mod extract;
pub(crate) mod field_errors;
pub(crate) mod fields;
pub(crate) mod idempotency;
pub(crate) mod limits;
pub(crate) mod page;
pub(crate) mod problem;
pub(crate) mod spans;
