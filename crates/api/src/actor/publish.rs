//! Publish calls: parses events from messages and returns their receipts.

use postrider_domain::event::{EventTypeName, Payload};
use postrider_domain::findings::{Field, Findings};
use postrider_domain::ids::AccountId;
use postrider_net::messages::{self, CallError, CallErrorKind};
use postrider_service::metrics::Channel;
use postrider_service::{
    IdempotencyKey, NewEvent, PartialEvent, PublishKind, Service, ServiceError,
};
use sha2::{Digest, Sha256};

use super::error::call_error;

/// Publishes the events of one message.
pub(super) async fn publish(
    service: &Service,
    kind: PublishKind,
    account: AccountId,
    events: Vec<messages::NewEvent>,
    key: Option<&str>,
) -> Result<Vec<messages::Receipt>, CallError> {
    let idempotency = idempotency(kind, key, &events)?;
    let (partial, mut findings) = parse_events(events);
    if !findings.is_empty() {
        findings.extend(service.validate_events(&partial).await.map_err(call_error)?);
        return Err(call_error(ServiceError::InvalidEvents(findings)));
    }
    let new: Vec<NewEvent> = partial.into_iter().filter_map(PartialEvent::complete).collect();
    let receipts = service.publish(Channel::Message, account, new, idempotency).await;
    Ok(receipts.map_err(call_error)?.into_iter().map(receipt).collect())
}

fn receipt(receipt: postrider_store::Receipt) -> messages::Receipt {
    messages::Receipt {
        id: receipt.id,
        event_type: receipt.event_type.to_string(),
        created_at: receipt.created_at,
        deliveries: receipt.deliveries,
    }
}

/// Parses an event. Each invalid field adds a finding.
fn parse_event(event: messages::NewEvent, index: usize, findings: &mut Findings) -> PartialEvent {
    let mut reject = |field, pointer: &str, detail: String| {
        findings.add(index, field, pointer.to_owned(), &detail);
    };
    let event_type = EventTypeName::parse(&event.event_type)
        .map_err(|error| reject(Field::EventType, "", error.to_string()))
        .ok();
    let payload = Payload::parse(event.payload)
        .map_err(|error| reject(Field::Payload, error.pointer(), error.to_string()))
        .ok();
    PartialEvent { event_type, payload }
}

/// Parses all events and collects their errors.
fn parse_events(events: Vec<messages::NewEvent>) -> (Vec<PartialEvent>, Findings) {
    let mut findings = Findings::default();
    let partial = events.into_iter().enumerate();
    let partial = partial.map(|(index, event)| parse_event(event, index, &mut findings)).collect();
    (partial, findings)
}

/// Binds the idempotency key, if there is one, to the content of the call.
fn idempotency(
    kind: PublishKind,
    key: Option<&str>,
    events: &[messages::NewEvent],
) -> Result<Option<postrider_store::Idempotency>, CallError> {
    let Some(key) = key else { return Ok(None) };
    let key = IdempotencyKey::parse(key.as_bytes()).map_err(|error| {
        CallError::new(CallErrorKind::Malformed, format!("the idempotency key {error}"))
    })?;
    Ok(Some(key.for_request(sha256(kind, events))))
}

fn sha256(kind: PublishKind, events: &[messages::NewEvent]) -> [u8; 32] {
    let prefix: &[u8] = match kind {
        PublishKind::Single => b"message, single\0",
        PublishKind::Batch => b"message, batch\0",
    };
    let mut hash = Sha256::new_with_prefix(prefix);
    for event in events {
        for part in [event.event_type.as_bytes(), &event.payload] {
            hash.update(part.len().to_be_bytes());
            hash.update(part);
        }
    }
    hash.finalize().into()
}
