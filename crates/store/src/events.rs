//! Accepted events: their subscribers, their deliveries, and the catalogue of their types.

pub(crate) mod accept;
pub(crate) mod event_deliveries;
pub(crate) mod event_types;
pub(crate) mod fan_out;
pub(crate) mod payload;
pub(crate) mod resend;
pub(crate) mod subscriber_counts;
pub(crate) mod subscribers;
