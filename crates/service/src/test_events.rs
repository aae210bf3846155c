//! Test events: one request to an endpoint, now, without a record.

use postrider_cluster::route::TestReport;
use postrider_domain::event::{Event, EventTypeName, Payload};
use postrider_domain::findings::UNKNOWN_TYPE;
use postrider_domain::ids::{AccountId, EndpointId};

use crate::Service;
use crate::error::ServiceError;

/// A test event to send.
#[derive(Clone, Debug)]
pub struct TestEvent {
    /// A type of the catalogue.
    pub event_type: EventTypeName,
    /// What to send; the type's example if absent. It is not checked against the type's schema.
    pub payload: Option<Payload>,
}

/// A test event that was sent.
#[derive(Clone, Debug)]
pub struct SentTest {
    /// What was sent.
    pub payload: Payload,
    /// The request, the response and their times.
    pub report: TestReport,
}

impl Service {
    /// Sends a test event to an endpoint, also to a disabled one, and waits for the response.
    ///
    /// # Errors
    /// [`ServiceError::InvalidFields`] for a type that the catalogue does not have, `NotFound`, or
    /// the store's error. A failed request is no error: the report tells of it.
    pub async fn send_test(
        &self,
        account: AccountId,
        endpoint: EndpointId,
        test: TestEvent,
    ) -> Result<SentTest, ServiceError> {
        let endpoint = self.endpoint(account, endpoint).await?.endpoint;
        let TestEvent { event_type, payload } = test;
        let Some(entry) = self.records().event_type(&event_type).await? else {
            return Err(ServiceError::invalid_field("/event_type", UNKNOWN_TYPE));
        };
        let payload = payload.unwrap_or_else(|| Payload::from_stored(entry.example.into()));
        let now = self.now();
        let id = self.ids().id(now);
        let event = Event { id, account, event_type, created_at: now, payload: payload.clone() };
        let report = self.router().send_test(endpoint, event).await;
        Ok(SentTest { payload, report })
    }
}
