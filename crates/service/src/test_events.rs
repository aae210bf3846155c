//! Test events: a single request to an endpoint that is not recorded.

use async_trait::async_trait;
use postrider_domain::attempt::TestReport;
use postrider_domain::endpoint::Endpoint;
use postrider_domain::event::{Event, EventTypeName, Payload};
use postrider_domain::findings::UNKNOWN_TYPE;
use postrider_domain::ids::{AccountId, EndpointId};
use postrider_store::{Begun, kv};
use tracing::Instrument;

use crate::error::ServiceError;
use crate::{Once, Service};

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
    ///
    /// With an idempotency key, the request is sent to its end and its answer is kept even if the
    /// caller goes away. If this node dies meanwhile, a repeated request sends it again under the
    /// same id after [`MAX_REQUEST_TIME`](postrider_store::MAX_REQUEST_TIME).
    pub async fn send_test_event(
        &self,
        account: AccountId,
        endpoint: EndpointId,
        test: TestEvent,
        once: Option<Once<SentTestEvent>>,
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
        let mut event = Event {
            id: self.ids().id(now),
            account,
            event_type,
            created_at: now,
            payload: payload.clone(),
        };
        let Some(once) = once else {
            let report = self.0.test_sender.send_test(&endpoint, &event).await;
            return Ok(SentTestEvent { payload, report });
        };
        match self.records().begin_request(once.request(), event.id).await? {
            Begun::Now(id) => event.id = id,
            Begun::Earlier(_) => return Err(ServiceError::RepeatedRequest),
        }
        let service = self.clone();
        let sending = async move {
            let report = service.0.test_sender.send_test(&endpoint, &event).await;
            let sent = SentTestEvent { payload, report };
            let answer = once.answer(&sent);
            match service.records().keep_answer(once.request(), answer).await? {
                None => Ok(sent),
                Some(_) => Err(ServiceError::RepeatedRequest),
            }
        };
        match tokio::spawn(sending.in_current_span()).await {
            Ok(result) => result,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Err(kv::Error::Unavailable("the node is stopping".to_owned()).into()),
            },
        }
    }
}
