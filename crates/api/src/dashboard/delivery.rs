//! The page of one delivery: its status, and a timeline of its attempts, each with the request and
//! response.

use axum::Router;
use axum::extract::State;
use axum::response::{Redirect, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use maud::{Markup, html};
use postrider_domain::attempt::Attempt;
use postrider_domain::delivery::{Delivery, DeliveryState};
use postrider_domain::event::Payload;
use postrider_domain::ids::{AccountId, DeliveryId};
use postrider_service::deliveries::RetriedDelivery;
use postrider_store::{DeliveryView, EndpointView};

use super::components::{Tone, badge, copyable, delivery_badge, time, with_query};
use super::exchange::{SentRequest, error_text, exchange, status_badge};
use super::flash::Flash;
use super::format::{count, short_duration};
use super::layout::{NavItem, Page, PageContext, refreshed};
use super::urls::subpath;
use crate::App;
use crate::web::auth::Tenant;
use crate::web::extract::PathId;
use crate::web::page::Params;
use crate::web::problem::Problem;

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/deliveries/{delivery}", get(show))
        .route("/deliveries/{delivery}/banner", get(refresh_banner))
        .route("/deliveries/{delivery}/retry", post(retry))
        .route("/deliveries/{delivery}/discard", post(discard))
}

/// A delivery with everything that the page shows.
struct Detail {
    view: DeliveryView,
    attempts: Vec<Attempt>,
    /// The event's payload. `None` if the event is no longer stored.
    payload: Option<Bytes>,
    /// The delivery's endpoint. `None` if it was deleted.
    endpoint: Option<EndpointView>,
    /// The maximum number of attempts of a delivery.
    max_attempts: u32,
}

impl Detail {
    async fn of(app: &App, account: AccountId, id: DeliveryId) -> Result<Self, Problem> {
        let (view, attempts) = app.service().delivery(account, id).await?;
        let payload = match attempts.is_empty() {
            true => None,
            false => app.records().payload(account, view.delivery.event).await?,
        };
        let endpoint = app.records().endpoint(account, view.delivery.endpoint).await?;
        Ok(Self {
            view,
            attempts: attempts.into_iter().map(|recorded| recorded.attempt).collect(),
            payload: payload.as_ref().map(Payload::bytes).cloned(),
            endpoint,
            max_attempts: app.0.api.retry.max_attempts(),
        })
    }
}

async fn show(
    ctx: PageContext,
    tenant: Tenant,
    PathId(id): PathId<DeliveryId>,
    State(app): State<App>,
    params: Params,
) -> Result<Page, Problem> {
    params.finish()?;
    let detail = Detail::of(&app, tenant.0, id).await?;
    let urls = ctx.urls();
    let body = html! {
        p.crumbs {
            a href=(urls.webhooks()) { "Webhooks" }
            @if let Some(view) = &detail.endpoint {
                " / " a href=(urls.webhook(view.endpoint.id)) { bdi { (view.endpoint.name.as_str()) } }
            }
        }
        div.title {
            div { h1 { "Delivery" } p { (copyable(id)) } }
            (actions(&ctx, &detail))
        }
        (banner(&ctx, &detail.view, detail.max_attempts))
        (facts(&ctx, &detail))
        section aria-labelledby="attempts" {
            h2 #attempts { "Attempts" }
            (timeline(&ctx, &detail))
        }
    };
    Ok(ctx.page(NavItem::Webhooks, "Delivery", body))
}

/// The buttons for what can be done in the delivery's state.
fn actions(ctx: &PageContext, detail: &Detail) -> Markup {
    let (id, state) = (detail.view.delivery.id, detail.view.state);
    let retry = match state {
        DeliveryState::Pending => Some("Send now"),
        DeliveryState::Held => None,
        _ => detail.endpoint.is_some().then_some("Resend"),
    };
    let unfinished = matches!(state, DeliveryState::Pending | DeliveryState::Held);
    html! {
        div.actions {
            @if let Some(label) = retry { (action_button(ctx, id, "retry", label)) }
            @if unfinished { (action_button(ctx, id, "discard", "Discard")) }
        }
    }
}

fn action_button(ctx: &PageContext, id: DeliveryId, action: &str, label: &str) -> Markup {
    html! {
        form method="post" action=(subpath(&ctx.urls().delivery(id), action)) {
            (ctx.csrf())
            button type="submit" { (label) }
        }
    }
}

/// Identifies the state of a delivery, so that a page can tell whether it is out of date.
fn version(DeliveryView { delivery, state }: &DeliveryView) -> String {
    format!("{}-{}", crate::web::choice::json_name(state), delivery.attempt_count)
}

/// The status banner, which is polled until the delivery is finished.
fn banner(ctx: &PageContext, view: &DeliveryView, max_attempts: u32) -> Markup {
    let DeliveryView { delivery, state } = view;
    let page = subpath(&ctx.urls().delivery(delivery.id), "banner");
    let poll_url = with_query(&page, &[("version", &version(view))]);
    let poll_url = (*state == DeliveryState::Pending).then_some(poll_url);
    let class = match state {
        DeliveryState::Delivered => "good",
        DeliveryState::Exhausted => "bad",
        DeliveryState::Held => "warn",
        DeliveryState::Pending | DeliveryState::Discarded => "plain",
    };
    html! {
        div #banner class={ "banner " (class) } hx-get=[poll_url.as_ref()] hx-trigger=[poll_url.as_ref().map(|_| "every 2s")]
            hx-swap="outerHTML" {
            p.headline { (delivery_badge(*state)) " " (status_text(ctx, view)) }
            p.faint {
                (delivery.attempts_in_schedule()) " of " (count(max_attempts.into(), "attempt", "attempts"))
                @if delivery.schedule.earlier_attempts > 0 {
                    ", after " (count(delivery.schedule.earlier_attempts.into(), "attempt", "attempts"))
                    " before the webhook was enabled again"
                }
            }
        }
    }
}

fn status_text(ctx: &PageContext, DeliveryView { delivery, state }: &DeliveryView) -> Markup {
    let now = ctx.now();
    let webhook = ctx.urls().webhook(delivery.endpoint);
    html! {
        @match (state, delivery.due()) {
            (DeliveryState::Pending, Some(due)) if due <= now => {
                "An attempt is due and will be made shortly."
            }
            (DeliveryState::Pending, due) => {
                @if delivery.attempt_count == 0 { "The first attempt" }
                @else { (count(delivery.attempt_count.into(), "attempt", "attempts")) " failed. The next one" }
                " is due" @if let Some(due) = due { " in " (short_duration(due.since(now))) ", at " (time(due)) } "."
            }
            (DeliveryState::Delivered, _) => {
                "Delivered"
                @if let Some(end) = delivery.finished_at() {
                    " at " (time(end)) ", " (short_duration(end.since(delivery.created_at))) " after it was created"
                } "."
            }
            (DeliveryState::Exhausted, _) => {
                "Gave up after " (count(delivery.attempt_count.into(), "attempt", "attempts")) ". "
                "Once your server works again, resend this delivery."
            }
            (DeliveryState::Held, _) => {
                "On hold while " a href=(webhook) { "the webhook" } " is disabled. "
                "It will be sent once the webhook is enabled, unless you discard held deliveries."
            }
            (DeliveryState::Discarded, _) => {
                "Discarded by someone, or because the webhook was deleted"
                @if let Some(end) = delivery.finished_at() { ", at " (time(end)) }
                ". Nothing more will be sent."
            }
        }
    }
}

fn facts(ctx: &PageContext, detail: &Detail) -> Markup {
    let urls = ctx.urls();
    let delivery = &detail.view.delivery;
    html! {
        dl.facts {
            dt { "Event" } dd { a href=(urls.event(delivery.event)) { code { (delivery.event) } } }
            dt { "Event type" } dd { code { (delivery.event_type) } }
            dt { "Webhook" }
            dd {
                @match &detail.endpoint {
                    Some(view) => {
                        a href=(urls.webhook(view.endpoint.id)) { bdi { (view.endpoint.name.as_str()) } }
                        " " span.url { bdi { (view.endpoint.url.as_str()) } }
                    }
                    None => { code { (delivery.endpoint) } " was deleted" }
                }
            }
            dt { "Created" } dd { (time(delivery.created_at)) }
        }
    }
}

fn timeline(ctx: &PageContext, detail: &Detail) -> Markup {
    let delivery = &detail.view.delivery;
    let last = detail.attempts.len();
    let mut before = delivery.created_at;
    let gaps = detail.attempts.iter().map(|attempt| {
        let gap = attempt.at.since(before);
        before = attempt.at;
        gap
    });
    let gaps: Vec<_> = gaps.collect();
    html! {
        ol.timeline {
            li { (time(delivery.created_at)) " Delivery created." }
            @for (index, (attempt, gap)) in detail.attempts.iter().zip(gaps).enumerate() {
                li.attempt {
                    p.gap { (short_duration(gap)) " later" }
                    (self::attempt(attempt, detail.payload.as_deref(), index + 1 == last))
                }
            }
            (timeline_end(ctx, detail))
        }
    }
}

fn attempt(attempt: &Attempt, payload: Option<&[u8]>, open: bool) -> Markup {
    let sent = SentRequest { head: &attempt.request, body: payload };
    html! {
        details open[open] {
            summary {
                span.strong { "Attempt " (attempt.number) } " "
                @match (&attempt.response, &attempt.error) {
                    (Some(response), _) => (status_badge(response.status)),
                    (None, Some(error)) => (badge(Tone::Bad, error_text(error.kind))),
                    (None, None) => (badge(Tone::Good, "success")),
                }
                " " (time(attempt.at)) " "
                span.faint { "took " (attempt.duration_ms) " ms" }
            }
            (exchange(&format!("attempt-{}", attempt.number), sent, attempt.response.as_ref(), attempt.error.as_ref()))
        }
    }
}

/// The end of the timeline: the next attempt, or the outcome.
fn timeline_end(ctx: &PageContext, Detail { view, attempts, .. }: &Detail) -> Markup {
    let Delivery { created_at, .. } = view.delivery;
    let before = attempts.last().map_or(created_at, |attempt| attempt.at);
    html! {
        @match (view.state, view.delivery.due(), view.delivery.finished_at()) {
            (DeliveryState::Pending, Some(due), _) => {
                li.next {
                    p.gap { (short_duration(due.since(before))) " later" }
                    (time(due)) " " span.strong { "Attempt " (attempts.len() + 1) }
                    @if due <= ctx.now() { " is due." } @else { " will be due." }
                }
            }
            (DeliveryState::Held, ..) => {
                li.next { span.strong { "Attempt " (attempts.len() + 1) } " will be made once the webhook is enabled." }
            }
            (DeliveryState::Delivered, _, Some(end)) => { li.good { (time(end)) " Delivered." } }
            (DeliveryState::Exhausted, _, Some(end)) => { li.bad { (time(end)) " Gave up: no attempts left." } }
            (DeliveryState::Discarded, _, Some(end)) => { li { (time(end)) " Discarded." } }
            _ => {}
        }
    }
}

/// The refreshed banner, or a reload of the page if it is out of date.
async fn refresh_banner(
    ctx: PageContext,
    tenant: Tenant,
    PathId(id): PathId<DeliveryId>,
    State(app): State<App>,
    mut params: Params,
) -> Result<Response, Problem> {
    let old_version = params.text("version");
    params.finish()?;
    let view = app.records().delivery_without_attempts(tenant.0, id).await?;
    let view = view.ok_or_else(|| Problem::not_found("delivery"))?;
    let part = banner(&ctx, &view, app.0.api.retry.max_attempts());
    Ok(refreshed(old_version.as_deref(), &version(&view), part))
}

async fn retry(
    ctx: PageContext,
    tenant: Tenant,
    PathId(id): PathId<DeliveryId>,
    State(app): State<App>,
) -> Result<Redirect, Problem> {
    let (flash, view) = match app.service().retry_delivery(tenant.0, id, None).await? {
        RetriedDelivery::BroughtForward(view) => (Flash::SentNow, view),
        RetriedDelivery::Created(view) => (Flash::Resent, view),
    };
    Ok(Redirect::to(&flash.redirect_target(&ctx.urls().delivery(view.delivery.id))))
}

async fn discard(
    ctx: PageContext,
    tenant: Tenant,
    PathId(id): PathId<DeliveryId>,
    State(app): State<App>,
) -> Result<Redirect, Problem> {
    app.service().discard_delivery(tenant.0, id, None).await?;
    Ok(Redirect::to(&Flash::DeliveryDiscarded.redirect_target(&ctx.urls().delivery(id))))
}
