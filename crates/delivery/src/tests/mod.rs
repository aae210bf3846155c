//! The actors and the sender against real sockets, over the memory engine.

mod actors;
mod clocks;
mod phases;
mod wire;
pub(crate) mod world;
