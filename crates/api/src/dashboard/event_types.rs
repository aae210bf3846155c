//! The catalogue of event types, each with its example and schema.

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use maud::{Markup, html};
use postrider_domain::event::{EventType, EventTypeName};
use postrider_domain::limits::DEFAULT_PAGE;
use postrider_store::PageRequest;

use super::components::{empty_state, pager, time, with_query};
use super::layout::{NavItem, Page, PageContext};
use crate::App;
use crate::web::auth::Tenant;
use crate::web::extract::PathText;
use crate::web::page::Params;
use crate::web::problem::Problem;

pub(crate) fn routes() -> Router<App> {
    Router::new().route("/event-types", get(list)).route("/event-types/{name}", get(show))
}

async fn list(
    ctx: PageContext,
    _: Tenant,
    State(app): State<App>,
    mut params: Params,
) -> Result<Page, Problem> {
    let after = params.take("cursor", EventTypeName::parse);
    params.finish()?;
    let request = PageRequest { limit: DEFAULT_PAGE, after };
    let page = app.records().event_types(request).await?;
    let urls = ctx.urls();
    let next = page.next.as_ref().map(|next| with_query(&urls.event_types(), &[("cursor", next)]));
    let body = html! {
        h1 { "Event types" }
        p { "Event types that your webhooks can subscribe to." }
        @if page.items.is_empty() {
            (empty_state("No event types yet", "The operator adds event types with PUT /v1/event-types/{name}.", None))
        } @else {
            dl.catalogue {
                @for entry in &page.items {
                    dt { a href=(urls.event_type(&entry.name)) { code { (entry.name) } } }
                    dd { (entry.description) }
                }
            }
            (pager(next.as_deref(), "More"))
        }
    };
    Ok(ctx.page(NavItem::EventTypes, "Event types", body))
}

async fn show(
    ctx: PageContext,
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
    Ok(ctx.page(NavItem::EventTypes, &title, card(&ctx, &entry)))
}

fn card(ctx: &PageContext, entry: &EventType) -> Markup {
    html! {
        p.crumbs { a href=(ctx.urls().event_types()) { "Event types" } }
        h1 { code { (entry.name) } }
        p { (entry.description) }
        h2 { "Example" }
        pre tabindex="0" { (entry.example) }
        h2 { "Schema" }
        @match &entry.schema {
            Some(schema) => {
                p.hint { "JSON Schema 2020-12. Payloads that do not match it are rejected." }
                pre tabindex="0" { (schema) }
            }
            None => p { "No schema. Any JSON is accepted." },
        }
        p.faint { "Last updated " (time(entry.updated_at)) }
    }
}
