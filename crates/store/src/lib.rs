//! Durable records.
//!
//! [`kv`] is an ordered map of bytes with optimistic transactions, kept by one of several
//! engines (LMDB, FoundationDB, memory). [`Records`] is the layer above it: each method is one or
//! more transactions, which decide what is written together and which rows must be unchanged for
//! the write to be valid. No code above this crate depends on the engine.
//!
//! | Module | What it contains |
//! |---|---|
//! | `events` | accepted events, their subscribers, fan-outs, resends, the catalogue of types |
//! | `deliveries` | the two-level queue of deliveries, finished attempts, statistics, the log of deliveries |
//! | `endpoints` | endpoints with their subscriptions and state |
//! | `accounts` | accounts, their API keys and portal links, the key that signs sessions and links |
//! | `replays` | durable jobs that deliver past events again |
//! | `cluster` | the leases and clocks of nodes, the owners of shards, the cluster's cookie |
//! | `mail` | notices, and the emails about them |
//! | `answers` | the answers of requests with an idempotency key |
//! | `maintenance` | copies of a store, probes, removal of expired rows |
//! | `keys` | one file per key: its layout, its record and golden tests of both |
//! | `records` | the handle to the records |
//! | `codec` | the encoding of records |

mod accounts;
mod answers;
mod cluster;
mod codec;
mod deliveries;
mod endpoints;
mod events;
mod keys;
mod mail;
mod maintenance;
mod records;
mod replays;

#[cfg(test)]
mod tests;

pub use postrider_kv as kv;

pub use answers::{Answer, AnswerError, Begun, EarlierRequest, KeyedRequest, MAX_REQUEST_TIME};
pub use cluster::cookie::{COOKIE_CHANGE_WINDOW, CookieCheck};
pub use cluster::leases::Lease;
pub use cluster::owners::{OwnerError, Ownership};
pub use deliveries::apply::{Applied, FencedAttempt};
pub use deliveries::bring_forward::{BroughtForward, RecoveredBatch, RetryCursor, SendNow};
pub use deliveries::discard::Discarded;
pub use deliveries::due::{DeliveryRef, DueEndpoint, EndpointWork, QueuePage, Workload};
pub use deliveries::query::{DeliveryFilter, EventView};
pub use deliveries::step_back::StepBackBatch;
pub use deliveries::view::DeliveryView;
pub use endpoints::endpoint_list::EndpointFilter;
pub use endpoints::{EndpointView, HeldAction};
pub use events::accept::{AcceptError, Accepted, Idempotency, Receipt};
pub use events::event_deliveries::EventDeliveriesError;
pub use events::resend::{ResendError, ResendTarget, Resent};
pub use keys::attempt::RecordedAttempt;
pub use keys::copy_marker::Digest;
pub use keys::idempotency::IDEMPOTENCY_TTL;
pub use keys::owner::Owner;
pub use mail::notices::{MAX_NOTICES_PER_TRANSACTION, NoticeCursor, NoticePage};
pub use maintenance::copy::{CopyError, CopyRejected, CopySummary, Progress, Stage, copy};
pub use maintenance::probe::{Probe, StoreContents};
pub use records::{FORMAT, ListPage, OpenError, PageRequest, Ready, Records, Wake};
pub use replays::waiting_jobs::WaitingJobs;
pub use replays::{MAX_REPLAY_COUNT, MAX_RUNNING_REPLAYS_PAGE, ReplayCount, ReplayRequest};
