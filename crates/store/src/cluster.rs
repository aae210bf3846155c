//! Nodes that are alive, and the owners of shards.

pub(crate) mod cookie;
pub(crate) mod leases;
pub(crate) mod owners;
