//! The actor API: parses each call into domain values, calls the [`Service`], and returns the
//! result as a message.

mod error;
mod publish;
mod status;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use async_trait::async_trait;
use postrider_cluster::local_node::LocalNode;
use postrider_cluster::trace::{self, TraceContext};
use postrider_net::gateway::Handler;
use postrider_net::messages::{
    Call, CallError, CallErrorKind, DeliveryRef, EndpointRef, HeldChoice, Reply, Request, WakeMany,
    Woken,
};
use postrider_service::{PublishKind, Service};
use postrider_store::HeldAction;
use tracing::{Instrument, Span};

use self::error::call_error;

/// The handler of the gateway's calls.
pub struct ActorApi {
    service: Service,
    node: Arc<LocalNode>,
}

impl ActorApi {
    /// Creates the handler. `node` handles wakes and reports the cluster's status.
    #[must_use]
    pub fn new(service: Service, node: Arc<LocalNode>) -> Arc<Self> {
        Arc::new(Self { service, node })
    }
}

#[async_trait]
impl Handler for ActorApi {
    async fn handle(&self, Call { request, traceparent }: Call) -> Result<Reply, CallError> {
        let trace = traceparent.and_then(|text| text.parse().ok());
        let service = &self.service;
        match request {
            Request::Publish(it) => {
                let key = it.idempotency_key.as_deref();
                let publish =
                    publish::publish(service, PublishKind::Single, it.account, vec![it.event], key);
                let receipts = in_publish_span("publish", trace, publish).await?;
                // The service returns one receipt for each event.
                receipts.into_iter().next().map(Reply::Published).ok_or_else(CallError::internal)
            }
            Request::PublishBatch(it) => {
                let key = it.idempotency_key.as_deref();
                let publish =
                    publish::publish(service, PublishKind::Batch, it.account, it.events, key);
                let receipts = in_publish_span("publish batch", trace, publish).await?;
                Ok(Reply::PublishedBatch(receipts))
            }
            Request::EndpointStatus(EndpointRef { account, endpoint }) => {
                let view = service.endpoint(account, endpoint).await.map_err(call_error)?;
                Ok(Reply::Endpoint(status::endpoint(view)))
            }
            Request::EnableEndpoint(it) => {
                let held = match it.held {
                    HeldChoice::Resume => HeldAction::Resume,
                    HeldChoice::Discard => HeldAction::Discard,
                };
                let view = service
                    .enable_endpoint(it.account, it.endpoint, held, None)
                    .await
                    .map_err(call_error)?;
                Ok(Reply::Endpoint(status::endpoint(view)))
            }
            Request::DisableEndpoint(EndpointRef { account, endpoint }) => {
                let view =
                    service.disable_endpoint(account, endpoint, None).await.map_err(call_error)?;
                Ok(Reply::Endpoint(status::endpoint(view)))
            }
            Request::DeliveryStatus(DeliveryRef { account, delivery }) => {
                let (view, attempts) =
                    service.delivery(account, delivery).await.map_err(call_error)?;
                Ok(Reply::Delivery(status::delivery(view, attempts)))
            }
            Request::ClusterStatus => Ok(Reply::Cluster(status::cluster(&self.node.view()))),
            other @ (Request::Ping | Request::WakeMany(_) | Request::OwnershipChanged(_)) => {
                Err(CallError::new(
                    CallErrorKind::Internal,
                    format!("{other:?} must be handled by the gateway"),
                ))
            }
        }
    }

    fn wake(&self, wakes: WakeMany) -> Result<Woken, CallError> {
        self.node.wake(wakes)
    }

    fn ownership_changed(&self) {
        self.node.ownership_changed();
    }
}

/// Publishes events in a span that continues the caller's trace.
async fn in_publish_span<T>(
    name: &'static str,
    parent: Option<TraceContext>,
    publish: impl Future<Output = Result<T, CallError>>,
) -> Result<T, CallError> {
    let span = publish_span(name, parent);
    let outcome = publish.instrument(span.clone()).await;
    if let Err(error) = &outcome {
        span.record("error.type", tracing::field::debug(&error.kind));
        span.record("otel.status_code", "ERROR");
    }
    outcome
}

fn publish_span(name: &'static str, parent: Option<TraceContext>) -> Span {
    let span = tracing::info_span!(
        target: trace::TARGET,
        parent: None,
        "accept",
        otel.name = name,
        otel.kind = "consumer",
        otel.status_code = tracing::field::Empty,
        messaging.operation.type = "process",
        error.type = tracing::field::Empty,
    );
    trace::follow(&span, parent);
    span
}
