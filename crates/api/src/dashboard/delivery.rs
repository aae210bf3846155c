//! The page of one delivery: how it stands, in words, and a time line of its attempts, each with what
//! went over the wire.

use axum::Router;
use axum::extract::State;
use axum::response::{Redirect, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use maud::{Markup, html};
use postrider_domain::delivery::{Attempt, Delivery, DeliveryState};
use postrider_domain::event::Payload;
use postrider_domain::ids::{AccountId, DeliveryId};
use postrider_store::{DeliveryView, EndpointView};

use super::exchange::{Sent, exchange, failure, status};
use super::format::{count, length};
use super::frame::{Page, Place, Visit, anew};
use super::links::below;
use super::parts::{Kind, address, badge, copyable, delivery_badge, time};
use super::said::Said;
use crate::App;
use crate::web::auth::Tenant;
use crate::web::extract::PathId;
use crate::web::page::Params;
use crate::web::problem::Problem;

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/deliveries/{delivery}", get(show))
        .route("/deliveries/{delivery}/standing", get(standing))
        .route("/deliveries/{delivery}/retry", post(retry))
}

/// A delivery with what the page says of it.
struct Subject {
    view: DeliveryView,
    attempts: Vec<Attempt>,
    /// What each attempt sent; none when the event is no longer kept.
    payload: Option<Bytes>,
    /// Its endpoint; none when it was deleted.
    endpoint: Option<EndpointView>,
    /// Attempts that a delivery has.
    most_attempts: u32,
}

impl Subject {
    async fn of(app: &App, account: AccountId, id: DeliveryId) -> Result<Self, Problem> {
        let (view, attempts) = app.door().delivery(account, id).await?;
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
            most_attempts: app.0.api.retry.max_attempts(),
        })
    }
}

async fn show(
    visit: Visit,
    tenant: Tenant,
    PathId(id): PathId<DeliveryId>,
    State(app): State<App>,
    params: Params,
) -> Result<Page, Problem> {
    params.finish()?;
    let subject = Subject::of(&app, tenant.0, id).await?;
    let links = visit.links();
    let body = html! {
        p.crumbs {
            a href=(links.webhooks()) { "Webhooks" }
            @if let Some(view) = &subject.endpoint {
                " / " a href=(links.webhook(view.endpoint.id)) { bdi { (view.endpoint.name.as_str()) } }
            }
        }
        div.title {
            div { h1 { "Delivery" } p { (copyable(id)) } }
            @if subject.endpoint.is_some() { (again(&visit, id)) }
        }
        (in_words(&visit, &subject.view, subject.most_attempts))
        (facts(&visit, &subject))
        section aria-labelledby="attempts" {
            h2 #attempts { "Attempts" }
            (timeline(&visit, &subject))
        }
    };
    Ok(visit.page(Place::Webhooks, "Delivery", body))
}

fn again(visit: &Visit, id: DeliveryId) -> Markup {
    html! {
        form method="post" action=(below(&visit.links().delivery(id), "retry")) {
            (visit.csrf())
            button type="submit" { "Send again" }
        }
    }
}

/// What tells a page whether it shows the delivery as it is.
fn mark(DeliveryView { delivery, state }: &DeliveryView) -> String {
    format!("{}-{}", crate::rest::fields::name_of(state), delivery.attempt_count)
}

/// How it stands. It is asked for again until it comes to its end.
fn in_words(visit: &Visit, view: &DeliveryView, most_attempts: u32) -> Markup {
    let DeliveryView { delivery, state } = view;
    let page = below(&visit.links().delivery(delivery.id), "standing");
    let again = address(&page, &[("was", &mark(view))]);
    let again = (*state == DeliveryState::Pending).then_some(again);
    let class = match state {
        DeliveryState::Delivered => "good",
        DeliveryState::Exhausted => "bad",
        DeliveryState::Held => "warn",
        DeliveryState::Pending | DeliveryState::Discarded => "plain",
    };
    html! {
        div #standing class={ "banner " (class) } hx-get=[again.as_ref()] hx-trigger=[again.as_ref().map(|_| "every 2s")]
            hx-swap="outerHTML" {
            p.headline { (delivery_badge(*state)) " " (sentence(visit, view)) }
            p.faint {
                (count(delivery.attempt_count.into(), "attempt", "attempts")) " of at most " (most_attempts)
            }
        }
    }
}

fn sentence(visit: &Visit, DeliveryView { delivery, state }: &DeliveryView) -> Markup {
    let now = visit.now();
    let webhook = visit.links().webhook(delivery.endpoint);
    html! {
        @match (state, delivery.due()) {
            (DeliveryState::Pending, Some(due)) if due <= now => {
                "An attempt is due, and is made as soon as its turn comes."
            }
            (DeliveryState::Pending, due) => {
                @if delivery.attempt_count == 0 { "The first attempt" } @else { "It failed so far. The next attempt" }
                " is due" @if let Some(due) = due { " in " (length(due.since(now))) ", at " (time(due)) } "."
            }
            (DeliveryState::Delivered, _) => {
                "It was delivered"
                @if let Some(end) = delivery.finished_at() {
                    " at " (time(end)) ", " (length(end.since(delivery.created_at))) " after it was made"
                } "."
            }
            (DeliveryState::Exhausted, _) => {
                "Every attempt failed, the last one too, so it was given up. "
                "Once the receiver works, send it again."
            }
            (DeliveryState::Held, _) => {
                "It is kept while " a href=(webhook) { "its webhook" } " is disabled, and nothing is lost: "
                "it is sent when the webhook is enabled, unless what is held is discarded then."
            }
            (DeliveryState::Discarded, _) => {
                "It was discarded"
                @if let Some(end) = delivery.finished_at() { " at " (time(end)) }
                ": somebody gave up what was held, or removed the webhook. Nothing more is sent."
            }
        }
    }
}

fn facts(visit: &Visit, subject: &Subject) -> Markup {
    let links = visit.links();
    let delivery = &subject.view.delivery;
    html! {
        dl.facts {
            dt { "Event" } dd { a href=(links.event(delivery.event)) { code { (delivery.event) } } }
            dt { "Event type" } dd { code { (delivery.event_type) } }
            dt { "Webhook" }
            dd {
                @match &subject.endpoint {
                    Some(view) => {
                        a href=(links.webhook(view.endpoint.id)) { bdi { (view.endpoint.name.as_str()) } }
                        " " span.url { bdi { (view.endpoint.url.as_str()) } }
                    }
                    None => { code { (delivery.endpoint) } " was deleted" }
                }
            }
            dt { "Made" } dd { (time(delivery.created_at)) }
        }
    }
}

fn timeline(visit: &Visit, subject: &Subject) -> Markup {
    let delivery = &subject.view.delivery;
    let last = subject.attempts.len();
    let mut before = delivery.created_at;
    let gaps = subject.attempts.iter().map(|attempt| {
        let gap = attempt.at.since(before);
        before = attempt.at;
        gap
    });
    let gaps: Vec<_> = gaps.collect();
    html! {
        ol.timeline {
            li { (time(delivery.created_at)) " The delivery was made." }
            @for (index, (attempt, gap)) in subject.attempts.iter().zip(gaps).enumerate() {
                li.attempt {
                    p.gap { (length(gap)) " later" }
                    (self::attempt(attempt, subject.payload.as_deref(), index + 1 == last))
                }
            }
            (what_comes(visit, subject))
        }
    }
}

fn attempt(attempt: &Attempt, payload: Option<&[u8]>, open: bool) -> Markup {
    let sent = Sent { head: &attempt.request, body: payload };
    html! {
        details open[open] {
            summary {
                span.strong { "Attempt " (attempt.number) } " "
                @match (&attempt.response, &attempt.error) {
                    (Some(response), _) => (status(response.status)),
                    (None, Some(error)) => (badge(Kind::Bad, failure(error.kind))),
                    (None, None) => (badge(Kind::Good, "success")),
                }
                " " (time(attempt.at)) " "
                span.faint { "took " (attempt.duration_ms) " ms" }
            }
            (exchange(&format!("attempt-{}", attempt.number), sent, attempt.response.as_ref(), attempt.error.as_ref()))
        }
    }
}

/// The end of the time line: what is still to come, or how it ended.
fn what_comes(visit: &Visit, Subject { view, attempts, .. }: &Subject) -> Markup {
    let Delivery { created_at, .. } = view.delivery;
    let before = attempts.last().map_or(created_at, |attempt| attempt.at);
    html! {
        @match (view.state, view.delivery.due(), view.delivery.finished_at()) {
            (DeliveryState::Pending, Some(due), _) => {
                li.next {
                    p.gap { (length(due.since(before))) " later" }
                    (time(due)) " " span.strong { "Attempt " (attempts.len() + 1) }
                    @if due <= visit.now() { " is due." } @else { " will be due." }
                }
            }
            (DeliveryState::Held, ..) => {
                li.next { span.strong { "Attempt " (attempts.len() + 1) } " is made once the webhook is enabled." }
            }
            (DeliveryState::Delivered, _, Some(end)) => { li.good { (time(end)) " Delivered." } }
            (DeliveryState::Exhausted, _, Some(end)) => { li.bad { (time(end)) " Given up: no attempts are left." } }
            (DeliveryState::Discarded, _, Some(end)) => { li { (time(end)) " Discarded." } }
            _ => {}
        }
    }
}

/// How it stands now; the whole page anew, when it is not as the page shows it.
async fn standing(
    visit: Visit,
    tenant: Tenant,
    PathId(id): PathId<DeliveryId>,
    State(app): State<App>,
    mut params: Params,
) -> Result<Response, Problem> {
    let was = params.text("was");
    params.finish()?;
    let view = app.records().delivery_alone(tenant.0, id).await?;
    let view = view.ok_or_else(|| Problem::not_found("delivery"))?;
    let part = in_words(&visit, &view, app.0.api.retry.max_attempts());
    Ok(anew(was.as_deref(), &mark(&view), part))
}

async fn retry(
    visit: Visit,
    tenant: Tenant,
    PathId(id): PathId<DeliveryId>,
    State(app): State<App>,
) -> Result<Redirect, Problem> {
    let made = app.door().retry(tenant.0, id).await?;
    Ok(Redirect::to(&Said::Resent.at(&visit.links().delivery(made.delivery.id))))
}
