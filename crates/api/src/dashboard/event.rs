//! The page of one event: its payload, who received it, and sending it again.

use std::collections::HashMap;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use maud::{Markup, html};
use postrider_domain::delivery::DeliveryState;
use postrider_domain::event::Event;
use postrider_domain::ids::{AccountId, DeliveryId, EndpointId, EventId};
use postrider_store::{DeliveryView, Page as ListPage, PageRequest};
use serde_json::json;

use super::form::{self, Errors, Form};
use super::frame::{Fragment, Page, Place, Visit};
use super::indent::indented;
use super::links::Links;
use super::parts::{address, copyable, count, delivery_badge, empty, pager, time};
use super::said::Said;
use super::webhook_choice::WebhookChoice;
use crate::App;
use crate::auth::Tenant;
use crate::error::Problem;
use crate::extract::PathId;
use crate::page::Params;
use crate::receivers;

/// Deliveries that the page shows at once.
const SHOWN: usize = 25;

pub(crate) fn routes() -> Router<App> {
    let at = |action: &str| format!("/dashboard/accounts/{{account}}/events/{{event}}{action}");
    Router::new()
        .route(&at(""), get(show))
        .route(&at("/deliveries"), get(deliveries))
        .route(&at("/resend"), post(resend))
}

/// An event with how many webhooks received it when it was accepted.
type Accepted = (Event, u64);

async fn accepted(app: &App, account: AccountId, id: EventId) -> Result<Accepted, Problem> {
    let found = app.records().event(account, id).await?;
    found.ok_or_else(|| Problem::not_found("event"))
}

async fn show(
    visit: Visit,
    tenant: Tenant,
    PathId(id): PathId<EventId>,
    State(app): State<App>,
    mut params: Params,
) -> Result<Page, Problem> {
    let after = params.take("cursor", str::parse);
    params.finish()?;
    let event = accepted(&app, tenant.0, id).await?;
    page(&visit, &app, &event, after, &Choice::default(), None).await
}

/// What the form holds, as it was written.
#[derive(Default)]
struct Choice {
    endpoint: String,
}

async fn page(
    visit: &Visit,
    app: &App,
    (event, receivers): &Accepted,
    after: Option<DeliveryId>,
    choice: &Choice,
    problem: Option<&Problem>,
) -> Result<Page, Problem> {
    let links = visit.links();
    let received = Received::of(app, event.account, event.id, after).await?;
    let webhooks = WebhookChoice::of(app, event.account).await?;
    let body = html! {
        p.crumbs { a href=(links.events()) { "Events" } }
        h1 { "Event " code { (event.event_type) } }
        p { (copyable(event.id)) }
        (facts(&links, event, *receivers))
        section aria-labelledby="payload" {
            h2 #payload { "Payload" }
            (payload(event))
        }
        section aria-labelledby="receivers" {
            h2 #receivers { "Who received it" }
            (received.show(&links, event.id, *receivers))
        }
        section aria-labelledby="resend" {
            h2 #resend { "Send it again" }
            (again(visit, event.id, &webhooks, choice, problem))
        }
    };
    Ok(visit.page(Place::Events, &format!("Event {}", event.event_type), body))
}

fn facts(links: &Links, event: &Event, receivers: u64) -> Markup {
    let bytes = u64::try_from(event.payload.bytes().len()).unwrap_or(u64::MAX);
    html! {
        p {
            "Accepted " (time(event.created_at)) " with "
            (count(bytes, "byte", "bytes")) " of payload, for "
            (count(receivers, "webhook", "webhooks")) ". "
            a href=(links.event_type(&event.event_type)) { "About this event type" }
        }
    }
}

fn payload(event: &Event) -> Markup {
    let text = String::from_utf8_lossy(event.payload.bytes());
    let pretty = indented(&text).filter(|pretty| *pretty != text);
    let exact = html! {
        pre #exact-payload tabindex="0" aria-label="Payload, byte for byte" { (text) }
        button.copy.quiet type="button" data-copy-from="exact-payload" hidden { "Copy the payload" }
    };
    html! {
        @match pretty {
            Some(pretty) => {
                pre tabindex="0" aria-label="Payload, indented" { (pretty) }
                details { summary { "As it is sent, byte for byte" } (exact) }
            }
            None => (exact),
        }
    }
}

/// Some of an event's deliveries, with the webhooks that they went to.
struct Received {
    page: ListPage<DeliveryView>,
    after: Option<DeliveryId>,
    /// Those that are still there.
    names: HashMap<EndpointId, String>,
}

impl Received {
    async fn of(
        app: &App,
        account: AccountId,
        id: EventId,
        after: Option<DeliveryId>,
    ) -> Result<Self, Problem> {
        let request = PageRequest { limit: SHOWN, after };
        let page = app.records().event_deliveries(account, id, request).await?;
        let page = page.ok_or_else(|| Problem::not_found("event"))?;
        let mut names = HashMap::new();
        for view in &page.items {
            let endpoint = view.delivery.endpoint;
            if !names.contains_key(&endpoint)
                && let Some(found) = app.records().endpoint(account, endpoint).await?
            {
                names.insert(endpoint, found.endpoint.name.as_str().to_owned());
            }
        }
        Ok(Self { page, after, names })
    }

    /// The deliveries. The first of them are asked for again while some may change.
    fn show(&self, links: &Links, id: EventId, receivers: u64) -> Markup {
        let changes = |view: &DeliveryView| view.state == DeliveryState::Pending;
        let moves =
            receivers > 0 && self.page.items.is_empty() || self.page.items.iter().any(changes);
        let again =
            (moves && self.after.is_none()).then(|| format!("{}/deliveries", links.event(id)));
        let next = self
            .page
            .next
            .as_ref()
            .map(|cursor| address(&links.event(id), &[("cursor", cursor)]) + "#receivers");
        html! {
            div #receiver-list hx-get=[again.as_ref()] hx-trigger=[again.as_ref().map(|_| "every 5s")]
                hx-swap="outerHTML" {
                @if self.page.items.is_empty() {
                    @if receivers == 0 {
                        (empty("Nobody received it", "No webhook wanted its type when it was accepted.", None))
                    } @else {
                        (empty("Its deliveries are not listed here",
                            "They are being made, or were made by an earlier version, which did not note them with the event. They stand on the pages of their webhooks.",
                            Some((&links.webhooks(), "Webhooks"))))
                    }
                } @else {
                    div.scroll tabindex="0" role="region" aria-label="Deliveries" {
                        table {
                            thead { tr {
                                th scope="col" { "Made" } th scope="col" { "Webhook" } th scope="col" { "State" }
                                th.number scope="col" { "Attempts" } th scope="col" { "Next or end" }
                            } }
                            tbody { @for view in &self.page.items { (self.row(links, view)) } }
                        }
                    }
                    (pager(next.as_deref()))
                }
            }
        }
    }

    fn row(&self, links: &Links, DeliveryView { delivery, state }: &DeliveryView) -> Markup {
        let due = delivery.due().filter(|_| *state == DeliveryState::Pending);
        html! {
            tr {
                td { a id=(delivery.id) href=(links.delivery(delivery.id)) { (time(delivery.created_at)) } }
                td {
                    @match self.names.get(&delivery.endpoint) {
                        Some(name) => a href=(links.webhook(delivery.endpoint)) { bdi { (name) } },
                        None => span.faint { "deleted, " code { (delivery.endpoint) } },
                    }
                }
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
}

/// The deliveries anew.
async fn deliveries(
    visit: Visit,
    tenant: Tenant,
    PathId(id): PathId<EventId>,
    State(app): State<App>,
    params: Params,
) -> Result<Fragment, Problem> {
    params.finish()?;
    let (_, receivers) = accepted(&app, tenant.0, id).await?;
    let received = Received::of(&app, tenant.0, id, None).await?;
    Ok(Fragment(received.show(&visit.links(), id, receivers)))
}

fn again(
    visit: &Visit,
    id: EventId,
    webhooks: &WebhookChoice,
    choice: &Choice,
    problem: Option<&Problem>,
) -> Markup {
    let links = visit.links();
    let action = format!("{}/resend", links.event(id));
    if webhooks.is_empty() {
        return empty(
            "There is no webhook to send it to",
            "Once there is one, the event can be sent to it.",
            Some((&links.new_webhook(), "New webhook")),
        );
    }
    html! {
        p { "New deliveries are made, each with its own retries. Those to webhooks that are disabled are held." }
        form method="post" action=(action) {
            (visit.csrf())
            (webhooks.field(None, &choice.endpoint, &Errors::of(problem).at("endpoint")))
            p.actions {
                button type="submit" name="to" value="one" { "Send to this webhook" }
                button type="submit" name="to" value="all" { "Send to all that want its type now" }
            }
            p.hint { "One webhook receives it whether or not it wants the type." }
        }
    }
}

async fn resend(
    visit: Visit,
    tenant: Tenant,
    PathId(id): PathId<EventId>,
    State(app): State<App>,
    form: Form,
) -> Result<Response, Problem> {
    let choice = Choice { endpoint: form.text("endpoint").trim().to_owned() };
    let to_all = form.text("to") == "all";
    let body = if to_all { json!({}) } else { json!({ "endpoint": choice.endpoint }) };
    match receivers::send_again(&app, tenant.0, id, &form::body(&body)).await {
        Ok(deliveries) => {
            let said = match (deliveries, to_all) {
                (0, _) => Said::NobodyWantsIt,
                (_, true) => Said::ResentToAll,
                (_, false) => Said::Resent,
            };
            Ok(Redirect::to(&said.at(&visit.links().event(id))).into_response())
        }
        Err(problem) if problem.errors().is_empty() => Err(problem),
        Err(problem) => {
            let event = accepted(&app, tenant.0, id).await?;
            let page = page(&visit, &app, &event, None, &choice, Some(&problem)).await?;
            Ok(page.refused(&problem).into_response())
        }
    }
}
