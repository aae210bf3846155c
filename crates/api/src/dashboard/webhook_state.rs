//! The banner of a webhook's page: how the webhook is and why, in words, and enabling and disabling it.

use axum::Router;
use axum::extract::State;
use axum::response::{Redirect, Response};
use axum::routing::{get, post};
use maud::{Markup, html};
use postrider_domain::delivery::DeliveryState;
use postrider_domain::endpoint::{
    Disabled, DisabledReason, Endpoint, LastError, State as Enabling, Subscription,
};
use postrider_domain::ids::EndpointId;
use postrider_store::{DeliveryView, EndpointView, Held};
use serde_json::json;

use super::form::{self, Form};
use super::format::count;
use super::frame::{Visit, anew};
use super::links::{Links, below};
use super::parts::{address, ago, time, webhook_badge};
use super::said::Said;
use crate::App;
use crate::rest::endpoints;
use crate::web::auth::Tenant;
use crate::web::extract::PathId;
use crate::web::page::Params;
use crate::web::problem::Problem;

pub(crate) fn routes() -> Router<App> {
    let at = |action: &str| format!("/webhooks/{{endpoint}}/{action}");
    Router::new()
        .route(&at("facts"), get(facts))
        .route(&at("enable"), post(enable))
        .route(&at("disable"), post(disable))
}

/// How a webhook is, and the delivery that tells why.
pub(crate) struct Standing {
    pub view: EndpointView,
    /// The delivery that disabled it, or else the one whose attempt failed last.
    culprit: Option<DeliveryView>,
    /// Attempts that a delivery has.
    most_attempts: u32,
}

impl Standing {
    pub(crate) async fn of(app: &App, view: EndpointView) -> Result<Self, Problem> {
        let failed = view.health.last_error.as_ref().map(|error| error.delivery);
        let culprit = match &view.state {
            Enabling::Disabled(disabled) => disabled.delivery.or(failed),
            Enabling::Enabled | Enabling::Deleted => failed,
        };
        let culprit = match culprit {
            Some(id) => app.records().delivery_alone(view.endpoint.account, id).await?,
            None => None,
        };
        let most_attempts = app.0.api.retry.max_attempts();
        Ok(Self { view, culprit, most_attempts })
    }

    /// The word for what the banner offers, which a page that was loaded before compares with its own.
    fn word(&self) -> &'static str {
        match self.view.state {
            Enabling::Disabled(_) if self.view.unfinished > 0 => "holding",
            Enabling::Disabled(_) => "disabled",
            Enabling::Enabled | Enabling::Deleted => "enabled",
        }
    }
}

pub(crate) fn banner(visit: &Visit, state: &Standing) -> Markup {
    let (links, view) = (visit.links(), &state.view);
    let id = view.endpoint.id;
    let class = match &view.state {
        Enabling::Disabled(_) => "bad",
        _ if view.health.failure_count > 0 || wants_nothing(&view.endpoint) => "warn",
        _ => "good",
    };
    html! {
        section #state class={ "banner " (class) } aria-label="State" {
            (fact_list(visit, state))
            @if let Enabling::Disabled(_) = view.state {
                form method="post" action=(below(&links.webhook(id), "enable")) {
                    (visit.csrf())
                    @if view.unfinished > 0 {
                        fieldset.choice {
                            legend { "Held deliveries" }
                            label { input type="radio" name="held" value="resume" checked; " Send" }
                            label { input type="radio" name="held" value="discard"; " Discard" }
                        }
                    }
                    button.primary type="submit" { "Enable" }
                }
            } @else {
                form method="post" action=(below(&links.webhook(id), "disable")) {
                    (visit.csrf())
                    button type="submit" { "Disable" }
                }
            }
        }
    }
}

/// What the banner says. It is asked for again while somebody looks.
fn fact_list(visit: &Visit, state: &Standing) -> Markup {
    let view = &state.view;
    let page = below(&visit.links().webhook(view.endpoint.id), "facts");
    html! {
        div #facts hx-get=(address(&page, &[("was", state.word())])) hx-trigger="every 3s"
            hx-swap="outerHTML" {
            p.headline {
                (webhook_badge(&view.state, view.health.failure_count)) " "
                (headline(&visit.links(), state))
            }
            (attempts(state, visit))
            (last_error(visit, view))
            (waiting(visit, view))
        }
    }
}

fn headline(links: &Links, state: &Standing) -> Markup {
    let view = &state.view;
    let settings = links.webhook_settings(view.endpoint.id);
    html! {
        @match (&view.state, view.health.failure_count) {
            (Enabling::Disabled(disabled), _) => (why_disabled(disabled)),
            (_, _) if wants_nothing(&view.endpoint) => {
                "It wants no event types, so nothing is sent. Choose some in "
                a href=(settings) { "its settings" } "."
            }
            (_, 0) => "Webhooks are sent, and nothing is failing.",
            (_, 1) => "The last attempt failed. Failed deliveries are tried again.",
            (_, n) => { "The last " (count(n.into(), "attempt", "attempts")) " all failed. Failed deliveries are tried again." }
        }
    }
}

/// Nothing will ever be sent to it, which is seldom what was meant.
fn wants_nothing(endpoint: &Endpoint) -> bool {
    matches!(&endpoint.event_types, Subscription::Only(names) if names.is_empty())
}

fn why_disabled(disabled: &Disabled) -> Markup {
    let since = time(disabled.at);
    html! {
        @match disabled.reason {
            DisabledReason::Exhausted => { "Disabled since " (since) ": every attempt of a delivery failed, the retries too." }
            DisabledReason::Manual => { "Disabled by hand since " (since) "." }
            DisabledReason::Gone => { "Disabled since " (since) ": it answered 410 Gone, which says that it wants no webhooks." }
        }
        " Nothing is sent; what comes for it is held, and nothing is lost."
        @if disabled.reason != DisabledReason::Manual { " Mend it, send a test event, and enable it." }
    }
}

/// Attempts used and left of the delivery that the banner is about, and when the next one is.
fn attempts(state: &Standing, visit: &Visit) -> Markup {
    let most = u64::from(state.most_attempts);
    html! {
        @if let Some(DeliveryView { delivery, state: standing }) = &state.culprit {
            @let used = u64::from(delivery.attempt_count);
            // The schedule may have been another one when it was given up.
            @let left = if delivery.due().is_some() { most.saturating_sub(used) } else { 0 };
            @if *standing != DeliveryState::Delivered {
                p {
                    "Of " a href=(visit.links().delivery(delivery.id)) { "the delivery that failed" } ", "
                    (count(used, "attempt is", "attempts are")) " used and " (left) " left"
                    @match (standing, delivery.due()) {
                        (DeliveryState::Pending, Some(due)) => { "; the next is at " (time(due)) "." }
                        (DeliveryState::Held, _) => { "; the next is made once it is enabled." }
                        _ => ".",
                    }
                    @if matches!(state.view.state, Enabling::Enabled) && *standing == DeliveryState::Pending {
                        " If all of them fail, the webhook is disabled, and your contacts get an email."
                    }
                }
            }
        }
    }
}

fn last_error(visit: &Visit, view: &EndpointView) -> Markup {
    let failing = view.health.failure_count > 0 || matches!(view.state, Enabling::Disabled(_));
    html! {
        @if let Some(LastError { at, kind, status, message, delivery }) = &view.health.last_error {
            div.last-error.faint[!failing] {
                p { span.strong { "Last error" } ", " (ago(*at, visit.now())) " ago ("
                    @match status { Some(status) => { "status " (status) } None => (kind.as_str()) }
                    "): " a href=(visit.links().delivery(*delivery)) { "what was sent and answered" } }
                pre { (message) }
            }
        }
    }
}

fn waiting(visit: &Visit, view: &EndpointView) -> Markup {
    let word = if matches!(view.state, Enabling::Disabled(_)) { "held" } else { "pending" };
    html! {
        p {
            @match (view.unfinished, view.oldest_pending_at) {
                (0, _) => { "No delivery is " (word) "." }
                (n, None) => { (count(n, "delivery is ", "deliveries are ")) (word) "." }
                (n, Some(at)) => { (count(n, "delivery is ", "deliveries are ")) (word) ", the oldest for " (ago(at, visit.now())) "." }
            }
        }
    }
}

/// The facts anew; the whole page, when the state is not the one that it shows.
async fn facts(
    visit: Visit,
    tenant: Tenant,
    PathId(id): PathId<EndpointId>,
    State(app): State<App>,
    mut params: Params,
) -> Result<Response, Problem> {
    let was = params.text("was");
    params.finish()?;
    let state = Standing::of(&app, app.door().endpoint(tenant.0, id).await?).await?;
    Ok(anew(was.as_deref(), state.word(), fact_list(&visit, &state)))
}

async fn enable(
    visit: Visit,
    tenant: Tenant,
    PathId(id): PathId<EndpointId>,
    State(app): State<App>,
    form: Form,
) -> Result<Redirect, Problem> {
    let held = match form.text("held") {
        "" => json!({}),
        choice => json!({ "held": choice }),
    };
    let (_, held) = endpoints::enable_as(&app, tenant.0, id, &form::body(&held)).await?;
    let said = if held == Held::Discard { Said::Discarded } else { Said::Enabled };
    Ok(Redirect::to(&said.at(&visit.links().webhook(id))))
}

async fn disable(
    visit: Visit,
    tenant: Tenant,
    PathId(id): PathId<EndpointId>,
    State(app): State<App>,
) -> Result<Redirect, Problem> {
    app.door().disable(tenant.0, id).await?;
    Ok(Redirect::to(&Said::Disabled.at(&visit.links().webhook(id))))
}
