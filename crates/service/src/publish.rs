//! Publishing events: validate them against the catalogue, commit them in one transaction, and wake
//! the owners of their deliveries.

use std::collections::HashMap;

use postrider_domain::event::{Event, EventTypeName, Payload};
use postrider_domain::findings::{Field, Findings};
use postrider_domain::ids::AccountId;
use postrider_store::{AcceptError, Idempotency, Receipt};

use crate::Service;
use crate::error::{Resource, ServiceError};
use crate::metrics::Channel;

/// An event to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEvent {
    /// The event type. It may be missing from the catalogue.
    pub event_type: EventTypeName,
    /// The payload.
    pub payload: Payload,
}

/// An event whose valid fields are present. The parser has reported the errors of the others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartialEvent {
    /// The event type.
    pub event_type: Option<EventTypeName>,
    /// The payload.
    pub payload: Option<Payload>,
}

/// Whether a publish request has a single event or a batch. The two never share an idempotency key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishKind {
    /// One event.
    Single,
    /// One or more events.
    Batch,
}

impl PartialEvent {
    /// Returns the event if both fields are present.
    #[must_use]
    pub fn complete(self) -> Option<NewEvent> {
        Some(NewEvent { event_type: self.event_type?, payload: self.payload? })
    }
}

impl Service {
    /// Accepts all events or none. When this returns, the events are durable and the owners of
    /// their deliveries have been woken.
    ///
    /// # Errors
    /// No event was accepted, except for [`kv::Error::MaybeCommitted`](postrider_store::kv::Error):
    /// then the events may have been accepted.
    pub async fn publish(
        &self,
        channel: Channel,
        account: AccountId,
        new: Vec<NewEvent>,
        idempotency: Option<Idempotency>,
    ) -> Result<Vec<Receipt>, ServiceError> {
        let parts = new.iter().map(|event| (Some(&event.event_type), Some(&event.payload)));
        let CatalogueErrors { findings, unknown_types } =
            self.check_against_catalogue(parts).await?;
        let now = self.now();
        if !findings.is_empty() || !unknown_types.is_empty() {
            // A repeated request returns its original receipts even if the catalogue has changed.
            if let Some(idempotency) = &idempotency
                && let Some(receipts) = self
                    .records()
                    .find_receipts(account, idempotency, now)
                    .await
                    .map_err(accept_error)?
            {
                return Ok(receipts);
            }
            return Err(ServiceError::InvalidEvents(findings.with_unknown_types(&unknown_types)));
        }
        let events = new.into_iter().map(|NewEvent { event_type, payload }| Event {
            id: self.ids().id(now),
            account,
            event_type,
            created_at: now,
            payload,
        });
        let accepted =
            self.records().accept(account, events.collect(), idempotency, self.ids(), now).await;
        let accepted = accepted.map_err(accept_error)?;
        if !accepted.repeated {
            self.0.instruments.accepted(channel, accepted.receipts.len());
        }
        self.router().wake(accepted.wakes);
        Ok(accepted.receipts)
    }

    /// Validates partially parsed events against the catalogue, so that the caller receives all
    /// errors at once.
    pub async fn validate_events(&self, events: &[PartialEvent]) -> Result<Findings, ServiceError> {
        let parts = events.iter().map(|it| (it.event_type.as_ref(), it.payload.as_ref()));
        let CatalogueErrors { findings, unknown_types } =
            self.check_against_catalogue(parts).await?;
        Ok(findings.with_unknown_types(&unknown_types))
    }

    async fn check_against_catalogue<'a>(
        &self,
        events: impl Iterator<Item = (Option<&'a EventTypeName>, Option<&'a Payload>)>,
    ) -> Result<CatalogueErrors, ServiceError> {
        let mut types = HashMap::with_capacity(1);
        let mut errors = CatalogueErrors::default();
        for (index, (event_type, payload)) in events.enumerate() {
            let Some(event_type) = event_type else { continue };
            if !types.contains_key(event_type) {
                types.insert(event_type, self.records().event_type(event_type).await?);
            }
            let Some(entry) = &types[event_type] else {
                errors.unknown_types.push(index);
                continue;
            };
            if let Some(payload) = payload {
                let schema = entry.schema.as_deref();
                for (pointer, detail) in self.0.schemas.check(event_type, schema, payload.bytes()) {
                    errors.findings.add(index, Field::Payload, pointer, &detail);
                }
            }
        }
        Ok(errors)
    }
}

/// Violations of the catalogue.
#[derive(Default)]
struct CatalogueErrors {
    /// Violations of the types' schemas, and payloads that were serialized twice.
    findings: Findings,
    /// Indexes of the events whose types are not in the catalogue.
    unknown_types: Vec<usize>,
}

fn accept_error(error: AcceptError) -> ServiceError {
    match error {
        AcceptError::NoSuchAccount => ServiceError::NotFound(Resource::Account),
        // The type was deleted between the lookup and the transaction.
        AcceptError::UnknownEventType { index } => {
            ServiceError::InvalidEvents(Findings::default().with_unknown_types(&[index]))
        }
        AcceptError::IdempotencyKeyReused => ServiceError::IdempotencyKeyReused,
        AcceptError::Store(error) => ServiceError::Store(error),
    }
}
