//! Communication between processes: between the nodes of a cluster, and from clients to nodes.
//!
//! | Module | Responsibility |
//! |---|---|
//! | [`transport`] | connections: TLS, the cookie, timeouts, limits |
//! | [`messages`] | the protocol: requests, replies, errors and their encoding |
//! | [`gateway`] | the actor of a node that receives these requests |
//! | [`tasks`] | the tasks whose failure stops a node |
//!
//! This crate does not read the store and implements no use case: the gateway passes each call to
//! its [`Handler`](gateway::Handler).

#![warn(missing_docs)]

pub mod gateway;
pub mod messages;
pub mod tasks;
pub mod transport;
