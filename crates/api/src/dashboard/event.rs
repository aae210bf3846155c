//! The page of one event: its payload, its deliveries, and the form to resend it.

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
use postrider_store::{DeliveryView, ListPage, PageRequest};

use super::components::{OLDER, copyable, empty_state, pager, time, with_query};
use super::delivery_table::delivery_table;
use super::flash::Flash;
use super::form::{Errors, Form};
use super::format::{bytes, count};
use super::layout::{Fragment, NavItem, Page, PageContext};
use super::payload::payload;
use super::urls::{Urls, subpath};
use super::webhook_select::WebhookSelect;
use crate::App;
use crate::rest::resend::ResendEvent;
use crate::web::auth::Tenant;
use crate::web::extract::PathId;
use crate::web::fields::{Fields, Raw};
use crate::web::page::Params;
use crate::web::problem::Problem;

/// Deliveries on one page.
const PAGE_SIZE: usize = 25;
/// How long after publishing the page polls for the first deliveries.
const FAN_OUT_TIME: Duration = Duration::from_secs(60);

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/events/{event}", get(show))
        .route("/events/{event}/deliveries", get(deliveries))
        .route("/events/{event}/resend", post(resend))
}

/// An event, and the number of deliveries that publishing it creates.
struct PublishedEvent {
    event: Event,
    delivery_count: u64,
}

async fn load_event(app: &App, account: AccountId, id: EventId) -> Result<PublishedEvent, Problem> {
    let found = app.records().event(account, id).await?;
    let (event, delivery_count) = found.ok_or_else(|| Problem::not_found("event"))?;
    Ok(PublishedEvent { event, delivery_count })
}

async fn show(
    ctx: PageContext,
    tenant: Tenant,
    PathId(id): PathId<EventId>,
    State(app): State<App>,
    mut params: Params,
) -> Result<Page, Problem> {
    let after = params.take("cursor", str::parse);
    params.finish()?;
    let published = load_event(&app, tenant.0, id).await?;
    page(&ctx, &app, &published, after, "", None).await
}

/// `endpoint` is the form's input as it was entered.
async fn page(
    ctx: &PageContext,
    app: &App,
    published: &PublishedEvent,
    after: Option<DeliveryId>,
    endpoint: &str,
    problem: Option<&Problem>,
) -> Result<Page, Problem> {
    let urls = ctx.urls();
    let event = &published.event;
    let deliveries = EventDeliveries::of(app, event.account, event.id, after).await?;
    let webhooks = WebhookSelect::of(app, event.account).await?;
    let body = html! {
        p.crumbs { a href=(urls.events()) { "Events" } }
        h1 { "Event " code { (event.event_type) } }
        p { (copyable(event.id)) }
        (facts(&urls, published))
        section aria-labelledby="payload" {
            h2 #payload { "Payload" }
            (payload("exact-payload", "Payload", event.payload.bytes(), usize::MAX))
            button.copy.quiet type="button" data-copy-from="exact-payload" hidden { "Copy payload" }
        }
        section aria-labelledby="deliveries" {
            h2 #deliveries { "Deliveries" }
            (deliveries.show(ctx, published))
        }
        section aria-labelledby="resend" {
            h2 #resend { "Resend" }
            (resend_form(ctx, event.id, &webhooks, endpoint, problem))
        }
    };
    Ok(ctx.page(NavItem::Events, &format!("Event {}", event.event_type), body))
}

fn facts(urls: &Urls, PublishedEvent { event, delivery_count }: &PublishedEvent) -> Markup {
    html! {
        p {
            "Published " (time(event.created_at)) " to "
            (count(*delivery_count, "webhook", "webhooks")) ", with a payload of "
            (bytes(event.payload.bytes().len())) ". "
            a href=(urls.event_type(&event.event_type)) { "View event type" }
        }
    }
}

/// One page of an event's deliveries, with the names of their webhooks.
struct EventDeliveries {
    page: ListPage<DeliveryView>,
    after: Option<DeliveryId>,
    /// The names of the webhooks. Deleted webhooks are absent.
    names: HashMap<EndpointId, String>,
}

impl EventDeliveries {
    async fn of(
        app: &App,
        account: AccountId,
        id: EventId,
        after: Option<DeliveryId>,
    ) -> Result<Self, Problem> {
        let request = PageRequest { limit: PAGE_SIZE, after };
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

    /// The list of deliveries. The first page polls as long as deliveries may change.
    fn show(&self, ctx: &PageContext, published: &PublishedEvent) -> Markup {
        let PublishedEvent { event, delivery_count } = published;
        let urls = ctx.urls();
        let page = urls.event(event.id);
        let changes = |view: &DeliveryView| view.state == DeliveryState::Pending;
        let may_change = match self.page.items.is_empty() {
            true => *delivery_count > 0 && ctx.now().since(event.created_at) < FAN_OUT_TIME,
            false => self.page.items.iter().any(changes),
        };
        let poll_url = (may_change && self.after.is_none()).then(|| subpath(&page, "deliveries"));
        let next = self.page.next.as_ref();
        let next = next.map(|cursor| with_query(&page, &[("cursor", cursor)]) + "#deliveries");
        html! {
            div #delivery-list hx-get=[poll_url.as_ref()] hx-trigger=[poll_url.as_ref().map(|_| "every 5s")]
                hx-swap="outerHTML" {
                @if self.page.items.is_empty() {
                    @if *delivery_count == 0 {
                        (empty_state("No deliveries", "No webhook was subscribed to this event type when the event was published.", None))
                    } @else {
                        (empty_state("Deliveries not listed yet",
                            "They are still being created, or an earlier version created them without linking them to the event. You can find them on the webhooks' pages.",
                            Some((&urls.webhooks(), "Webhooks"))))
                    }
                } @else {
                    (delivery_table(&urls, &self.page.items, "Webhook", |delivery| {
                        self.webhook(&urls, delivery.endpoint)
                    }))
                    (pager(next.as_deref(), OLDER))
                }
            }
        }
    }

    fn webhook(&self, urls: &Urls, id: EndpointId) -> Markup {
        html! {
            @match self.names.get(&id) {
                Some(name) => a href=(urls.webhook(id)) { bdi { (name) } },
                None => span.faint { "deleted, " code { (id) } },
            }
        }
    }
}

/// The refreshed list of deliveries.
async fn deliveries(
    ctx: PageContext,
    tenant: Tenant,
    PathId(id): PathId<EventId>,
    State(app): State<App>,
    params: Params,
) -> Result<Fragment, Problem> {
    params.finish()?;
    let published = load_event(&app, tenant.0, id).await?;
    let deliveries = EventDeliveries::of(&app, tenant.0, id, None).await?;
    Ok(Fragment(deliveries.show(&ctx, &published)))
}

fn resend_form(
    ctx: &PageContext,
    id: EventId,
    webhooks: &WebhookSelect,
    endpoint: &str,
    problem: Option<&Problem>,
) -> Markup {
    let urls = ctx.urls();
    let action = subpath(&urls.event(id), "resend");
    if webhooks.is_empty() {
        return empty_state(
            "No webhooks to send to",
            "Create a webhook first, then send this event to it.",
            Some((&urls.new_webhook(), "New webhook")),
        );
    }
    html! {
        p { "Creates new deliveries, each with its own retry schedule. Deliveries to disabled webhooks are held." }
        form method="post" action=(action) {
            (ctx.csrf())
            (webhooks.field(None, endpoint, Errors::of(problem)))
            p.actions {
                button type="submit" name="to" value="one" { "Send to this webhook" }
                button type="submit" name="to" value="all" { "Send to all subscribed webhooks" }
            }
            p.hint { "A single webhook receives the event even if it is not subscribed." }
        }
    }
}

async fn resend(
    ctx: PageContext,
    tenant: Tenant,
    PathId(id): PathId<EventId>,
    State(app): State<App>,
    form: Form,
) -> Result<Response, Problem> {
    let endpoint = form.text("endpoint").trim();
    let to_all = form.text("to") == "all";
    let target = (!to_all).then_some(("endpoint", Raw::Text(endpoint)));
    let resent = match ResendEvent::parse(Fields::from_form(target)) {
        Ok(target) => {
            let resent = app.service().resend_event(tenant.0, id, target.into(), None).await;
            resent.map_err(Problem::from)
        }
        Err(problem) => Err(problem),
    };
    match resent {
        Ok(deliveries) => {
            let flash = match (deliveries, to_all) {
                (0, _) => Flash::NoSubscribers,
                (_, true) => Flash::ResentToAll,
                (_, false) => Flash::Resent,
            };
            Ok(Redirect::to(&flash.redirect_target(&ctx.urls().event(id))).into_response())
        }
        Err(problem) => {
            let problem = problem.if_invalid_fields()?;
            let published = load_event(&app, tenant.0, id).await?;
            let page = page(&ctx, &app, &published, None, endpoint, Some(&problem)).await?;
            Ok(page.with_status_of(&problem).into_response())
        }
    }
}
