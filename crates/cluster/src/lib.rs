//! How work finds the node that does it.
//!
//! Today one node owns every shard, and [`route`] hands work to its own workers. What owns
//! which shard across nodes, and how nodes talk, joins here.

pub mod metrics;
pub mod route;
pub mod trace;
