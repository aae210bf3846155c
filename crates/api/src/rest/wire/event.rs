//! Events and event types.

use postrider_domain::event::{Event, EventType};
use postrider_domain::ids::EventId;
use postrider_domain::time::Timestamp;
use postrider_store::{EventView, Receipt};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::raw_json;

/// An event type in the catalogue.
#[derive(Serialize, ToSchema)]
#[schema(as = EventType)]
pub(crate) struct EventTypeBody {
    /// The event type's name.
    #[schema(example = "application.created")]
    name: String,
    /// A description of the event type.
    description: String,
    /// An example payload, which is also the default payload of test events.
    #[schema(value_type = Value)]
    example: Box<RawValue>,
    /// The JSON Schema (2020-12) that validates payloads of this type; null if there is none.
    #[schema(value_type = Option<Value>)]
    schema: Option<Box<RawValue>>,
    /// When the event type was created.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// When the event type was last replaced.
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

/// The receipt of an accepted event.
#[derive(Serialize, ToSchema)]
#[schema(as = Receipt)]
pub(crate) struct ReceiptBody {
    /// The event's ID. Requests carry it in the `webhook-id` header.
    #[schema(value_type = String, example = "evt_06b2k1d5h3vqf8m2c9r7t4w0xg")]
    id: EventId,
    /// The event type.
    event_type: String,
    /// When the event was accepted.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// The number of endpoints that the event will be delivered to.
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

/// The receipts of an accepted batch.
#[derive(Serialize, ToSchema)]
#[schema(as = Receipts)]
pub(crate) struct ReceiptsBody {
    /// One receipt for each event, in the order of the request.
    pub data: Vec<ReceiptBody>,
}

/// An event without its payload.
#[derive(Serialize, ToSchema)]
#[schema(as = EventSummary)]
pub(crate) struct EventSummaryBody {
    /// The event's ID.
    #[schema(value_type = String, example = "evt_06b2k1d5h3vqf8m2c9r7t4w0xg")]
    id: EventId,
    /// The event type.
    event_type: String,
    /// When the event was accepted.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// The number of the event's deliveries.
    deliveries: u64,
    /// The size of the payload in bytes.
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
    /// The event's ID.
    #[schema(value_type = String, example = "evt_06b2k1d5h3vqf8m2c9r7t4w0xg")]
    id: EventId,
    /// The event type.
    event_type: String,
    /// When the event was accepted.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// The number of the event's deliveries.
    deliveries: u64,
    /// The size of the payload in bytes.
    payload_bytes: u64,
    /// The payload, byte for byte as it was published.
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
