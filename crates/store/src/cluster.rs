//! The nodes' leases and clocks, the owners of shards, and the cluster's cookie.

pub(crate) mod clocks;
pub(crate) mod cookie;
pub(crate) mod leases;
pub(crate) mod owners;
