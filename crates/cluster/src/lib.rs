//! How the nodes of a cluster divide the work: which nodes are alive, which node owns which shard,
//! and how work reaches the owner of its shard.
//!
//! The store is the authority: leases and owners are rows in it, and every write of an owner
//! presents its fence. Messages between nodes are hints, which may be lost.
//!
//! | File | Is |
//! |---|---|
//! | [`membership`] | which nodes are alive, by the observer's own clock |
//! | `lease_renewal` | the renewals of this node's lease |
//! | [`lease_validity`] | whether this node may still act as an owner |
//! | [`shard_guard`] | the right to work on a shard, as a value |
//! | [`shard_manager`] | observes, plans and acts: claims shards, and hands them over |
//! | [`view`] | the cluster as this node sees it at one moment |
//! | [`route`] | the way of work to the owner of its shard |
//! | [`wake_forwarder`] | wakes on their way to other nodes |
//! | `wakes` | wakes as messages |
//! | [`mesh`] | the connections to the other nodes |
//! | [`local_node`] | what this node does for the other nodes |

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
