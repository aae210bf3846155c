//! The catalogue: what events there are, each with its example and its schema.

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use maud::{Markup, html};
use postrider_domain::event::{EventType, EventTypeName};
use postrider_domain::limits::DEFAULT_PAGE;
use postrider_store::PageRequest;

use super::frame::{Page, Place, Visit};
use super::parts::{address, empty, pager, time};
use crate::App;
use crate::web::auth::Tenant;
use crate::web::extract::PathText;
use crate::web::page::Params;
use crate::web::problem::Problem;

pub(crate) fn routes() -> Router<App> {
    Router::new().route("/event-types", get(list)).route("/event-types/{name}", get(show))
}

async fn list(
    visit: Visit,
    _: Tenant,
    State(app): State<App>,
    mut params: Params,
) -> Result<Page, Problem> {
    let after = params.take("cursor", EventTypeName::parse);
    params.finish()?;
    let request = PageRequest { limit: DEFAULT_PAGE, after };
    let page = app.records().event_types(request).await?;
    let links = visit.links();
    let next = page.next.as_ref().map(|next| address(&links.event_types(), &[("cursor", next)]));
    let body = html! {
        h1 { "Event types" }
        p { "What events there are. A webhook chooses those that it wants." }
        @if page.items.is_empty() {
            (empty("The catalogue is empty", "The operator puts event types there: PUT /v1/event-types/{name}.", None))
        } @else {
            dl.catalogue {
                @for entry in &page.items {
                    dt { a href=(links.event_type(&entry.name)) { code { (entry.name) } } }
                    dd { (entry.description) }
                }
            }
            (pager(next.as_deref(), "More"))
        }
    };
    Ok(visit.page(Place::EventTypes, "Event types", body))
}

async fn show(
    visit: Visit,
    _: Tenant,
    PathText(name): PathText,
    State(app): State<App>,
    params: Params,
) -> Result<Page, Problem> {
    params.finish()?;
    let entry = match EventTypeName::parse(&name) {
        Ok(name) => app.records().event_type(&name).await?,
        Err(_) => None,
    };
    let entry = entry.ok_or_else(|| Problem::not_found("event type"))?;
    let title = entry.name.to_string();
    Ok(visit.page(Place::EventTypes, &title, card(&visit, &entry)))
}

fn card(visit: &Visit, entry: &EventType) -> Markup {
    html! {
        p.crumbs { a href=(visit.links().event_types()) { "Event types" } }
        h1 { code { (entry.name) } }
        p { (entry.description) }
        h2 { "Example" }
        pre tabindex="0" { (entry.example) }
        h2 { "Schema" }
        @match &entry.schema {
            Some(schema) => {
                p.hint { "JSON Schema 2020-12. Payloads that do not satisfy it are refused." }
                pre tabindex="0" { (schema) }
            }
            None => p { "None: any JSON is accepted." },
        }
        p.faint { "Last changed " (time(entry.updated_at)) }
    }
}
