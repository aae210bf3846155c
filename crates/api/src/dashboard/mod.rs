//! The dashboard: web pages for the users of an account, and for the operator.
//!
//! A request first passes through [`middleware`], which requires a session, keeps accounts apart
//! and rejects forms from other sites. The page's handler then reads the same records as the API.
//! It parses a form into the same commands as the API, so that no rule exists twice. [`layout`]
//! renders the result below the navigation.
//!
//! All HTML is built with [`maud`], which escapes text. Pages work with plain links and forms;
//! `htmx` refreshes the parts that change. The content security policy allows only our own files,
//! so that injected scripts cannot run.
//!
//! | Module | Contents |
//! |---|---|
//! | `session`, `middleware`, `sign_in` | authentication |
//! | `layout`, `components`, `urls`, `flash`, `form`, `field`, `format`, `asset` | shared by all pages |
//! | the others | a page each, or a part of one |

mod accounts;
mod asset;
mod catalogue;
mod chart;
mod cluster;
mod components;
mod contacts;
mod curl;
mod delivery;
mod delivery_table;
mod emails;
mod event;
mod event_types;
mod events;
mod exchange;
mod field;
mod flash;
mod form;
mod format;
mod layout;
mod middleware;
mod new_replay;
mod new_webhook;
mod origin;
mod payload;
mod phases;
mod replay;
mod replays;
mod session;
mod session_cookie;
mod settings;
mod sign_in;
mod test_event;
mod urls;
mod webhook;
mod webhook_form;
mod webhook_select;
mod webhook_settings;
mod webhook_status;
mod webhooks;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::response::Redirect;
use axum::routing::get;
use postrider_domain::ids::{AccountId, EndpointId};
use tokio::sync::OnceCell;

use crate::App;
use crate::web::problem::{self, Problem};

pub(crate) use middleware::base_url;
pub use origin::{Origin, OriginError};
pub(crate) use session::{PortalLink, Signer};
pub(crate) use urls::account_page;

/// The dashboard's root path.
const ROOT: &str = "/dashboard";

/// The dashboard's public URL, and the sites that may embed it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dashboard {
    /// The URL at which browsers reach this installation; by default the host of each request.
    pub public_url: Option<Origin>,
    /// Sites that may embed the dashboard in their own pages.
    pub embed_in: Vec<Origin>,
}

impl Dashboard {
    /// The public URL of an endpoint's page. `None` without a configured `public_url`.
    #[must_use]
    pub fn endpoint_page(&self, account: AccountId, endpoint: EndpointId) -> Option<String> {
        let base = self.public_url.as_ref()?;
        Some(format!("{base}{}", urls::Urls::of(account).webhook(endpoint)))
    }

    /// Whether browsers connect over TLS, according to the configuration.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.public_url.as_ref().is_some_and(Origin::is_https)
    }
}

/// The URL of the script of every page.
#[cfg(test)]
pub(crate) fn script_url() -> &'static str {
    asset::url("dashboard.js")
}

/// The signer, created when it is first used.
#[derive(Default)]
pub(crate) struct LazySigner(OnceCell<session::Signer>);

impl LazySigner {
    /// The signer of sessions and portal links, with the cluster's shared key.
    pub(crate) async fn signer(&self, app: &App) -> Result<&session::Signer, Problem> {
        self.0
            .get_or_try_init(async || {
                let key = app.service().session_key().await?;
                Ok(session::Signer::new(key))
            })
            .await
    }
}

/// The routes of all pages.
pub(crate) fn routes(app: &App) -> Router<App> {
    let account_pages = Router::new()
        .merge(webhooks::routes())
        .merge(new_webhook::routes())
        .merge(webhook::routes())
        .merge(webhook_status::routes())
        .merge(webhook_settings::routes())
        .merge(test_event::routes())
        .merge(delivery::routes())
        .merge(events::routes())
        .merge(event::routes())
        .merge(replays::routes())
        .merge(new_replay::routes())
        .merge(replay::routes())
        .merge(event_types::routes())
        .merge(settings::routes());
    let pages = Router::new()
        .route(ROOT, get(layout::home))
        .nest(urls::ACCOUNT, account_pages)
        .merge(accounts::routes())
        .merge(cluster::routes())
        .route("/dashboard/{*rest}", get(async || Problem::not_found("page")))
        .route_layer(from_fn_with_state(app.clone(), middleware::require_session));
    Router::new()
        .route("/", get(async || Redirect::to(ROOT)))
        .route("/dashboard/", get(async || Redirect::to(ROOT)))
        .merge(pages)
        .merge(sign_in::routes())
        .route_layer(from_fn_with_state(app.clone(), middleware::reject_cross_site))
        .merge(asset::routes())
        .method_not_allowed_fallback(problem::method_not_allowed)
        .layer(from_fn_with_state(app.clone(), middleware::security_headers))
}
