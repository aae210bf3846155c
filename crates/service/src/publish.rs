//! Publishing: events are checked against the catalogue, made durable in one transaction, and the
//! owners of their deliveries are told.

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
    /// Its type, which may not be in the catalogue.
    pub event_type: EventTypeName,
    /// What to send.
    pub payload: Payload,
}

/// An event of which some fields could not be read. Whoever read it has noted their errors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartialEvent {
    /// Its type.
    pub event_type: Option<EventTypeName>,
    /// What to send.
    pub payload: Option<Payload>,
}

impl PartialEvent {
    /// The event, unless a field is missing.
    #[must_use]
    pub fn complete(self) -> Option<NewEvent> {
        Some(NewEvent { event_type: self.event_type?, payload: self.payload? })
    }
}

impl Service {
    /// Accepts events, all or none. They are durable when this returns, and the owners of their
    /// deliveries have been told.
    ///
    /// # Errors
    /// [`ServiceError::InvalidEvents`] with everything that is wrong with them, `NotFound` (the
    /// account), [`ServiceError::IdempotencyKeyReused`], or the store's error. No event was accepted,
    /// unless the store could not tell whether it had committed.
    pub async fn publish(
        &self,
        channel: Channel,
        account: AccountId,
        new: Vec<NewEvent>,
        idempotency: Option<Idempotency>,
    ) -> Result<Vec<Receipt>, ServiceError> {
        let parts = new.iter().map(|event| (Some(&event.event_type), Some(&event.payload)));
        let Checked { findings, unknown } = self.check_against_catalogue(parts).await?;
        let now = self.now();
        if !findings.is_empty() || !unknown.is_empty() {
            // A repeated request has its first answer, whatever has become of the catalogue since.
            if let Some(idempotency) = &idempotency
                && let Some(receipts) = self
                    .records()
                    .find_receipts(account, idempotency, now)
                    .await
                    .map_err(refused)?
            {
                return Ok(receipts);
            }
            return Err(ServiceError::InvalidEvents(findings.with_unknown_types(&unknown)));
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
        let accepted = accepted.map_err(refused)?;
        if !accepted.repeated {
            self.0.instruments.accepted(channel, accepted.receipts.len());
        }
        self.router().wake(accepted.wakes);
        Ok(accepted.receipts)
    }

    /// Checks events that could be read only in part, so that their sender learns all errors at
    /// once.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn check(&self, events: &[PartialEvent]) -> Result<Findings, ServiceError> {
        let parts = events.iter().map(|it| (it.event_type.as_ref(), it.payload.as_ref()));
        let Checked { findings, unknown } = self.check_against_catalogue(parts).await?;
        Ok(findings.with_unknown_types(&unknown))
    }

    async fn check_against_catalogue<'a>(
        &self,
        events: impl Iterator<Item = (Option<&'a EventTypeName>, Option<&'a Payload>)>,
    ) -> Result<Checked, ServiceError> {
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

/// The errors of events that the catalogue shows.
#[derive(Default)]
struct Checked {
    /// Payloads that violate the schemas of their types.
    findings: Findings,
    /// Which events have types that the catalogue does not have.
    unknown: Vec<usize>,
}

/// Why the store did not accept events.
fn refused(error: AcceptError) -> ServiceError {
    match error {
        AcceptError::NoSuchAccount => ServiceError::NotFound(Resource::Account),
        // Its type was removed after it was looked up here.
        AcceptError::UnknownEventType { index } => {
            ServiceError::InvalidEvents(Findings::default().with_unknown_types(&[index]))
        }
        AcceptError::IdempotencyKeyReused => ServiceError::IdempotencyKeyReused,
        AcceptError::Store(error) => ServiceError::Store(error),
    }
}
