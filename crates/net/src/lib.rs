//! Communication between processes: nodes of a cluster with each other, and clients with nodes.
//!
//! | File | Is |
//! |---|---|
//! | [`transport`] | connections: TLS, the cookie, deadlines, bounds |
//! | [`messages`] | the actor messaging API: its requests, replies and errors, and their bytes |
//! | [`gateway`] | the one actor of a node that others send to |
//! | [`tasks`] | the tasks that a node cannot run without |
//!
//! Nothing here reads the store or knows a use case: a gateway passes each call to its
//! [`Handler`](gateway::Handler).

#![warn(missing_docs)]

pub mod gateway;
pub mod messages;
pub mod tasks;
pub mod transport;
