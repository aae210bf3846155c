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
//! | [`tasks`] | the tasks that a node cannot do without |
//! | [`tenure`] | a shard that is held, as a value |
//! | [`view`] | what a node knows of the cluster at one moment |
//! | [`route`] | how work finds those who do it |
//! | [`post`] | wakes on their way to other nodes |
//! | [`mesh`] | which links a node keeps, and what it says over them |
//! | [`link`] | the sockets between nodes: TLS, deadlines, bounds |
//! | [`gateway`] | the one actor of a node that others can send to |
//! | [`messages`] | the internal actor messaging API |
//! | [`door`] | what a request to the product does, whichever way it came in |
//! | [`schemas`] | what payloads are held against |

pub mod door;
pub mod gateway;
pub mod keeper;
pub mod link;
pub mod membership;
pub mod mesh;
pub mod messages;
pub mod metrics;
pub mod post;
pub mod pulse;
pub mod route;
pub mod schemas;
pub mod tasks;
pub mod tenure;
pub mod trace;
pub mod view;
