//! The dashboard: web pages for the people of an account, and for the operator.
//!
//! Who takes part: the [`gate`] finds out who looks and lets nobody see another account's pages or
//! bring a form that is not ours; a page's handler asks the same records as the API does, and hands
//! a form on to the same functions, as the JSON that they read, so that no rule is written twice;
//! [`frame`] puts what the page says between the navigation and the foot.
//!
//! How data passes through: text from outside becomes HTML through [`maud`] alone, which escapes it.
//! Pages work with plain links and forms; `htmx` renews parts of them that move. The content security
//! policy allows nothing that is not a file of ours, so that a page cannot be made to run anything.
//!
//! | File | Is |
//! |---|---|
//! | `session`, `gate`, `sign_in` | who looks |
//! | `frame`, `parts`, `links`, `said`, `form`, `field`, `format`, `asset` | what all pages share |
//! | the others | a page each, or a part of one |

mod accounts;
mod asset;
mod catalogue;
mod chart;
mod cluster;
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
mod form;
mod format;
mod frame;
mod gate;
mod indent;
mod links;
mod new_replay;
mod new_webhook;
mod origin;
mod parts;
mod payload;
mod phases;
mod replay;
mod replays;
mod said;
mod session;
mod settings;
mod sign_in;
mod test_event;
mod webhook;
mod webhook_choice;
mod webhook_form;
mod webhook_settings;
mod webhook_state;
mod webhooks;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::response::Redirect;
use axum::routing::get;
use postrider_domain::ids::{AccountId, EndpointId};
use tokio::sync::OnceCell;

use crate::App;
use crate::web::problem::{self, Problem};
use crate::web::random;

pub(crate) use gate::own_url;
pub(crate) use links::own_page;
pub use origin::{Origin, OriginError};
pub(crate) use session::{Link, Signer};

/// Where the dashboard is.
const ROOT: &str = "/dashboard";

/// How the dashboard is reached and by whom it may be shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dashboard {
    /// Where people's browsers find this installation, if that is not where requests say they go.
    pub public_url: Option<Origin>,
    /// Sites that may show the dashboard within their own pages.
    pub embed_in: Vec<Origin>,
}

impl Dashboard {
    /// Where people find an endpoint's page; none when it is not known where they come from.
    #[must_use]
    pub fn page_of(&self, account: AccountId, endpoint: EndpointId) -> Option<String> {
        let base = self.public_url.as_ref()?;
        Some(format!("{base}{}", links::Links::of(account).webhook(endpoint)))
    }

    /// Whether browsers come over TLS, as far as it is configured.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.public_url.as_ref().is_some_and(Origin::is_https)
    }
}

/// Where the script of every page is.
#[cfg(test)]
pub(crate) fn link_of_script() -> &'static str {
    asset::link("dashboard.js")
}

/// What signs sessions, once it is known.
#[derive(Default)]
pub(crate) struct Signing(OnceCell<session::Signer>);

impl Signing {
    /// What signs sessions and links, the same on every node.
    pub(crate) async fn signer(&self, app: &App) -> Result<&session::Signer, Problem> {
        self.0
            .get_or_try_init(async || {
                let key = app.records().session_key(random::bytes()?).await?;
                Ok(session::Signer::new(key))
            })
            .await
    }
}

/// The routes of all pages.
pub(crate) fn routes(app: &App) -> Router<App> {
    let of_an_account = Router::new()
        .merge(webhooks::routes())
        .merge(new_webhook::routes())
        .merge(webhook::routes())
        .merge(webhook_state::routes())
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
        .route(ROOT, get(frame::home))
        .nest(links::ACCOUNT, of_an_account)
        .merge(accounts::routes())
        .merge(cluster::routes())
        .route("/dashboard/{*rest}", get(async || Problem::not_found("page")))
        .route_layer(from_fn_with_state(app.clone(), gate::enter));
    Router::new()
        .route("/", get(async || Redirect::to(ROOT)))
        .route("/dashboard/", get(async || Redirect::to(ROOT)))
        .merge(pages)
        .merge(sign_in::routes())
        .route_layer(from_fn_with_state(app.clone(), gate::same_site))
        .merge(asset::routes())
        .method_not_allowed_fallback(problem::no_such_method)
        .layer(from_fn_with_state(app.clone(), gate::dress))
}
