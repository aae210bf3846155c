//! What a request to the product does, whichever way it came in.
//!
//! The HTTP API and the gateway of actor messages each read their own form of a request into
//! domain values, call the [`Door`], and tell its answer or its [`Refusal`] in their own words.
//! What is accepted, and what follows from it, is decided here alone, so that the two ways in
//! cannot drift apart.
//!
//! How data passes through, when events are published: [`Sketch`]es (as far as they could be
//! read) are held against the catalogue and its schemas, [`Draft`]s become events with ids and are
//! made durable in one transaction, and then the owners of their shards are told.

mod error;
mod idempotency;
pub mod metrics;
pub mod schemas;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use postrider_cluster::route::Router;
use postrider_domain::event::{Event, EventTypeName, Payload};
use postrider_domain::findings::{Field, Findings};
use postrider_domain::ids::{AccountId, DeliveryId, EndpointId, EventId, Mint};
use postrider_domain::time::{Clock, Timestamp};
use postrider_store::{
    AcceptError, Audience, DeliveryView, EndpointView, Held, Idempotency, Receipt, RecordedAttempt,
    Records,
};

pub use self::error::Refusal;
pub use self::idempotency::{IdempotencyKey, IdempotencyKeyError};
use crate::metrics::{Instruments, Way};
use crate::schemas::Schemas;

/// The door. Clones are cheap and share everything.
#[derive(Clone)]
pub struct Door(Arc<Shared>);

struct Shared {
    router: Router,
    mint: Arc<Mint>,
    clock: Arc<dyn Clock>,
    schemas: Schemas,
    instruments: Instruments,
}

/// An event to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// Its type, which may not be in the catalogue.
    pub event_type: EventTypeName,
    /// What to send.
    pub payload: Payload,
}

/// An event as far as it could be read. What is missing has left an error with its reader.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sketch {
    /// Its type.
    pub event_type: Option<EventTypeName>,
    /// What to send.
    pub payload: Option<Payload>,
}

impl Sketch {
    /// The whole event, unless something is missing.
    #[must_use]
    pub fn finish(self) -> Option<Draft> {
        Some(Draft { event_type: self.event_type?, payload: self.payload? })
    }
}

impl Door {
    /// A door to what `router` leads to.
    #[must_use]
    pub fn new(router: Router, mint: Arc<Mint>, clock: Arc<dyn Clock>) -> Self {
        Self(Arc::new(Shared {
            router,
            mint,
            clock,
            schemas: Schemas::default(),
            instruments: Instruments::new(),
        }))
    }

    /// The way to those who deliver.
    #[must_use]
    pub fn router(&self) -> &Router {
        &self.0.router
    }

    /// The durable records.
    #[must_use]
    pub fn records(&self) -> &Records {
        self.router().records()
    }

    /// Makes ids.
    #[must_use]
    pub fn mint(&self) -> &Mint {
        &self.0.mint
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    /// The time for what others hold against their own clocks.
    #[must_use]
    pub fn wall(&self) -> Timestamp {
        self.0.clock.wall()
    }

    /// Accepts events, all or none. When this returns they are durable, and their owners are told.
    ///
    /// # Errors
    /// [`Refusal::Invalid`] with everything that is wrong with them, [`Refusal::NoSuchAccount`],
    /// [`Refusal::IdempotencyKeyReused`], or that the store failed. Nothing was accepted then, save
    /// that a store which cannot be reached may have taken them.
    pub async fn publish(
        &self,
        way: Way,
        account: AccountId,
        drafts: Vec<Draft>,
        idempotency: Option<Idempotency>,
    ) -> Result<Vec<Receipt>, Refusal> {
        let parts = drafts.iter().map(|draft| (Some(&draft.event_type), Some(&draft.payload)));
        let Checked { findings, unknown } = self.hold_against_catalogue(parts).await?;
        let now = self.now();
        if !findings.is_empty() || !unknown.is_empty() {
            // A repeated request has its first answer, whatever has become of the catalogue since.
            if let Some(idempotency) = &idempotency
                && let Some(receipts) =
                    self.records().recall(account, idempotency, now).await.map_err(refused)?
            {
                return Ok(receipts);
            }
            return Err(Refusal::Invalid(findings.with_unknown_types(&unknown)));
        }
        let events = drafts.into_iter().map(|Draft { event_type, payload }| Event {
            id: self.mint().id(now),
            account,
            event_type,
            created_at: now,
            payload,
        });
        let accepted =
            self.records().accept(account, events.collect(), idempotency, self.mint(), now).await;
        let accepted = accepted.map_err(refused)?;
        if !accepted.repeated {
            self.0.instruments.accepted(way, accepted.receipts.len());
        }
        self.router().wake(accepted.wakes);
        Ok(accepted.receipts)
    }

    /// Everything that the catalogue has against events of which something could not be read, so
    /// that whoever sent them is told all of it at once.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn check(&self, sketches: &[Sketch]) -> Result<Findings, Refusal> {
        let parts = sketches.iter().map(|it| (it.event_type.as_ref(), it.payload.as_ref()));
        let Checked { findings, unknown } = self.hold_against_catalogue(parts).await?;
        Ok(findings.with_unknown_types(&unknown))
    }

    /// An endpoint.
    ///
    /// # Errors
    /// [`Refusal::NoSuchEndpoint`], or that the store failed.
    pub async fn endpoint(
        &self,
        account: AccountId,
        id: EndpointId,
    ) -> Result<EndpointView, Refusal> {
        self.records().endpoint(account, id).await?.ok_or(Refusal::NoSuchEndpoint)
    }

    /// Enables an endpoint, and says what becomes of the deliveries that it held. One that is
    /// enabled stays as it is.
    ///
    /// # Errors
    /// [`Refusal::NoSuchEndpoint`], or that the store failed.
    pub async fn enable(
        &self,
        account: AccountId,
        id: EndpointId,
        held: Held,
    ) -> Result<EndpointView, Refusal> {
        self.changed(self.records().enable_endpoint(account, id, held).await?)
    }

    /// Disables an endpoint by a person's wish. One that is disabled stays as it is.
    ///
    /// # Errors
    /// [`Refusal::NoSuchEndpoint`], or that the store failed.
    pub async fn disable(
        &self,
        account: AccountId,
        id: EndpointId,
    ) -> Result<EndpointView, Refusal> {
        self.changed(self.records().disable_endpoint(account, id, self.now()).await?)
    }

    /// Tells an endpoint's owner that it is not what it was. Nobody is told of an endpoint that the
    /// account does not have: another account may have it.
    ///
    /// # Errors
    /// [`Refusal::NoSuchEndpoint`] when there is none.
    pub fn changed(&self, view: Option<EndpointView>) -> Result<EndpointView, Refusal> {
        let view = view.ok_or(Refusal::NoSuchEndpoint)?;
        self.router().changed(view.endpoint.account, view.endpoint.id);
        Ok(view)
    }

    /// A delivery with its attempts, the first one first.
    ///
    /// # Errors
    /// [`Refusal::NoSuchDelivery`], or that the store failed.
    pub async fn delivery(
        &self,
        account: AccountId,
        id: DeliveryId,
    ) -> Result<(DeliveryView, Vec<RecordedAttempt>), Refusal> {
        self.records().delivery(account, id).await?.ok_or(Refusal::NoSuchDelivery)
    }

    /// Makes a new delivery of the same event to the same endpoint.
    ///
    /// # Errors
    /// [`Refusal::NoSuchDelivery`], [`Refusal::EndpointDeleted`], or that the store failed.
    pub async fn retry(&self, account: AccountId, id: DeliveryId) -> Result<DeliveryView, Refusal> {
        let made = self.records().retry_delivery(account, id, self.mint(), self.now()).await?;
        let Some((view, wake)) = made else {
            // Deliveries outlive their endpoint.
            self.delivery(account, id).await?;
            return Err(Refusal::EndpointDeleted);
        };
        self.router().wake(wake.into_iter().collect());
        Ok(view)
    }

    /// Makes new deliveries of a past event, and gives to how many endpoints.
    ///
    /// # Errors
    /// [`Refusal::NoSuchEvent`], [`Refusal::NoSuchEndpoint`], [`Refusal::EndpointDeleted`], or that
    /// the store failed.
    pub async fn resend(
        &self,
        account: AccountId,
        id: EventId,
        audience: Audience,
    ) -> Result<u64, Refusal> {
        let resent = self.records().resend(account, id, audience, self.mint(), self.now()).await?;
        self.router().wake(resent.wakes);
        Ok(resent.deliveries)
    }

    async fn hold_against_catalogue<'a>(
        &self,
        events: impl Iterator<Item = (Option<&'a EventTypeName>, Option<&'a Payload>)>,
    ) -> Result<Checked, Refusal> {
        let mut types = HashMap::with_capacity(1);
        let mut checked = Checked::default();
        for (index, (event_type, payload)) in events.enumerate() {
            let Some(event_type) = event_type else { continue };
            if !types.contains_key(event_type) {
                types.insert(event_type, self.records().event_type(event_type).await?);
            }
            let Some(entry) = &types[event_type] else {
                checked.unknown.push(index);
                continue;
            };
            if let (Some(schema), Some(payload)) = (&entry.schema, payload) {
                for (pointer, detail) in self.0.schemas.check(event_type, schema, payload.bytes()) {
                    checked.findings.add(index, Field::Payload, pointer, &detail);
                }
            }
        }
        Ok(checked)
    }
}

/// What the catalogue has against events.
#[derive(Default)]
struct Checked {
    /// Payloads that violate the schemas of their types.
    findings: Findings,
    /// Which events have types that the catalogue does not have.
    unknown: Vec<usize>,
}

/// Why the store did not accept events.
fn refused(error: AcceptError) -> Refusal {
    match error {
        AcceptError::NoSuchAccount => Refusal::NoSuchAccount,
        // Its type was removed after it was looked up here.
        AcceptError::UnknownEventType { index } => {
            Refusal::Invalid(Findings::default().with_unknown_types(&[index]))
        }
        AcceptError::IdempotencyKeyReused => Refusal::IdempotencyKeyReused,
        AcceptError::Store(error) => Refusal::Store(error),
    }
}
