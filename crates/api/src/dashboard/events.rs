//! The list of events that were accepted.

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use maud::{Markup, html};
use postrider_domain::event::EventTypeName;
use postrider_domain::limits::DEFAULT_PAGE;
use postrider_store::{EventView, PageRequest};

use super::format::{count, grouped};
use super::frame::{Page, Place, Visit};
use super::links::Links;
use super::parts::Column::{Number, Text};
use super::parts::{OLDER, address, empty, pager, table, time};
use crate::App;
use crate::web::auth::Tenant;
use crate::web::page::Params;
use crate::web::problem::Problem;

pub(crate) fn routes() -> Router<App> {
    Router::new().route("/events", get(show))
}

async fn show(
    visit: Visit,
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
    let links = visit.links();
    let wanted = event_type.as_ref().map(EventTypeName::as_str).unwrap_or_default();
    let next = page
        .next
        .as_ref()
        .map(|cursor| address(&links.events(), &[("event_type", wanted), ("cursor", cursor)]));
    let body = html! {
        h1 { "Events" }
        p { "What was accepted, the newest first. Each is delivered to the webhooks that want its type." }
        @if page.items.is_empty() && first && next.is_none() && wanted.is_empty() {
            (empty("No events yet",
                "An event is accepted from your service: POST /v1/accounts/{account}/events. To try a webhook out, send it a test event from its page.",
                Some((&links.webhooks(), "Webhooks"))))
        } @else {
            (filter(&links, wanted))
            @match (page.items.is_empty(), next.is_some()) {
                (true, false) => (empty("No such event", "Nothing else of this type was accepted.", None)),
                (true, true) => p { "None of the events that were looked at has this type." },
                (false, _) => (list(&links, &page.items)),
            }
            (pager(next.as_deref(), OLDER))
        }
    };
    Ok(visit.page(Place::Events, "Events", body))
}

fn filter(links: &Links, wanted: &str) -> Markup {
    html! {
        form.filter method="get" action=(links.events()) role="search" {
            label for="event_type" { "Event type" }
            input #event_type name="event_type" value=(wanted) placeholder="any" autocomplete="off" spellcheck="false";
            button type="submit" { "Show" }
        }
    }
}

fn list(links: &Links, events: &[EventView]) -> Markup {
    let columns = [Text("Accepted"), Text("Event type"), Number("Payload"), Number("Receivers")];
    table("Events", &columns, html! { @for event in events { (row(links, event)) } })
}

fn row(links: &Links, event: &EventView) -> Markup {
    html! {
        tr {
            td { a id=(event.id) href=(links.event(event.id)) { (time(event.created_at)) } }
            td { code { (event.event_type) } }
            td.number { (count(event.payload_bytes, "byte", "bytes")) }
            td.number { (grouped(event.deliveries)) }
        }
    }
}
