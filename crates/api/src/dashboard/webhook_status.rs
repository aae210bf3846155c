//! The status banner of a webhook's page: its state and the reason for it, and the buttons to
//! enable and disable the webhook.

use axum::Router;
use axum::extract::State;
use axum::response::{Redirect, Response};
use axum::routing::{get, post};
use maud::{Markup, html};
use postrider_domain::backlog::Backlog;
use postrider_domain::delivery::DeliveryState;
use postrider_domain::endpoint::{
    Disabled, DisabledReason, Endpoint, LastError, State as EndpointState, Subscription,
};
use postrider_domain::ids::EndpointId;
use postrider_store::{DeliveryView, EndpointView, HeldAction};

use super::components::{age, time, webhook_badge, with_query};
use super::flash::Flash;
use super::form::Form;
use super::format::count;
use super::layout::{PageContext, refreshed};
use super::urls::{Urls, subpath};
use crate::App;
use crate::rest::endpoints::EnableEndpoint;
use crate::web::auth::Tenant;
use crate::web::extract::PathId;
use crate::web::fields::{Fields, Raw};
use crate::web::page::Params;
use crate::web::problem::Problem;

pub(crate) fn routes() -> Router<App> {
    let at = |action: &str| format!("/webhooks/{{endpoint}}/{action}");
    Router::new()
        .route(&at("facts"), get(facts))
        .route(&at("enable"), post(enable))
        .route(&at("disable"), post(disable))
        .route(&at("send-now"), post(send_now))
}

/// The status of a webhook, and the delivery that explains it.
pub(crate) struct WebhookStatus {
    pub view: EndpointView,
    /// The delivery that disabled the webhook, or else the one whose attempt failed last.
    failed_delivery: Option<DeliveryView>,
    /// The maximum number of attempts of a delivery.
    max_attempts: u32,
}

impl WebhookStatus {
    pub(crate) async fn of(app: &App, view: EndpointView) -> Result<Self, Problem> {
        let failed = view.health.last_error.as_ref().map(|error| error.delivery);
        let failed_delivery = match &view.state {
            EndpointState::Disabled(disabled) => disabled.delivery.or(failed),
            EndpointState::Enabled | EndpointState::Deleted => failed,
        };
        let failed_delivery = match failed_delivery {
            Some(id) => app.records().delivery_without_attempts(view.endpoint.account, id).await?,
            None => None,
        };
        let max_attempts = app.0.api.retry.max_attempts();
        Ok(Self { view, failed_delivery, max_attempts })
    }

    /// Whether failed deliveries wait for their next attempts.
    fn can_send_now(&self) -> bool {
        self.view.health.failure_count > 0 && self.view.backlog.pending() > 0
    }

    /// Identifies the form that the banner shows, so that a page can tell whether it is out of
    /// date.
    fn form_key(&self) -> &'static str {
        match self.view.state {
            EndpointState::Disabled(_) if self.view.backlog.held() > 0 => "disabled-with-held",
            EndpointState::Disabled(_) => "disabled",
            _ if self.can_send_now() => "enabled-with-pending",
            EndpointState::Enabled | EndpointState::Deleted => "enabled",
        }
    }
}

pub(crate) fn banner(ctx: &PageContext, status: &WebhookStatus) -> Markup {
    let (urls, view) = (ctx.urls(), &status.view);
    let id = view.endpoint.id;
    let class = match &view.state {
        EndpointState::Disabled(_) => "bad",
        _ if view.health.failure_count > 0 || has_no_subscriptions(&view.endpoint) => "warn",
        _ => "good",
    };
    html! {
        section #state class={ "banner " (class) } aria-label="State" {
            (fact_list(ctx, status))
            @if let EndpointState::Disabled(_) = view.state {
                form method="post" action=(subpath(&urls.webhook(id), "enable")) {
                    (ctx.csrf())
                    @if view.backlog.count() > 0 {
                        fieldset.choice {
                            legend { "Held deliveries" }
                            label { input type="radio" name="held" value="resume" checked; " Send" }
                            label { input type="radio" name="held" value="discard"; " Discard" }
                        }
                    }
                    button.primary type="submit" { "Enable" }
                }
            } @else {
                div.actions {
                    @if status.can_send_now() {
                        form method="post" action=(subpath(&urls.webhook(id), "send-now")) {
                            (ctx.csrf())
                            button type="submit" { "Send pending deliveries now" }
                        }
                    }
                    form method="post" action=(subpath(&urls.webhook(id), "disable")) {
                        (ctx.csrf())
                        button type="submit" { "Disable" }
                    }
                }
            }
        }
    }
}

/// The text of the banner, which is polled.
fn fact_list(ctx: &PageContext, status: &WebhookStatus) -> Markup {
    let view = &status.view;
    let page = subpath(&ctx.urls().webhook(view.endpoint.id), "facts");
    html! {
        div #facts hx-get=(with_query(&page, &[("version", status.form_key())])) hx-trigger="every 3s"
            hx-swap="outerHTML" {
            p.headline {
                (webhook_badge(&view.state, view.health.failure_count)) " "
                (headline(&ctx.urls(), status))
            }
            (attempts(status, ctx))
            (last_error(ctx, view))
            (backlog(ctx, view))
        }
    }
}

fn headline(urls: &Urls, status: &WebhookStatus) -> Markup {
    let view = &status.view;
    let settings = urls.webhook_settings(view.endpoint.id);
    html! {
        @match (&view.state, view.health.failure_count) {
            (EndpointState::Disabled(disabled), _) => (why_disabled(disabled)),
            (_, _) if has_no_subscriptions(&view.endpoint) => {
                "Not subscribed to any event types, so nothing is sent. Choose some in "
                a href=(settings) { "Settings" } "."
            }
            (_, 0) => "Sending normally.",
            (_, 1) => "The last attempt failed. Failed deliveries are retried.",
            (_, n) => { "The last " (count(n.into(), "attempt", "attempts")) " failed. Failed deliveries are retried." }
        }
    }
}

/// Whether the webhook is subscribed to nothing, which is rarely intended.
fn has_no_subscriptions(endpoint: &Endpoint) -> bool {
    matches!(&endpoint.event_types, Subscription::Only(names) if names.is_empty())
}

fn why_disabled(disabled: &Disabled) -> Markup {
    let since = time(disabled.at);
    html! {
        @match disabled.reason {
            DisabledReason::Exhausted => { "Disabled on " (since) ": a delivery failed on every attempt, including all retries." }
            DisabledReason::Manual => { "Disabled manually on " (since) "." }
            DisabledReason::Gone => { "Disabled on " (since) ": your server responded with 410 Gone, which means that it no longer accepts webhooks." }
        }
        " New deliveries are held, so nothing is lost."
        @if disabled.reason != DisabledReason::Manual { " Fix your endpoint, send a test event, then enable the webhook." }
    }
}

/// The attempts of the delivery that explains the status: made, left, and the next one.
fn attempts(status: &WebhookStatus, ctx: &PageContext) -> Markup {
    let max_attempts = u64::from(status.max_attempts);
    html! {
        @if let Some(DeliveryView { delivery, state: delivery_state }) = &status.failed_delivery {
            @let used = u64::from(delivery.attempts_in_schedule());
            // The retry schedule may have changed since the delivery was given up.
            @let left = if delivery.due().is_some() { max_attempts.saturating_sub(used) } else { 0 };
            @if *delivery_state != DeliveryState::Delivered {
                p {
                    a href=(ctx.urls().delivery(delivery.id)) { "Failed delivery" } ": "
                    (count(used, "attempt", "attempts")) " made, " (left) " left"
                    @match (delivery_state, delivery.due()) {
                        (DeliveryState::Pending, Some(due)) => { "; next attempt at " (time(due)) "." }
                        (DeliveryState::Held, _) => { "; the next attempt will be made once the webhook is enabled." }
                        _ => ".",
                    }
                    @if matches!(status.view.state, EndpointState::Enabled) && *delivery_state == DeliveryState::Pending {
                        " If all of them fail, the webhook is disabled and your contacts get an email."
                    }
                }
            }
        }
    }
}

fn last_error(ctx: &PageContext, view: &EndpointView) -> Markup {
    let failing = view.health.failure_count > 0 || matches!(view.state, EndpointState::Disabled(_));
    html! {
        @if let Some(LastError { at, kind, status, message, delivery }) = &view.health.last_error {
            div.last-error.faint[!failing] {
                p { span.strong { "Last error" } ", " (age(*at, ctx.now())) " ago ("
                    @match status { Some(status) => { "status " (status) } None => (kind.as_str()) }
                    "): " a href=(ctx.urls().delivery(*delivery)) { "view request and response" } }
                pre { (message) }
            }
        }
    }
}

fn backlog(ctx: &PageContext, view: &EndpointView) -> Markup {
    let word = match view.backlog {
        Backlog::Pending(_) => "pending",
        Backlog::Held(_) => "held",
    };
    html! {
        p {
            @match (view.backlog.count(), view.oldest_pending_at) {
                (0, _) => { "No " (word) " deliveries." }
                (n, None) => { (count(n, "delivery ", "deliveries ")) (word) "." }
                (n, Some(at)) => { (count(n, "delivery ", "deliveries ")) (word) ", the oldest for " (age(at, ctx.now())) "." }
            }
        }
    }
}

/// The refreshed text of the banner, or a reload of the page if its form is out of date.
async fn facts(
    ctx: PageContext,
    tenant: Tenant,
    PathId(id): PathId<EndpointId>,
    State(app): State<App>,
    mut params: Params,
) -> Result<Response, Problem> {
    let old_version = params.text("version");
    params.finish()?;
    let status = WebhookStatus::of(&app, app.service().endpoint(tenant.0, id).await?).await?;
    Ok(refreshed(old_version.as_deref(), status.form_key(), fact_list(&ctx, &status)))
}

async fn enable(
    ctx: PageContext,
    tenant: Tenant,
    PathId(id): PathId<EndpointId>,
    State(app): State<App>,
    form: Form,
) -> Result<Redirect, Problem> {
    let choice = Some(form.text("held")).filter(|choice| !choice.is_empty());
    let fields = Fields::from_form(choice.map(|choice| ("held", Raw::Text(choice))));
    let held = HeldAction::from(EnableEndpoint::parse(fields)?);
    app.service().enable_endpoint(tenant.0, id, held, None).await?;
    let flash = if held == HeldAction::Discard { Flash::Discarded } else { Flash::Enabled };
    Ok(Redirect::to(&flash.redirect_target(&ctx.urls().webhook(id))))
}

async fn send_now(
    ctx: PageContext,
    tenant: Tenant,
    PathId(id): PathId<EndpointId>,
    State(app): State<App>,
) -> Result<Redirect, Problem> {
    app.service().send_now(tenant.0, id, None).await?;
    Ok(Redirect::to(&Flash::SentNow.redirect_target(&ctx.urls().webhook(id))))
}

async fn disable(
    ctx: PageContext,
    tenant: Tenant,
    PathId(id): PathId<EndpointId>,
    State(app): State<App>,
) -> Result<Redirect, Problem> {
    app.service().disable_endpoint(tenant.0, id, None).await?;
    Ok(Redirect::to(&Flash::Disabled.redirect_target(&ctx.urls().webhook(id))))
}
