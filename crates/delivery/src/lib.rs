//! The actors that deliver.
//!
//! ```text
//!   Supervisor ── one Shard actor for each owned shard: holds the due window, supervises
//!                 └── one Endpoint actor for each endpoint with work: owns its order,
//!                      its pace and its failure count
//!                       └── one task for each request: Sender, then Recorder
//! ```
//!
//! A wake travels down; a finished attempt travels back up to its endpoint's actor only after
//! its record is committed. The due rows in the store are the truth: an actor that is lost, a
//! wake that is lost or a node that is lost costs time and no more.
//!
//! | File | Is |
//! |---|---|
//! | `workers` | the handle: what is owned here, and how it starts and drains |
//! | `brought` | deliveries that other nodes bring along, checked |
//! | `attempt` | one attempt from start to record |
//! | [`sender`](Sender) | one HTTP request, within its deadline, with its wire record |
//! | `resolver`, `failure` | which addresses it may go to; what its errors mean |
//! | `trouble` | when trouble of our own counts as the endpoint's failure after all |
//! | `connections` | how many connections were made |
//! | `stopwatch` | how long each phase of a test event's request takes |
//! | `recorder` | groups finished attempts into few transactions |
//! | `permits` | how many requests a node makes at once, fairly |
//! | `line` | the deliveries that an actor has at hand, in their order |
//! | `room` | how much the deliveries at hand may take up |
//! | `endpoint`, `shard`, `supervisor` | the actors |
//! | `jobs` | fan-outs and replays |
//! | `context` | what every actor of a node shares |
//! | `metrics`, `spans` | what a node tells of its deliveries |
//! | `census` | how many are held, and how old the oldest is that is not delivered |

mod attempt;
mod brought;
mod census;
mod connections;
mod context;
mod endpoint;
mod failure;
mod jobs;
mod line;
mod metrics;
mod permits;
mod recorder;
mod resolver;
mod room;
mod sender;
mod shard;
mod spans;
mod stopwatch;
mod supervisor;
mod trouble;
mod workers;

#[cfg(test)]
mod tests;

pub use census::Waiting;
pub use context::Dice;
pub use resolver::ResolverError;
pub use sender::{Sender, SenderError, Sent};
pub use workers::{Delivery, Options, StartError};
