//! The external APIs of Postrider: REST, dashboard and actor messages.
//!
//! Each API parses a request into domain values, calls the [`Service`], and renders the result.
//!
//! | Directory | Contents |
//! |---|---|
//! | `web` | shared by all HTTP requests: limits, authentication, idempotency keys, problems (RFC 9457), pagination |
//! | `rest` | the REST API, one file for each resource, and its OpenAPI document |
//! | `dashboard` | the HTML pages |
//! | `actor` | the actor API for clients and nodes |
//!
//! The middleware runs in this order: `web::drain_body` (drains what is left of the request
//! body before the response is sent), `web::limits` (converts panics into 500 and limits concurrent
//! requests), `web::auth` (authenticates the key and authorizes access to the account), and then
//! the handler. The OpenAPI document is generated from the handlers and completed by `rest::docs`.

mod actor;
mod dashboard;
mod rest;
mod web;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use async_trait::async_trait;
use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use postrider_cluster::view::View;
use postrider_domain::own_outage::Outage;
use postrider_domain::retry;
use postrider_domain::target::AddressPolicy;
use postrider_domain::time::Timestamp;
use postrider_service::Service;
use postrider_store::Records;
use tokio::sync::{Semaphore, watch};
use utoipa_axum::router::OpenApiRouter;

use self::rest::{
    accounts, api_keys, cluster, deliveries, docs, emails, endpoints, event_types, events, health,
    portal_links, replays, resend, secrets, statistics, test_events,
};
use self::web::{auth, drain_body, limits, problem};

pub use actor::ActorApi;
pub use dashboard::{Dashboard, Origin, OriginError};
pub use web::auth::OperatorKey;
pub use web::problem::{FieldError, Problem};

/// The dependencies of the HTTP APIs.
pub struct Api {
    /// The use cases.
    pub service: Service,
    /// The records, for lists and lookups without a rule.
    pub records: Records,
    /// The cluster as this node sees it.
    pub view: watch::Receiver<Arc<View>>,
    /// The key with full access.
    pub operator_key: OperatorKey,
    /// The addresses that webhooks may be sent to.
    pub targets: AddressPolicy,
    /// The retry schedule, as shown in the dashboard.
    pub retry: retry::Policy,
    /// The dashboard's settings.
    pub dashboard: Dashboard,
    /// The process's health and metrics.
    pub probe: Arc<dyn Probe>,
}

/// The process's health and metrics.
#[async_trait]
pub trait Probe: Send + Sync + 'static {
    /// The metrics in the Prometheus text format.
    fn metrics(&self) -> String;

    /// Checks that the node can serve requests: the store is available and the node has joined its
    /// cluster. The error is the reason why it cannot.
    async fn ready(&self) -> Result<(), String>;

    /// The outages that keep this node, though not others, from sending webhooks.
    fn outages(&self) -> Vec<Outage>;
}

/// The router of the REST API and the dashboard.
pub fn app(api: Api) -> Router {
    let app = App::new(api);
    let (router, document) = routes().split_for_parts();
    router
        .merge(docs::routes(document))
        .merge(dashboard::routes(&app))
        .fallback(problem::route_not_found)
        .method_not_allowed_fallback(problem::method_not_allowed)
        .layer(from_fn_with_state(app.clone(), auth::require_key))
        .layer(from_fn_with_state(app.clone(), limits::limit_concurrency))
        .layer(from_fn(limits::catch_panic))
        .layer(from_fn(drain_body::drain_unread_body))
        .with_state(app)
}

/// Every REST operation, with its entry in the OpenAPI document.
fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(docs::base_document())
        .merge(accounts::routes())
        .merge(portal_links::routes())
        .merge(api_keys::routes())
        .merge(event_types::routes())
        .merge(endpoints::routes())
        .merge(secrets::routes())
        .merge(statistics::routes())
        .merge(test_events::routes())
        .merge(emails::routes())
        .merge(events::routes())
        .merge(resend::routes())
        .merge(deliveries::routes())
        .merge(replays::routes())
        .merge(cluster::routes())
        .merge(health::routes())
}

/// The handlers' shared state. Clones are cheap.
#[derive(Clone)]
struct App(Arc<Shared>);

struct Shared {
    api: Api,
    in_flight: Arc<Semaphore>,
    signing: dashboard::LazySigner,
}

impl App {
    fn new(api: Api) -> Self {
        let in_flight = Arc::new(Semaphore::new(limits::MAX_IN_FLIGHT));
        Self(Arc::new(Shared { api, in_flight, signing: dashboard::LazySigner::default() }))
    }

    fn records(&self) -> &Records {
        &self.0.api.records
    }

    fn service(&self) -> &Service {
        &self.0.api.service
    }

    async fn signer(&self) -> Result<&dashboard::Signer, Problem> {
        self.0.signing.signer(self).await
    }

    fn now(&self) -> Timestamp {
        self.service().now()
    }

    /// The wall clock time, for expiry times that other machines compare with their own clocks.
    fn wall_time(&self) -> Timestamp {
        self.service().wall_time()
    }
}
