//! Accepted events: their audience, their deliveries, and the catalogue of their types.

pub(crate) mod accept;
pub(crate) mod catalogue;
pub(crate) mod fan_out;
pub(crate) mod receivers;
pub(crate) mod resend;
pub(crate) mod subscribers;
