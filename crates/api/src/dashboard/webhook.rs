//! The page of one webhook: how it is and why, in words; how it has fared, in charts; what was sent
//! to it; whom email told.

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use maud::{Markup, html};
use postrider_domain::delivery::DeliveryState;
use postrider_domain::endpoint::{
    Disabled, DisabledReason, Endpoint, LastError, State as Enabling,
};
use postrider_domain::event::EventTypeName;
use postrider_domain::ids::{AccountId, DeliveryId, EndpointId};
use postrider_domain::statistics::Span;
use postrider_domain::time::Timestamp;
use postrider_store::{
    DeliveryFilter, DeliveryView, EndpointView, Held, Page as ListPage, PageRequest,
};
use serde_json::json;

use super::form::{self, Form};
use super::frame::{Fragment, Page, Place, Visit};
use super::links::Links;
use super::parts::{
    address, ago, copyable, count, delivery_badge, empty, pager, select, time, webhook_badge,
};
use super::said::Said;
use super::{chart, emails};
use crate::App;
use crate::auth::Tenant;
use crate::endpoints;
use crate::error::Problem;
use crate::extract::PathId;
use crate::fields::{choose, name_of};
use crate::page::Params;
use crate::wire::delivery::STATES;

/// Deliveries that the page shows at once.
const SHOWN: usize = 25;

pub(crate) fn routes() -> Router<App> {
    let at =
        |action: &str| format!("/dashboard/accounts/{{account}}/webhooks/{{endpoint}}{action}");
    Router::new()
        .route(&at(""), get(show))
        .route(&at("/facts"), get(facts))
        .route(&at("/deliveries"), get(deliveries))
        .route(&at("/enable"), post(enable))
        .route(&at("/disable"), post(disable))
}

/// What is shown of a webhook, as it was asked for.
struct Query {
    span: Span,
    filter: DeliveryFilter,
    after: Option<DeliveryId>,
}

impl Query {
    fn read(params: &mut Params) -> Self {
        let span = params.take("span", |text| {
            Span::ALL
                .into_iter()
                .find(|span| span.as_str() == text)
                .ok_or("must be 1h, 24h, 7d or 30d")
        });
        let filter = DeliveryFilter {
            state: params.take("state", |text| choose(text, &STATES)),
            event_type: params.take("event_type", EventTypeName::parse),
            since: params.take("since", str::parse::<Timestamp>),
        };
        Self { span: span.unwrap_or(Span::Day), filter, after: params.take("cursor", str::parse) }
    }

    /// A page with the same restrictions, and these parameters besides.
    fn address(&self, page: &str, more: &[(&str, &str)]) -> String {
        let state = self.filter.state.as_ref().map(name_of).unwrap_or_default();
        let event_type =
            self.filter.event_type.as_ref().map(ToString::to_string).unwrap_or_default();
        let since = self.filter.since.map(|at| at.to_string()).unwrap_or_default();
        let same = [("state", &*state), ("event_type", &*event_type), ("since", &*since)];
        address(page, &[&same[..], more].concat())
    }
}

async fn show(
    visit: Visit,
    tenant: Tenant,
    PathId(id): PathId<EndpointId>,
    State(app): State<App>,
    mut params: Params,
) -> Result<Page, Problem> {
    let query = Query::read(&mut params);
    params.finish()?;
    let view = app.door().endpoint(tenant.0, id).await?;
    let state = Standing::of(&app, view).await?;
    let statistics = app.records().statistics(tenant.0, id, query.span, visit.now()).await?;
    let deliveries = list(&app, tenant.0, id, &query).await?;
    let emails = app.records().emails(tenant.0, id, emails::SHOWN).await?;
    let links = visit.links();
    let endpoint = &state.view.endpoint;
    let body = html! {
        (tabs(&links, endpoint, false))
        (banner(&visit, &state))
        section aria-labelledby="charts" {
            div.title { h2 #charts { "How it fares" } (spans(&links, id, &query)) }
            (chart::charts(&statistics))
        }
        section aria-labelledby="deliveries" {
            h2 #deliveries { "Deliveries" }
            (filter(&links, id, &query))
            (delivery_list(&visit, id, &query, &deliveries))
        }
        section aria-labelledby="emails" {
            h2 #emails { "Emails sent" }
            (emails::emails(&emails))
        }
    };
    Ok(visit.page(Place::Webhooks, endpoint.name.as_str(), body))
}

/// The heading of a webhook's pages, and the way between them.
pub(crate) fn tabs(links: &Links, endpoint: &Endpoint, settings: bool) -> Markup {
    let id = endpoint.id;
    let page = |current: bool| current.then_some("page");
    html! {
        p.crumbs { a href=(links.webhooks()) { "Webhooks" } }
        div.title {
            div {
                h1 { bdi { (endpoint.name.as_str()) } }
                p.url { bdi { (endpoint.url.as_str()) } }
                p { (copyable(id)) }
            }
            div.actions {
                a.button href=(links.test(id)) { "Send test event" }
                a.button href=(address(&links.new_replay(), &[("endpoint", &id.to_string())])) { "Replay" }
            }
        }
        nav.tabs aria-label="Webhook" {
            a href=(links.webhook(id)) aria-current=[page(!settings)] { "Overview" }
            a href=(links.webhook_settings(id)) aria-current=[page(settings)] { "Settings" }
        }
    }
}

/// How a webhook is, and the delivery that tells why.
struct Standing {
    view: EndpointView,
    /// The delivery that disabled it, or else the one whose attempt failed last.
    culprit: Option<DeliveryView>,
    /// Attempts that a delivery has.
    most_attempts: u8,
}

impl Standing {
    async fn of(app: &App, view: EndpointView) -> Result<Self, Problem> {
        let failed = view.health.last_error.as_ref().map(|error| error.delivery);
        let culprit = match &view.state {
            Enabling::Disabled(disabled) => disabled.delivery.or(failed),
            Enabling::Enabled | Enabling::Deleted => failed,
        };
        let culprit = match culprit {
            Some(id) => app.records().delivery(view.endpoint.account, id).await?,
            None => None,
        };
        let most_attempts = app.0.api.retry.max_retries().saturating_add(1);
        Ok(Self { view, culprit: culprit.map(|(view, _)| view), most_attempts })
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

fn banner(visit: &Visit, state: &Standing) -> Markup {
    let (links, view) = (visit.links(), &state.view);
    let id = view.endpoint.id;
    let class = match &view.state {
        Enabling::Disabled(_) => "bad",
        _ if view.health.failure_count > 0 => "warn",
        _ => "good",
    };
    html! {
        section #state class={ "banner " (class) } aria-label="State" {
            (fact_list(visit, state))
            @if let Enabling::Disabled(_) = view.state {
                form method="post" action=(links.webhook_action(id, "enable")) {
                    (visit.csrf())
                    @if view.unfinished > 0 {
                        fieldset.choice {
                            legend { "What is held is" }
                            label { input type="radio" name="held" value="resume" checked; " sent" }
                            label { input type="radio" name="held" value="discard"; " discarded" }
                        }
                    }
                    button.primary type="submit" { "Enable" }
                }
            } @else {
                form method="post" action=(links.webhook_action(id, "disable")) {
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
    let page = visit.links().webhook_action(view.endpoint.id, "facts");
    html! {
        div #facts hx-get=(address(&page, &[("was", state.word())])) hx-trigger="every 3s"
            hx-swap="outerHTML" {
            p.headline {
                (webhook_badge(&view.state, view.health.failure_count)) " "
                (headline(state))
            }
            (attempts(state, visit))
            (last_error(visit, view))
            (waiting(visit, view))
        }
    }
}

fn headline(state: &Standing) -> Markup {
    let view = &state.view;
    html! {
        @match (&view.state, view.health.failure_count) {
            (Enabling::Disabled(disabled), _) => (why_disabled(disabled)),
            (_, 0) => "Webhooks are sent, and nothing is failing.",
            (_, 1) => "The last attempt failed. Failed deliveries are tried again.",
            (_, n) => { "The last " (count(n.into(), "attempt", "attempts")) " all failed. Failed deliveries are tried again." }
        }
    }
}

fn why_disabled(disabled: &Disabled) -> Markup {
    let since = time(disabled.at);
    html! {
        @match disabled.reason {
            DisabledReason::Exhausted => { "Disabled since " (since) ": every attempt of a delivery failed, the retries too." }
            DisabledReason::Manual => { "Disabled by hand since " (since) "." }
            DisabledReason::Gone => { "Disabled since " (since) ": it answered 410 Gone, which says that it wants no webhooks." }
        }
        " Nothing is sent; what comes for it is held, and nothing is lost. Mend it, send a test event, and enable it."
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
    let was = params.take("was", |text| Ok::<_, String>(text.to_owned()));
    params.finish()?;
    let state = Standing::of(&app, app.door().endpoint(tenant.0, id).await?).await?;
    if was.is_some_and(|was| was != state.word()) {
        return Ok([("hx-refresh", "true")].into_response());
    }
    Ok(Fragment(fact_list(&visit, &state)).into_response())
}

fn spans(links: &Links, id: EndpointId, query: &Query) -> Markup {
    html! {
        nav.spans aria-label="Time shown" {
            @for span in Span::ALL {
                a href={ (query.address(&links.webhook(id), &[("span", span.as_str())])) "#charts" }
                    aria-current=[(span == query.span).then_some("true")] { (span.as_str()) }
            }
        }
    }
}

fn filter(links: &Links, id: EndpointId, query: &Query) -> Markup {
    let names = STATES.map(|state| name_of(&state));
    let mut states = vec![("", "Any state")];
    states.extend(names.iter().map(|name| (name.as_str(), name.as_str())));
    let chosen = query.filter.state.as_ref().map(name_of).unwrap_or_default();
    let event_type = query.filter.event_type.as_ref().map(ToString::to_string).unwrap_or_default();
    html! {
        form.filter method="get" action={ (links.webhook(id)) "#deliveries" } {
            input type="hidden" name="span" value=(query.span.as_str());
            (select("state", "State", &states, &chosen))
            label for="event_type" { "Event type" }
            input #event_type name="event_type" value=(event_type) placeholder="any" autocomplete="off" spellcheck="false";
            button type="submit" { "Show" }
        }
    }
}

async fn list(
    app: &App,
    account: AccountId,
    id: EndpointId,
    query: &Query,
) -> Result<ListPage<DeliveryView>, Problem> {
    let request = PageRequest { limit: SHOWN, after: query.after };
    Ok(app.records().deliveries(account, id, query.filter.clone(), request).await?)
}

/// The deliveries. The first of them are asked for again while somebody looks.
fn delivery_list(
    visit: &Visit,
    id: EndpointId,
    query: &Query,
    page: &ListPage<DeliveryView>,
) -> Markup {
    let links = visit.links();
    let again = query.address(&links.webhook_action(id, "deliveries"), &[]);
    let again = query.after.is_none().then_some(again);
    let next = page.next.as_ref().map(|cursor| {
        let more = [("span", query.span.as_str()), ("cursor", cursor.as_str())];
        query.address(&links.webhook(id), &more) + "#deliveries"
    });
    html! {
        div #delivery-list hx-get=[again.as_ref()] hx-trigger=[again.as_ref().map(|_| "every 5s")]
            hx-swap="outerHTML" {
            @if page.items.is_empty() && page.next.is_none() {
                (empty("No deliveries", "Publish an event of a type that it wants, or send a test event.",
                    Some((&links.test(id), "Send test event"))))
            } @else {
                div.scroll tabindex="0" role="region" aria-label="Deliveries" {
                    table {
                        thead { tr {
                            th scope="col" { "Made" } th scope="col" { "Event type" } th scope="col" { "State" }
                            th.number scope="col" { "Attempts" } th scope="col" { "Next or end" }
                        } }
                        tbody { @for view in &page.items { (delivery_row(&links, view)) } }
                    }
                }
                (pager(next.as_deref()))
            }
        }
    }
}

fn delivery_row(links: &Links, DeliveryView { delivery, state }: &DeliveryView) -> Markup {
    let due = delivery.due().filter(|_| *state == DeliveryState::Pending);
    html! {
        tr {
            td { a id=(delivery.id) href=(links.delivery(delivery.id)) { (time(delivery.created_at)) } }
            td { code { (delivery.event_type) } }
            td { (delivery_badge(*state)) }
            td.number { (delivery.attempt_count) }
            td {
                @match (due, delivery.finished_at()) {
                    (Some(due), _) => { "next " (time(due)) }
                    (None, Some(end)) => (time(end)),
                    (None, None) => span.faint { "when enabled" },
                }
            }
        }
    }
}

/// The deliveries anew.
async fn deliveries(
    visit: Visit,
    tenant: Tenant,
    PathId(id): PathId<EndpointId>,
    State(app): State<App>,
    mut params: Params,
) -> Result<Fragment, Problem> {
    let query = Query::read(&mut params);
    params.finish()?;
    app.door().endpoint(tenant.0, id).await?;
    let page = list(&app, tenant.0, id, &query).await?;
    Ok(Fragment(delivery_list(&visit, id, &query, &page)))
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
    let (_, held) = endpoints::open(&app, tenant.0, id, &form::body(&held)).await?;
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
