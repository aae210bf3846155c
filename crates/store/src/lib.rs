//! Durable records.
//!
//! [`kv`] is an ordered map of bytes with optimistic transactions, kept by one of several
//! engines ([`embedded`], [`memory`], and with the feature `foundationdb` also `fdb`). On it stand
//! the [`Records`]: what each of them writes together, and what must have been so for the write to
//! be right, is decided here, in one transaction a call. Nothing above this crate knows which
//! engine runs.
//!
//! | File | What it keeps together |
//! |---|---|
//! | `accept` | an event with its deliveries and their queue rows |
//! | `fan_out` | the same for more endpoints than one transaction takes, in steps |
//! | `resend` | a past event's new deliveries |
//! | `subscribers` | who wants a type |
//! | `receivers` | which deliveries an event has |
//! | `enqueue` | one delivery's rows: queue, pending list, counter and pointer |
//! | `apply` | what a finished attempt changed, under the shard's fence |
//! | `endpoints` | an endpoint, its subscriptions and its gate |
//! | `endpoint_list` | the list of them, whole or searched |
//! | `due` | the two-level queue, as the owner of a shard reads it |
//! | `leases` | which nodes claim to be alive |
//! | `owners` | who owns a shard |
//! | `notices` | what people must be told |
//! | `emails` | what became of the emails that tell them |
//! | `replays` | durable jobs that deliver again |
//! | `statistics` | counts of how attempts went |
//! | `waiting_jobs` | which of these jobs a shard has |
//! | `sweep` | forgetting what has expired, and the data of accounts that are gone |
//! | `accounts`, `catalogue`, `query` | the rest of what people see |
//! | `records` | the handle on them all, and what they share |
//! | `link_generation` | which portal links of an account are still good |
//! | `session_key` | what the dashboard's sessions are signed with |
//! | `copy` | a whole store, into another one |
//! | `probe` | rows that say nothing, to try a store out |
//! | `keys/` | every key's layout |
//! | `codec` | every record's layout |

mod accept;
mod accounts;
mod apply;
mod catalogue;
mod codec;
mod copy;
mod due;
mod emails;
mod endpoint_list;
mod endpoints;
mod enqueue;
mod fan_out;
mod keys;
mod leases;
mod link_generation;
mod notices;
mod owners;
mod probe;
mod query;
mod receivers;
mod records;
mod replays;
mod resend;
mod session_key;
mod statistics;
mod subscribers;
mod sweep;
mod waiting_jobs;

#[cfg(test)]
mod tests;

pub use postrider_kv as kv;

pub use accept::{AcceptError, Accepted, Idempotency, Receipt};
pub use apply::{Applied, Finished};
pub use copy::{Copied, CopyError, Digest, Progress, Refusal, Stage, copy};
pub use due::{DeliveryOf, DueEndpoint, Head, Work, Workload};
pub use endpoint_list::EndpointFilter;
pub use endpoints::{EndpointView, Held};
pub use keys::attempt::RecordedAttempt;
pub use keys::idempotency::IDEMPOTENCY_MEMORY;
pub use keys::owner::Owner;
pub use leases::Lease;
pub use notices::{NoticeCursor, NoticePage};
pub use owners::{OwnerError, Ownership};
pub use probe::{Found, Probe};
pub use query::{DeliveryFilter, DeliveryView, EventView};
pub use receivers::ReceiversError;
pub use records::{FORMAT, OpenError, Page, PageRequest, Ready, Records, Wake};
pub use replays::{MOST_COUNTED, RUNNING_AT_ONCE, ReplayCount, ReplayRequest};
pub use resend::{Audience, ResendError, Resent};
pub use waiting_jobs::WaitingJobs;
