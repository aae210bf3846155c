//! How the nodes of a cluster share the work: who is alive, who owns which shard, how nodes talk,
//! and what they and other services can ask of each other.
//!
//! The store is the authority: leases and owners stand there, and every owner's write presents its
//! fence. What nodes tell each other are hints, which may be lost.
//!
//! | File | Is |
//! |---|---|
//! | [`membership`] | who is alive, by an observer's own clock |
//! | [`keeper`] | observes, plans and acts: leases renewed, shards taken and handed over |
//! | [`pulse`] | whether this node may still act as an owner |
//! | [`tenure`] | a shard that is held, as a value |
//! | [`view`] | what a node knows of the cluster at one moment |
//! | [`route`] | how work finds those who do it |
//! | [`post`] | wakes on their way to other nodes |
//! | [`mesh`] | which links a node keeps, and what it says over them |

pub mod keeper;
pub mod local_node;
pub mod membership;
pub mod mesh;
pub mod metrics;
pub mod post;
pub mod pulse;
pub mod route;
pub mod tenure;
pub mod trace;
pub mod view;
mod wakes;
