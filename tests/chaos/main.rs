//! Chaos tests: real processes under load that are killed, frozen and cut off. Each run is checked
//! against the invariants and can be repeated from its seed.
//!
//! `POSTRIDER_SEED` repeats a run's decisions, and `POSTRIDER_KILLS` sets how often a node is
//! killed. From [`run::LONG_RUN_KILLS`] kills on, the number of other faults grows with them.

mod clock;
mod cluster;
mod cluster_fixture;
mod crash;
mod fan_out;
mod handoff;
mod lease_lapse;
mod partition;
mod pending;
mod report;
mod run;
mod stale_owner;
mod takeover;
