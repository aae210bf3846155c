//! Stories of faults, with real processes that are really killed. Each run is checked against
//! the invariants, and repeats from its seed.
//!
//! `POSTRIDER_SEED` repeats a run's decisions, and `POSTRIDER_KILLS` sets how often a node is
//! killed; beyond [`story::LONG`] kills, the other faults grow with them.

mod clock;
mod cluster;
mod crash;
mod crowd;
mod handoff;
mod lapse;
mod partition;
mod stage;
mod stale;
mod story;
mod takeover;
