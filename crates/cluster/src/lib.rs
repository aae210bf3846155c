//! How the nodes of a cluster divide the work: which nodes are alive, which node owns which shard,
//! and how wakes reach the owner of a shard.
//!
//! The store is authoritative: leases and owners are rows in it, and every write by an owner
//! carries its fence. Messages between nodes are hints and may be lost.
//!
//! | Module | Responsibility |
//! |---|---|
//! | [`membership`] | which nodes are alive, judged by the observer's own clock |
//! | `lease_renewal` | renews this node's lease |
//! | [`lease_validity`] | whether this node's lease is still valid |
//! | [`shard_guard`] | the right to work on a shard, as a value |
//! | [`shard_manager`] | observes, plans and acts: claims shards and hands them over |
//! | [`view`] | a snapshot of the cluster as this node sees it |
//! | [`route`] | routes wakes to the owner of their shard |
//! | [`wake_forwarder`] | queues and sends wakes to other nodes |
//! | `wakes` | encodes wakes as messages and decodes them |
//! | [`mesh`] | connections to the other nodes |
//! | [`local_node`] | handles the messages of other nodes |
//! | [`trace`] | connects publish requests to their attempts in one trace |
//! | [`metrics`] | the metric instruments |

mod lease_renewal;
pub mod lease_validity;
pub mod local_node;
pub mod membership;
pub mod mesh;
pub mod metrics;
pub mod route;
pub mod shard_guard;
pub mod shard_manager;
pub mod trace;
pub mod view;
pub mod wake_forwarder;
mod wakes;
