//! The actors and the sender against real sockets, over the memory engine.

mod actors;
mod clocks;
mod hindered;
mod jobs;
mod phases;
mod trouble;
mod waits;
mod wire;
pub(crate) mod world;
