//! Durable records.
//!
//! [`kv`] is an ordered map of bytes with optimistic transactions, kept by one of several
//! engines (LMDB, FoundationDB, memory). On it stand
//! the [`Records`]: what each of them writes together, and what must have been so for the write to
//! be right, is decided here, in one transaction a call. Nothing above this crate knows which
//! engine runs.
//!
//! | Directory | What it keeps |
//! |---|---|
//! | `events` | accepted events, who wants them, fan-outs, resent events, the catalogue of types |
//! | `deliveries` | the two-level queue of deliveries, finished attempts, statistics, the log of deliveries |
//! | `endpoints` | endpoints with their subscriptions and state |
//! | `accounts` | accounts, their API keys and portal links, the key that signs sessions |
//! | `replays` | durable jobs that deliver past events again |
//! | `cluster` | leases of nodes, owners of shards |
//! | `mail` | notices, and the emails about them |
//! | `maintenance` | copies of a store, probes, removal of expired rows |
//! | `keys` | one file for each key: its layout, its record and the bytes of both |
//! | `records` | the handle on all of this |
//! | `codec` | the encoding of records |

mod accounts;
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

pub use cluster::cookie::{COOKIE_CHANGE_WINDOW, CookieCheck};
pub use cluster::leases::Lease;
pub use cluster::owners::{OwnerError, Ownership};
pub use deliveries::apply::{Applied, Finished};
pub use deliveries::due::{DeliveryRef, DueEndpoint, QueuePage, Work, Workload};
pub use deliveries::query::{DeliveryFilter, EventView};
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
pub use mail::notices::{NoticeCursor, NoticePage};
pub use maintenance::copy::{CopyError, CopyRejected, CopySummary, Progress, Stage, copy};
pub use maintenance::probe::{Probe, StoreContents};
pub use records::{FORMAT, OpenError, Page, PageRequest, Ready, Records, Wake};
pub use replays::waiting_jobs::WaitingJobs;
pub use replays::{MAX_REPLAY_COUNT, MAX_RUNNING_REPLAYS_PAGE, ReplayCount, ReplayRequest};
