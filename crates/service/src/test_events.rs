//! Test events: a single request to an endpoint that is not recorded.

use async_trait::async_trait;
use postrider_domain::attempt::TestReport;
use postrider_domain::endpoint::Endpoint;
use postrider_domain::event::{Event, EventTypeName, Payload};
use postrider_domain::findings::UNKNOWN_TYPE;
use postrider_domain::ids::{AccountId, EndpointId};

use crate::Service;
use crate::error::ServiceError;

/// Sends test events. The node implements it with its delivery engine.
#[async_trait]
pub trait TestSender: Send + Sync + 'static {
    /// Sends an event to an endpoint once, immediately. The result does not affect the endpoint's
    /// state.
    async fn send_test(&self, endpoint: &Endpoint, event: &Event) -> TestReport;
}

/// A test event to send.
#[derive(Clone, Debug)]
pub struct TestEvent {
    /// An event type in the catalogue.
    pub event_type: EventTypeName,
    /// The payload; the type's example if `None`. It is not validated against the type's schema,
    /// but rejected if it was serialized twice.
    pub payload: Option<Payload>,
}

/// A test event that was sent.
#[derive(Clone, Debug)]
pub struct SentTestEvent {
    /// The sent payload.
    pub payload: Payload,
    /// The request, the response and their timings.
    pub report: TestReport,
}

impl Service {
    /// Sends a test event to an endpoint, which may be disabled, and waits for the response. A
    /// failed request is not an error; the report contains the failure.
    pub async fn send_test_event(
        &self,
        account: AccountId,
        endpoint: EndpointId,
        test: TestEvent,
    ) -> Result<SentTestEvent, ServiceError> {
        let endpoint = self.endpoint(account, endpoint).await?.endpoint;
        let TestEvent { event_type, payload } = test;
        let Some(entry) = self.records().event_type(&event_type).await? else {
            return Err(ServiceError::invalid_field("/event_type", UNKNOWN_TYPE));
        };
        let schema = entry.schema.as_deref();
        if let Some(payload) = &payload
            && let Err((_, detail)) =
                self.0.schemas.check_encoding(&event_type, schema, payload.bytes())
        {
            return Err(ServiceError::invalid_field("/payload", detail));
        }
        let payload = payload.unwrap_or_else(|| Payload::from_stored(entry.example.into()));
        let now = self.now();
        let id = self.ids().id(now);
        let event = Event { id, account, event_type, created_at: now, payload: payload.clone() };
        let report = self.0.test_sender.send_test(&endpoint, &event).await;
        Ok(SentTestEvent { payload, report })
    }
}
