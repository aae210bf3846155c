//! The delivery engine: the actors that send webhooks.
//!
//! ```text
//!   Supervisor ── one Shard actor per owned shard: scans the due rows, supervises
//!                 └── one Endpoint actor per endpoint with work: owns its order,
//!                      its concurrency limit and its failure count
//!                       └── one task per attempt: Sender, then Recorder
//! ```
//!
//! A wake travels down. A finished attempt travels back up to its endpoint's actor only after
//! its record is committed. The due rows in the store are the source of truth: losing an actor, a
//! wake or a node delays deliveries but never loses one.
//!
//! | File | Contents |
//! |---|---|
//! | `engine` | the handle: starting, owning shards, sending test events |
//! | `peer_deliveries` | verifies deliveries that other nodes attach to their wakes |
//! | `attempt` | one attempt, from start to committed record |
//! | [`sender`](Sender) | one HTTP request with its deadline, and the record of what was sent |
//! | `request_url` | the URL of a request, with path and query as they were given |
//! | `clients` | the HTTP clients, and how long their connections live |
//! | `resolver`, `address_race` | which addresses a request may go to, and which of them it uses |
//! | `failure` | what an HTTP client's error means for the endpoint's owner |
//! | `internal_errors` | when our own repeated errors count as a failure of the endpoint |
//! | `connections` | counts the connections that were opened, and how far each request's got |
//! | `reach` | whether an attempt showed a sign of life of its target |
//! | `surroundings`, `self_check` | whether this node can reach the endpoints at all |
//! | `stopwatch` | times each phase of a test event's request |
//! | `recorder` | batches finished attempts into few transactions |
//! | `permits` | bounds a node's concurrent requests, fairly |
//! | `pacing` | when an endpoint may get its next request: rate limits, rests after 429 and 503 |
//! | `ready_queue` | the deliveries that an endpoint's actor has buffered, in order |
//! | `memory_budget` | bounds the memory of all buffered deliveries |
//! | `endpoint`, `shard`, `supervisor` | the actors |
//! | `jobs` | fan-outs, replays and sweeps |
//! | `owned_shards` | the shards that this node owns, and the routing of wakes to their actors |
//! | `rng` | the source of jitter |
//! | `metrics`, `spans` | telemetry |
//! | `backlog` | how many deliveries are held, and the age of the oldest pending one |

mod address_race;
mod attempt;
mod backlog;
mod clients;
mod connections;
mod endpoint;
mod engine;
mod failure;
mod internal_errors;
mod jobs;
mod memory_budget;
mod metrics;
mod owned_shards;
mod pacing;
mod peer_deliveries;
mod permits;
mod reach;
mod ready_queue;
mod recorder;
mod request_url;
mod resolver;
mod rng;
mod self_check;
mod sender;
mod shard;
mod spans;
mod stopwatch;
mod supervisor;
mod surroundings;

#[cfg(test)]
mod tests;

pub use backlog::Backlog;
pub use connections::ConnectionLimits;
pub use engine::{DeliveryEngine, Options, StartError};
pub use owned_shards::OwnedShards;
pub use resolver::{NameServersError, ResolverError, check_name_servers};
pub use rng::SharedRng;
pub use sender::{OutOfResources, Sender, SenderError};
