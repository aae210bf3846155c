//! Deliveries and their attempts.

use postrider_domain::assignment::Shard;
use postrider_domain::delivery::DeliveryState;
use postrider_domain::ids::{AttemptId, BootId, DeliveryId, EndpointId, EventId};
use postrider_domain::time::Timestamp;
use postrider_store::{DeliveryView, RecordedAttempt};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa::openapi::schema::Object;

use super::exchange::{ErrorBody, RequestBody, ResponseBody};
use super::string_enum;

/// The states of a delivery.
pub(crate) const STATES: [DeliveryState; 5] = [
    DeliveryState::Pending,
    DeliveryState::Delivered,
    DeliveryState::Exhausted,
    DeliveryState::Held,
    DeliveryState::Discarded,
];

/// A delivery of one event to one endpoint.
#[derive(Serialize, ToSchema)]
#[schema(as = Delivery)]
pub(crate) struct DeliveryBody {
    /// The delivery's ID.
    #[schema(value_type = String, example = "dlv_06b2k1d5h3vqf8m2c9r7t4w0xg")]
    id: DeliveryId,
    /// The ID of the delivered event.
    #[schema(value_type = String, example = "evt_06b2k1d5h3vqf8m2c9r7t4w0xg")]
    event_id: EventId,
    /// The ID of the receiving endpoint.
    #[schema(value_type = String, example = "ep_06b2k1d5h3vqf8m2c9r7t4w0xg")]
    endpoint_id: EndpointId,
    /// The event type.
    event_type: String,
    /// The delivery's state. `pending`: an attempt is scheduled or in progress. `delivered`: an
    /// attempt succeeded. `exhausted`: all attempts failed. `held`: waiting until the endpoint is
    /// enabled. `discarded`: discarded by a user or with its endpoint.
    #[schema(schema_with = delivery_state)]
    state: DeliveryState,
    /// The number of attempts so far.
    attempt_count: u8,
    /// When the next attempt is due; null if the delivery is finished or held.
    #[schema(value_type = Option<String>, format = DateTime)]
    next_attempt_at: Option<Timestamp>,
    /// When the delivery was created: when the event was accepted, or when the delivery was
    /// requested again.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// When the delivery was finished; null if it is pending or held.
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
    /// The attempts, in order.
    pub attempts: Vec<AttemptBody>,
}

/// An attempt: one HTTP request and its result.
#[derive(Serialize, ToSchema)]
#[schema(as = Attempt)]
pub(crate) struct AttemptBody {
    /// The attempt's ID.
    #[schema(value_type = String, example = "att_06b2k1d5h3vqf8m2c9r7t4w0xg")]
    id: AttemptId,
    /// The attempt's number, starting at 1.
    number: u8,
    /// When the attempt started.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// The duration of the attempt in milliseconds.
    duration_ms: u32,
    /// The request.
    request: RequestBody,
    /// The response; null if none was received.
    response: Option<ResponseBody>,
    /// The error; null if the attempt succeeded.
    error: Option<ErrorBody>,
    /// When the next attempt was due; null if the attempt succeeded or was the last.
    #[schema(value_type = Option<String>, format = DateTime)]
    next_attempt_at: Option<Timestamp>,
    /// The endpoint's shard. Null, like `epoch` and `node`, for attempts recorded by early
    /// versions.
    shard: Option<Shard>,
    /// The shard's epoch when the attempt was recorded. It increases with every change of
    /// ownership.
    epoch: Option<u64>,
    /// The ID of the node that made the attempt.
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
    string_enum(&STATES)
}
