//! The REST API, one file for each resource.

pub(crate) mod accounts;
pub(crate) mod api_keys;
pub(crate) mod cluster;
pub(crate) mod deliveries;
pub(crate) mod docs;
pub(crate) mod emails;
pub(crate) mod endpoints;
pub(crate) mod event_types;
pub(crate) mod events;
pub(crate) mod health;
pub(crate) mod portal_links;
pub(crate) mod replays;
pub(crate) mod resend;
pub(crate) mod secrets;
pub(crate) mod statistics;
pub(crate) mod test_events;
pub(crate) mod wire;
