//! The HTTP API.
//!
//! Who takes part: a request passes `unread` (whatever is answered, its body is read), the `guard` (a
//! bound on requests in flight; a panic becomes an answer), then the gate of `auth` (whose key is it, and may it see this account?), and
//! then the handler of its subject (`accounts`, `api_keys`, `portal_links`, `event_types`,
//! `endpoints`, `secrets`, `test_events`, `statistics`, `emails`, `events`, `resend`, `deliveries`,
//! `replays`, `cluster`). A handler reads the body through `extract` and `fields`, which find
//! everything that is wrong with it at once, asks the durable records, and answers in the words of
//! `wire`. Whatever goes wrong becomes a [`Problem`] in `error`.
//!
//! How data passes through: JSON becomes domain values on the way in, and domain values become JSON
//! on the way out; nothing in between is a bare string. What can also be asked by actor message is
//! done by the cluster's door, for both alike, and its refusals become problems here. What a change
//! makes others do is told to the cluster's router after it is durable: a hint, which may be lost.
//!
//! `dashboard` shows the same to people, as pages.
//!
//! `docs` gathers the OpenAPI document from the handlers, so that it cannot differ from them.

mod accounts;
mod actor;
mod api_keys;
mod auth;
mod cluster;
mod dashboard;
mod deliveries;
mod docs;
mod emails;
mod endpoints;
mod error;
mod event_types;
mod events;
mod extract;
mod fields;
mod guard;
mod health;
mod page;
mod portal_links;
mod random;
mod replays;
mod resend;
mod secrets;
mod spans;
mod statistics;
mod test_events;
mod unread;
mod wire;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use async_trait::async_trait;
use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use postrider_cluster::view::View;
use postrider_domain::ids::Mint;
use postrider_domain::retry;
use postrider_domain::target::AddressPolicy;
use postrider_domain::time::Timestamp;
use postrider_service::Door;
use postrider_store::Records;
use tokio::sync::{Semaphore, watch};
use utoipa_axum::router::OpenApiRouter;

pub use actor::ActorApi;
pub use auth::OperatorKey;
pub use dashboard::{Dashboard, Origin, OriginError};
pub use error::{FieldError, Problem};

/// What the API works with.
pub struct Api {
    /// What requests do, whichever way they come in: the records, the way to the nodes that work on
    /// them, ids and the time.
    pub door: Door,
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
        .merge(docs::pages(document))
        .merge(dashboard::routes(&app))
        .fallback(error::no_such_route)
        .method_not_allowed_fallback(error::no_such_method)
        .layer(from_fn_with_state(app.clone(), auth::gate))
        .layer(from_fn_with_state(app.clone(), guard::admit))
        .layer(from_fn(guard::catch_panic))
        .layer(from_fn(unread::hear_out))
        .with_state(app)
}

/// Every call, with its entry in the OpenAPI document.
fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(docs::frame())
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
    signing: dashboard::Signing,
}

impl App {
    fn new(api: Api) -> Self {
        let in_flight = Arc::new(Semaphore::new(guard::MAX_IN_FLIGHT));
        Self(Arc::new(Shared { api, in_flight, signing: dashboard::Signing::default() }))
    }

    fn records(&self) -> &Records {
        self.door().records()
    }

    fn door(&self) -> &Door {
        &self.0.api.door
    }

    fn router(&self) -> &postrider_cluster::route::Router {
        self.door().router()
    }

    fn mint(&self) -> &Mint {
        self.door().mint()
    }

    async fn signer(&self) -> Result<&dashboard::Signer, Problem> {
        self.0.signing.signer(self).await
    }

    fn now(&self) -> Timestamp {
        self.door().now()
    }

    /// The time for what others hold against their own clocks, and other nodes against theirs.
    fn wall(&self) -> Timestamp {
        self.door().wall()
    }
}
