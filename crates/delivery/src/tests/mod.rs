//! Tests of the actors and the sender with real sockets and the memory engine.

mod actors;
mod clocks;
mod faulty_engine;
pub(crate) mod fixture;
mod internal_errors;
mod jobs;
pub(crate) mod name_server;
mod own_outage;
mod pacing;
mod phases;
mod timers;
mod wire;
