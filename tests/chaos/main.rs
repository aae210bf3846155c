//! Stories of faults, with real processes that are really killed. Each run is checked against
//! the invariants, and repeats from its seed.

mod crash;
