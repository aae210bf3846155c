//! The list of published events.

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use maud::{Markup, html};
use postrider_domain::event::EventTypeName;
use postrider_domain::limits::DEFAULT_PAGE;
use postrider_store::{EventView, PageRequest};

use super::components::Column::{Number, Text};
use super::components::{OLDER, empty_state, pager, table, time, with_query};
use super::format::{count, grouped};
use super::layout::{NavItem, Page, PageContext};
use super::urls::Urls;
use crate::App;
use crate::web::auth::Tenant;
use crate::web::page::Params;
use crate::web::problem::Problem;

pub(crate) fn routes() -> Router<App> {
    Router::new().route("/events", get(show))
}

async fn show(
    ctx: PageContext,
    tenant: Tenant,
    State(app): State<App>,
    mut params: Params,
) -> Result<Page, Problem> {
    let event_type = params.take("event_type", EventTypeName::parse);
    let after = params.take("cursor", str::parse);
    params.finish()?;
    let first = after.is_none();
    let request = PageRequest { limit: DEFAULT_PAGE, after };
    let page = app.records().events(tenant.0, event_type.as_ref(), request).await?;
    let urls = ctx.urls();
    let type_filter = event_type.as_ref().map(EventTypeName::as_str).unwrap_or_default();
    let next = page.next.as_ref().map(|cursor| {
        with_query(&urls.events(), &[("event_type", type_filter), ("cursor", cursor)])
    });
    let body = html! {
        h1 { "Events" }
        p { "Everything your account has published, newest first. Each event goes to the webhooks subscribed to its type." }
        @if page.items.is_empty() && first && next.is_none() && type_filter.is_empty() {
            (empty_state("No events yet",
                "Publish events from your service with POST /v1/accounts/{account}/events. To try out a webhook, send a test event from its page.",
                Some((&urls.webhooks(), "Webhooks"))))
        } @else {
            (filter(&urls, type_filter))
            @match (page.items.is_empty(), next.is_some()) {
                (true, false) => (empty_state("No matching events", "Try another event type.", None)),
                (true, true) => p { "No matching events found yet. Select Older to keep searching." },
                (false, _) => (list(&urls, &page.items)),
            }
            (pager(next.as_deref(), OLDER))
        }
    };
    Ok(ctx.page(NavItem::Events, "Events", body))
}

fn filter(urls: &Urls, type_filter: &str) -> Markup {
    html! {
        form.filter method="get" action=(urls.events()) role="search" {
            label for="event_type" { "Event type" }
            input #event_type name="event_type" value=(type_filter) placeholder="Any" autocomplete="off" spellcheck="false";
            button type="submit" { "Apply" }
        }
    }
}

fn list(urls: &Urls, events: &[EventView]) -> Markup {
    let columns = [Text("Published"), Text("Event type"), Number("Payload"), Number("Webhooks")];
    table("Events", &columns, html! { @for event in events { (row(urls, event)) } })
}

fn row(urls: &Urls, event: &EventView) -> Markup {
    html! {
        tr {
            td { a id=(event.id) href=(urls.event(event.id)) { (time(event.created_at)) } }
            td { code { (event.event_type) } }
            td.number { (count(event.payload_bytes, "byte", "bytes")) }
            td.number { (grouped(event.deliveries)) }
        }
    }
}
