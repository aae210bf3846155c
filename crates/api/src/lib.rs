//! The HTTP API.
//!
//! The ways in: each reads its own form of a request into domain values, calls the
//! [`Service`](postrider_service::Service), and writes the answer in its own form.
//!
//! | Directory | Is |
//! |---|---|
//! | `web` | what every HTTP request passes: limits, authentication, problems (RFC 9457), pagination |
//! | `rest` | the REST API, one file for each resource, and its OpenAPI document |
//! | `dashboard` | the same for people, as pages |
//! | `actor` | the same for services and nodes, as actor messages |
//!
//! An HTTP request passes, in this order: `web::unread` (its body is read to the end whatever the
//! answer is), `web::limits` (requests in flight; a panic becomes a 500), `web::auth` (whose key is
//! it, and may it see this account?), and then the handler of its resource. `rest::docs` gathers
//! the OpenAPI document from the handlers, so that it cannot differ from them.

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
use self::web::{auth, limits, problem, unread};

pub use actor::ActorApi;
pub use dashboard::{Dashboard, Origin, OriginError};
pub use web::auth::OperatorKey;
pub use web::problem::{FieldError, Problem};

/// What the API works with.
pub struct Api {
    /// The use cases.
    pub service: Service,
    /// The cluster as this node sees it.
    pub view: watch::Receiver<Arc<View>>,
    /// The key that may do everything.
    pub operator_key: OperatorKey,
    /// Where webhooks may go.
    pub targets: AddressPolicy,
    /// When failed deliveries are tried again.
    pub retry: retry::Policy,
    /// How people reach the dashboard.
    pub dashboard: Dashboard,
    /// How the process is.
    pub probe: Arc<dyn Probe>,
}

/// How the process is, for those who watch it.
#[async_trait]
pub trait Probe: Send + Sync + 'static {
    /// The metrics in the text format of Prometheus.
    fn metrics(&self) -> String;

    /// Whether requests can be served: the store answers and the node has joined.
    ///
    /// # Errors
    /// What is missing, in words.
    async fn ready(&self) -> Result<(), String>;
}

/// The HTTP API as a service.
pub fn app(api: Api) -> Router {
    let app = App::new(api);
    let (router, document) = routes().split_for_parts();
    router
        .merge(docs::routes(document))
        .merge(dashboard::routes(&app))
        .fallback(problem::no_such_route)
        .method_not_allowed_fallback(problem::no_such_method)
        .layer(from_fn_with_state(app.clone(), auth::gate))
        .layer(from_fn_with_state(app.clone(), limits::admit))
        .layer(from_fn(limits::catch_panic))
        .layer(from_fn(unread::hear_out))
        .with_state(app)
}

/// Every call, with its entry in the OpenAPI document.
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

/// What handlers share. Clones are cheap.
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
        self.service().records()
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

    /// The time for what others hold against their own clocks, and other nodes against theirs.
    fn wall(&self) -> Timestamp {
        self.service().wall()
    }
}
