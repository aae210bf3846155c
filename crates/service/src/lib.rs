//! The use cases of the product, each in one place, whichever way a request comes in.
//!
//! The REST API, the pages and the actor messages each read their own form of a request into the
//! typed command of a use case, call the [`Service`], and tell its answer or its [`ServiceError`]
//! in their own words. What is accepted, and what follows from it, is decided here.
//!
//! | File | Use cases |
//! |---|---|
//! | `publish` | publish events, one or a batch |
//! | `events` | an event, and sending it again |
//! | `deliveries` | a delivery, and delivering it again |
//! | `replays` | replays: counted, started, paused, resumed, cancelled |
//! | `endpoints` | endpoints: created, changed, enabled, disabled, deleted |
//! | `secrets` | rotation of signing secrets |
//! | `test_events` | test events |
//! | `event_types` | the catalogue of event types |
//! | `accounts` | accounts |
//! | `api_keys` | API keys |
//! | `portal_links` | portal links |
//! | [`schemas`] | JSON Schemas of payloads |
//!
//! A change takes effect with its transaction. Afterwards the owner of the shard is told by the
//! [`Router`]: a hint, which may be lost. Reads that have no rule of their own, such as most lists,
//! go to the [`Records`] directly.

pub mod accounts;
mod api_keys;
mod deliveries;
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

pub use self::api_keys::{NewKey, key_sha256};
pub use self::error::{InvalidField, Resource, ServiceError};
pub use self::event_types::check_schema;
pub use self::idempotency::{IdempotencyKey, IdempotencyKeyError};
pub use self::publish::{NewEvent, PartialEvent};
pub use self::test_events::{SentTest, TestEvent};
use crate::metrics::Instruments;
use crate::schemas::Schemas;

/// The use cases. Clones are cheap and share everything.
#[derive(Clone)]
pub struct Service(Arc<Shared>);

struct Shared {
    router: Router,
    ids: Arc<IdGenerator>,
    clock: Arc<dyn Clock>,
    schemas: Schemas,
    instruments: Instruments,
}

impl Service {
    /// The use cases over the records of `router`, whose owners it tells of changes.
    #[must_use]
    pub fn new(router: Router, ids: Arc<IdGenerator>, clock: Arc<dyn Clock>) -> Self {
        Self(Arc::new(Shared {
            router,
            ids,
            clock,
            schemas: Schemas::default(),
            instruments: Instruments::new(),
        }))
    }

    /// The router to the owners of shards.
    #[must_use]
    pub fn router(&self) -> &Router {
        &self.0.router
    }

    /// The durable records.
    #[must_use]
    pub fn records(&self) -> &Records {
        self.router().records()
    }

    /// The time of this node, which never steps back.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    /// The wall clock: for times that others compare with their own clocks.
    #[must_use]
    pub fn wall(&self) -> Timestamp {
        self.0.clock.wall()
    }

    /// Generates ids.
    #[must_use]
    pub fn ids(&self) -> &IdGenerator {
        &self.0.ids
    }
}

/// 256 random bits for a key or a secret, from the operating system.
fn random_bytes() -> Result<[u8; 32], ServiceError> {
    let mut bytes = [0; 32];
    SysRng.try_fill_bytes(&mut bytes)?;
    Ok(bytes)
}
