//! Deliveries: how they are queued, what an attempt changes, and how they are read.

pub(crate) mod apply;
pub(crate) mod bring_forward;
pub(crate) mod discard;
pub(crate) mod due;
pub(crate) mod endpoint_key;
pub(crate) mod query;
pub(crate) mod statistics;
pub(crate) mod step_back;
pub(crate) mod view;
