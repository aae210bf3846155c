//! What each request comes to: the message read into domain values, the door, and its answer as a
//! message.

use postrider_domain::ids::AccountId;

use tracing::Instrument;

use super::House;
use crate::door::{Draft, Refusal, Sketch};
use crate::messages::{
    Call, CallError, ClusterStatus, DeliveryStatus, Form, NewEvent, OfDelivery, OfEndpoint, Pong,
    Receipt, Reply, Request, VERSION, WakeMany, Woken, sketches,
};
use crate::metrics::Way;
use crate::trace::{self, TraceContext};

/// That the gateway is there.
pub(super) fn pong() -> Reply {
    Reply::Pong(Pong { version: env!("CARGO_PKG_VERSION").to_owned(), messages: VERSION })
}

/// Accepts events in a span that follows from the sender's.
async fn traced<T>(
    kind: &'static str,
    parent: Option<TraceContext>,
    accept: impl Future<Output = Result<T, CallError>>,
) -> Result<T, CallError> {
    let span = trace::accept_by_message(kind, parent);
    let outcome = accept.instrument(span.clone()).await;
    if let Err(error) = &outcome {
        span.record("error.type", tracing::field::debug(&error.kind));
        span.record("otel.status_code", "ERROR");
    }
    outcome
}

impl House {
    pub(super) async fn answer(&self, bytes: &[u8]) -> Result<Reply, CallError> {
        let Call { request, traceparent } = Call::decode(bytes)?;
        let trace = traceparent.and_then(|text| text.parse().ok());
        match request {
            Request::Ping | Request::WakeMany(_) | Request::Handed(_) => self.answer_light(bytes),
            Request::Publish(it) => {
                let key = it.idempotency_key.as_deref();
                let publish = self.publish(Form::Single, it.account, vec![it.event], key);
                let receipts = traced("publish", trace, publish).await?;
                // One event has one receipt.
                receipts.into_iter().next().map(Reply::Published).ok_or_else(CallError::internal)
            }
            Request::PublishBatch(it) => {
                let key = it.idempotency_key.as_deref();
                let publish = self.publish(Form::Batch, it.account, it.events, key);
                let receipts = traced("publish batch", trace, publish).await?;
                Ok(Reply::PublishedBatch(receipts))
            }
            Request::EndpointStatus(OfEndpoint { account, endpoint }) => {
                Ok(Reply::Endpoint(self.door.endpoint(account, endpoint).await?.into()))
            }
            Request::EnableEndpoint(it) => {
                let view = self.door.enable(it.account, it.endpoint, it.held.into()).await?;
                Ok(Reply::Endpoint(view.into()))
            }
            Request::DisableEndpoint(OfEndpoint { account, endpoint }) => {
                Ok(Reply::Endpoint(self.door.disable(account, endpoint).await?.into()))
            }
            Request::DeliveryStatus(OfDelivery { account, delivery }) => {
                let (view, attempts) = self.door.delivery(account, delivery).await?;
                Ok(Reply::Delivery(DeliveryStatus::new(view, attempts)))
            }
            Request::ClusterStatus => Ok(Reply::Cluster(ClusterStatus::from(&*self.local.view()))),
        }
    }

    async fn publish(
        &self,
        form: Form,
        account: AccountId,
        events: Vec<NewEvent>,
        key: Option<&str>,
    ) -> Result<Vec<Receipt>, CallError> {
        let idempotency = form.idempotency(key, &events)?;
        let (sketches, mut findings) = sketches(events);
        if !findings.is_empty() {
            findings.extend(self.door.check(&sketches).await?);
            return Err(Refusal::Invalid(findings).into());
        }
        let drafts: Vec<Draft> = sketches.into_iter().filter_map(Sketch::finish).collect();
        let receipts = self.door.publish(Way::Message, account, drafts, idempotency).await?;
        Ok(receipts.into_iter().map(Into::into).collect())
    }

    pub(super) fn wake(&self, many: WakeMany) -> Result<Reply, CallError> {
        let wakes = many.unpack(self.door.records().shards())?;
        self.instruments.wakes_received(wakes.len());
        Ok(Reply::Woken(Woken { elsewhere: self.local.wake(wakes) }))
    }
}
