//! The use cases of Postrider, independent of the transport.
//!
//! The REST API, the dashboard and the actor API each parse a request into the typed command of a
//! use case, call the [`Service`], and render its result or [`ServiceError`]. Business rules that
//! go beyond a single field are enforced here.
//!
//! | File | Use cases |
//! |---|---|
//! | `publish` | publish events, one or a batch |
//! | `events` | get and resend an event |
//! | `deliveries` | get and retry a delivery |
//! | `replays` | count, start, pause, resume and cancel replays |
//! | `endpoints` | create, update, enable, disable and delete endpoints |
//! | `secrets` | rotate signing secrets |
//! | `test_events` | send test events |
//! | `event_types` | maintain the catalogue of event types |
//! | `accounts` | create, update and delete accounts |
//! | `api_keys` | create and delete API keys |
//! | `portal_links` | grant, validate and revoke portal links |
//! | [`schemas`] | validate payloads against JSON Schemas |
//!
//! A change takes effect when its transaction commits. The [`Router`] then wakes the owner of the
//! shard. The wake is a hint and may be lost. Plain reads, such as most lists, use the [`Records`]
//! directly.

pub mod accounts;
mod api_keys;
pub mod deliveries;
pub mod endpoints;
mod error;
mod event_types;
mod events;
mod idempotency;
pub mod metrics;
mod portal_links;
mod publish;
pub mod replays;
pub mod schemas;
mod secrets;
mod test_events;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use postrider_cluster::route::Router;
use postrider_domain::ids::IdGenerator;
use postrider_domain::time::{Clock, Timestamp};
use postrider_store::Records;
use rand::TryRng;
use rand::rngs::SysRng;

pub use self::api_keys::{CreatedApiKey, key_sha256};
pub use self::error::{InvalidField, Resource, ServiceError};
pub use self::event_types::validate_event_type;
pub use self::idempotency::{IdempotencyKey, IdempotencyKeyError, Once};
pub use self::publish::{NewEvent, PartialEvent, PublishKind};
pub use self::test_events::{SentTestEvent, TestEvent, TestSender};
use crate::metrics::Instruments;
use crate::schemas::Schemas;

/// The use cases. Clones are cheap and share their state.
#[derive(Clone)]
pub struct Service(Arc<Shared>);

struct Shared {
    records: Records,
    router: Router,
    test_sender: Arc<dyn TestSender>,
    ids: Arc<IdGenerator>,
    clock: Arc<dyn Clock>,
    schemas: Schemas,
    instruments: Instruments,
}

impl Service {
    /// Creates the service.
    #[must_use]
    pub fn new(
        records: Records,
        router: Router,
        test_sender: Arc<dyn TestSender>,
        ids: Arc<IdGenerator>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self(Arc::new(Shared {
            records,
            router,
            test_sender,
            ids,
            clock,
            schemas: Schemas::default(),
            instruments: Instruments::new(),
        }))
    }

    /// The router to the shard owners.
    pub(crate) fn router(&self) -> &Router {
        &self.0.router
    }

    /// The durable records.
    pub(crate) fn records(&self) -> &Records {
        &self.0.records
    }

    /// The time for everything that is scheduled and recorded; see [`Clock::now`].
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    /// The wall clock time, for timestamps that other machines compare with their own clocks.
    #[must_use]
    pub fn wall_time(&self) -> Timestamp {
        self.0.clock.wall()
    }

    /// The generator of ids.
    pub(crate) fn ids(&self) -> &IdGenerator {
        &self.0.ids
    }
}

/// Returns 256 random bits from the operating system, for a key or a secret.
fn random_bytes() -> Result<[u8; 32], ServiceError> {
    let mut bytes = [0; 32];
    SysRng.try_fill_bytes(&mut bytes)?;
    Ok(bytes)
}
