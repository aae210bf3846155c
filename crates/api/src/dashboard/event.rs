//! The page of one event: its payload, who received it, and sending it again.

use std::collections::HashMap;
use std::time::Duration;

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

use super::delivery_table::delivery_table;
use super::form::{self, Errors, Form};
use super::format::{bytes, count};
use super::frame::{Fragment, Page, Place, Visit};
use super::links::{Links, below};
use super::parts::{OLDER, address, copyable, empty, pager, time};
use super::payload::payload;
use super::said::Said;
use super::webhook_choice::WebhookChoice;
use crate::App;
use crate::rest::resend;
use crate::web::auth::Tenant;
use crate::web::extract::PathId;
use crate::web::page::Params;
use crate::web::problem::Problem;

/// Deliveries that the page shows at once.
const SHOWN: usize = 25;
/// How long after an event was accepted its first deliveries are waited for.
const FAN_OUT_TIME: Duration = Duration::from_secs(60);

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/events/{event}", get(show))
        .route("/events/{event}/deliveries", get(deliveries))
        .route("/events/{event}/resend", post(resend))
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
    page(&visit, &app, &event, after, "", None).await
}

/// The page. `endpoint` is what the form holds, as it was written.
async fn page(
    visit: &Visit,
    app: &App,
    (event, receivers): &Accepted,
    after: Option<DeliveryId>,
    endpoint: &str,
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
            (payload("exact-payload", "Payload", event.payload.bytes(), usize::MAX))
            button.copy.quiet type="button" data-copy-from="exact-payload" hidden { "Copy the payload" }
        }
        section aria-labelledby="receivers" {
            h2 #receivers { "Who received it" }
            (received.show(visit, event, *receivers))
        }
        section aria-labelledby="resend" {
            h2 #resend { "Send it again" }
            (again(visit, event.id, &webhooks, endpoint, problem))
        }
    };
    Ok(visit.page(Place::Events, &format!("Event {}", event.event_type), body))
}

fn facts(links: &Links, event: &Event, receivers: u64) -> Markup {
    html! {
        p {
            "Accepted " (time(event.created_at)) " with "
            (bytes(event.payload.bytes().len())) " of payload, for "
            (count(receivers, "webhook", "webhooks")) ". "
            a href=(links.event_type(&event.event_type)) { "About this event type" }
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
    fn show(&self, visit: &Visit, event: &Event, receivers: u64) -> Markup {
        let links = visit.links();
        let page = links.event(event.id);
        let changes = |view: &DeliveryView| view.state == DeliveryState::Pending;
        let moves = match self.page.items.is_empty() {
            true => receivers > 0 && visit.now().since(event.created_at) < FAN_OUT_TIME,
            false => self.page.items.iter().any(changes),
        };
        let again = (moves && self.after.is_none()).then(|| below(&page, "deliveries"));
        let next = self.page.next.as_ref();
        let next = next.map(|cursor| address(&page, &[("cursor", cursor)]) + "#receivers");
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
                    (delivery_table(&links, &self.page.items, "Webhook", |delivery| {
                        self.webhook(&links, delivery.endpoint)
                    }))
                    (pager(next.as_deref(), OLDER))
                }
            }
        }
    }

    fn webhook(&self, links: &Links, id: EndpointId) -> Markup {
        html! {
            @match self.names.get(&id) {
                Some(name) => a href=(links.webhook(id)) { bdi { (name) } },
                None => span.faint { "deleted, " code { (id) } },
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
    let (event, receivers) = accepted(&app, tenant.0, id).await?;
    let received = Received::of(&app, tenant.0, id, None).await?;
    Ok(Fragment(received.show(&visit, &event, receivers)))
}

fn again(
    visit: &Visit,
    id: EventId,
    webhooks: &WebhookChoice,
    endpoint: &str,
    problem: Option<&Problem>,
) -> Markup {
    let links = visit.links();
    let action = below(&links.event(id), "resend");
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
            (webhooks.field(None, endpoint, Errors::of(problem)))
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
    let endpoint = form.text("endpoint").trim();
    let to_all = form.text("to") == "all";
    let body = if to_all { json!({}) } else { json!({ "endpoint": endpoint }) };
    match resend::make(&app, tenant.0, id, &form::body(&body)).await {
        Ok(deliveries) => {
            let said = match (deliveries, to_all) {
                (0, _) => Said::NobodyWantsIt,
                (_, true) => Said::ResentToAll,
                (_, false) => Said::Resent,
            };
            Ok(Redirect::to(&said.at(&visit.links().event(id))).into_response())
        }
        Err(problem) => {
            let problem = problem.of_fields()?;
            let event = accepted(&app, tenant.0, id).await?;
            let page = page(&visit, &app, &event, None, endpoint, Some(&problem)).await?;
            Ok(page.refused(&problem).into_response())
        }
    }
}
