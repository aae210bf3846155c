//! Deliveries and their attempts.

use postrider_domain::assignment::Shard;
use postrider_domain::delivery::DeliveryState;
use postrider_domain::ids::{AttemptId, BootId, DeliveryId, EndpointId, EventId};
use postrider_domain::time::Timestamp;
use postrider_store::{DeliveryView, RecordedAttempt};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa::openapi::schema::Object;

use super::choices;
use super::exchange::{ErrorBody, RequestBody, ResponseBody};

/// Where a delivery can stand.
pub(crate) const STATES: [DeliveryState; 5] = [
    DeliveryState::Pending,
    DeliveryState::Delivered,
    DeliveryState::Exhausted,
    DeliveryState::Held,
    DeliveryState::Discarded,
];

/// A delivery: one event to one endpoint, with its retries.
#[derive(Serialize, ToSchema)]
#[schema(as = Delivery)]
pub(crate) struct DeliveryBody {
    /// Its id.
    #[schema(value_type = String, example = "dlv_06b2k1d5h3vqf8m2c9r7t4w0xg")]
    id: DeliveryId,
    /// The event.
    #[schema(value_type = String, example = "evt_06b2k1d5h3vqf8m2c9r7t4w0xg")]
    event_id: EventId,
    /// The endpoint.
    #[schema(value_type = String, example = "ep_06b2k1d5h3vqf8m2c9r7t4w0xg")]
    endpoint_id: EndpointId,
    /// The event's type.
    event_type: String,
    /// Where it stands.
    #[schema(schema_with = delivery_state)]
    state: DeliveryState,
    /// Attempts that were made.
    attempt_count: u8,
    /// When the next attempt is due; null when none is to come or it is held.
    #[schema(value_type = Option<String>, format = DateTime)]
    next_attempt_at: Option<Timestamp>,
    /// When the event was accepted, or the delivery was asked for again.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// When it came to its end.
    #[schema(value_type = Option<String>, format = DateTime)]
    finished_at: Option<Timestamp>,
}

impl From<DeliveryView> for DeliveryBody {
    fn from(DeliveryView { delivery, state }: DeliveryView) -> Self {
        let due = delivery.due();
        Self {
            id: delivery.id,
            event_id: delivery.event,
            endpoint_id: delivery.endpoint,
            event_type: delivery.event_type.to_string(),
            state,
            attempt_count: delivery.attempt_count,
            next_attempt_at: due.filter(|_| state == DeliveryState::Pending),
            created_at: delivery.created_at,
            finished_at: delivery.finished_at(),
        }
    }
}

/// A delivery with its attempts.
#[derive(Serialize, ToSchema)]
#[schema(as = DeliveryWithAttempts)]
pub(crate) struct DeliveryDetailBody {
    #[serde(flatten)]
    pub delivery: DeliveryBody,
    /// Its attempts, the first one first.
    pub attempts: Vec<AttemptBody>,
}

/// One HTTP request and what came of it.
#[derive(Serialize, ToSchema)]
#[schema(as = Attempt)]
pub(crate) struct AttemptBody {
    /// Its id.
    #[schema(value_type = String, example = "att_06b2k1d5h3vqf8m2c9r7t4w0xg")]
    id: AttemptId,
    /// 1 for the first.
    number: u8,
    /// When it began.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// How long it took, in milliseconds.
    duration_ms: u32,
    /// What was sent.
    request: RequestBody,
    /// What came back; null when nothing did.
    response: Option<ResponseBody>,
    /// What went wrong; null on success.
    error: Option<ErrorBody>,
    /// When the next attempt was due; null after a success and after the last.
    #[schema(value_type = Option<String>, format = DateTime)]
    next_attempt_at: Option<Timestamp>,
    /// The endpoint's shard; null, like the next two, for what an early version recorded.
    shard: Option<Shard>,
    /// Counts the owners that the shard had had when the attempt was recorded.
    epoch: Option<u64>,
    /// The node that made it, in one of its runs.
    #[schema(value_type = Option<String>, example = "boot_06b2k1d5h3vqf8m2c9r7t4w0xg")]
    node: Option<BootId>,
}

impl AttemptBody {
    pub(crate) fn new(recorded: RecordedAttempt, payload: Option<&[u8]>) -> Self {
        let RecordedAttempt { attempt, fence } = recorded;
        Self {
            id: attempt.id,
            number: attempt.number,
            at: attempt.at,
            duration_ms: attempt.duration_ms,
            request: RequestBody::new(attempt.request, payload),
            response: attempt.response.map(Into::into),
            error: attempt.error.map(Into::into),
            next_attempt_at: attempt.next_attempt_at,
            shard: fence.map(|fence| fence.shard),
            epoch: fence.map(|fence| fence.epoch),
            node: fence.map(|fence| fence.node),
        }
    }
}

pub(crate) fn delivery_state() -> Object {
    choices(&STATES)
}
