//! Events and the catalogue of their types.

use postrider_domain::event::{Event, EventType};
use postrider_domain::ids::EventId;
use postrider_domain::time::Timestamp;
use postrider_store::{EventView, Receipt};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::raw_json;

/// An entry of the catalogue.
#[derive(Serialize, ToSchema)]
#[schema(as = EventType)]
pub(crate) struct EventTypeBody {
    /// Its name.
    #[schema(example = "application.created")]
    name: String,
    /// What it means.
    description: String,
    /// A payload of this type; test events send it.
    #[schema(value_type = Value)]
    example: Box<RawValue>,
    /// A JSON Schema 2020-12 that payloads of this type must satisfy, or null.
    #[schema(value_type = Option<Value>)]
    schema: Option<Box<RawValue>>,
    /// When it was first put.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// When it was last put.
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

impl From<EventType> for EventTypeBody {
    fn from(event_type: EventType) -> Self {
        Self {
            name: event_type.name.to_string(),
            description: event_type.description,
            example: raw_json(event_type.example),
            schema: event_type.schema.map(raw_json),
            created_at: event_type.created_at,
            updated_at: event_type.updated_at,
        }
    }
}

/// What the sender of an event is told once it is durable.
#[derive(Serialize, ToSchema)]
#[schema(as = Receipt)]
pub(crate) struct ReceiptBody {
    /// The event's id; receivers see it as `webhook-id`.
    #[schema(value_type = String, example = "evt_06b2k1d5h3vqf8m2c9r7t4w0xg")]
    id: EventId,
    /// Its type.
    event_type: String,
    /// When it was accepted.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// How many endpoints receive it.
    deliveries: u64,
}

impl From<Receipt> for ReceiptBody {
    fn from(receipt: Receipt) -> Self {
        Self {
            id: receipt.id,
            event_type: receipt.event_type.to_string(),
            created_at: receipt.created_at,
            deliveries: receipt.deliveries,
        }
    }
}

/// What the sender of a batch is told once all of it is durable.
#[derive(Serialize, ToSchema)]
#[schema(as = Receipts)]
pub(crate) struct ReceiptsBody {
    /// One for each event, in their order.
    pub data: Vec<ReceiptBody>,
}

/// An event in a list, without its payload.
#[derive(Serialize, ToSchema)]
#[schema(as = EventSummary)]
pub(crate) struct EventSummaryBody {
    /// Its id.
    #[schema(value_type = String, example = "evt_06b2k1d5h3vqf8m2c9r7t4w0xg")]
    id: EventId,
    /// Its type.
    event_type: String,
    /// When it was accepted.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// How many endpoints receive it.
    deliveries: u64,
    /// How large its payload is.
    payload_bytes: u64,
}

impl From<EventView> for EventSummaryBody {
    fn from(event: EventView) -> Self {
        Self {
            id: event.id,
            event_type: event.event_type.to_string(),
            created_at: event.created_at,
            deliveries: event.deliveries,
            payload_bytes: event.payload_bytes,
        }
    }
}

/// An event with its payload.
#[derive(Serialize, ToSchema)]
#[schema(as = Event)]
pub(crate) struct EventBody {
    /// Its id.
    #[schema(value_type = String, example = "evt_06b2k1d5h3vqf8m2c9r7t4w0xg")]
    id: EventId,
    /// Its type.
    event_type: String,
    /// When it was accepted.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// How many endpoints receive it.
    deliveries: u64,
    /// How large its payload is.
    payload_bytes: u64,
    /// What is sent, byte for byte.
    #[schema(value_type = Value)]
    payload: Box<RawValue>,
}

impl EventBody {
    pub(crate) fn new(event: &Event, deliveries: u64) -> Self {
        let payload = event.payload.bytes();
        Self {
            id: event.id,
            event_type: event.event_type.to_string(),
            created_at: event.created_at,
            deliveries,
            payload_bytes: payload.len() as u64,
            payload: raw_json(String::from_utf8_lossy(payload).into_owned()),
        }
    }
}
