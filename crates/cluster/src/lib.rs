//! How work finds the node that does it, and how whoever asks for work comes in.
//!
//! [`door`] is what a request to the product does, whether it came over HTTP or by actor message;
//! it holds payloads against their [`schemas`] and tells [`route`] of the work that it made. Actor
//! messages, of other services and of other nodes, are described in [`messages`] and arrive at the
//! node's [`gateway`] over the [`link`]. What a node sees of the cluster is a [`view`].

pub mod door;
pub mod gateway;
pub mod link;
pub mod messages;
pub mod route;
pub mod schemas;
pub mod view;
