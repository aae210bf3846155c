//! The list of webhooks.

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use maud::{Markup, html};
use postrider_domain::endpoint::{State as Enabling, Subscription};
use postrider_domain::limits::DEFAULT_PAGE;
use postrider_domain::statistics::Sparkline;
use postrider_store::{EndpointFilter, EndpointView, PageRequest};

use super::chart;
use super::field::select;
use super::format::{grouped, percent, shortened};
use super::frame::{Page, Place, Visit};
use super::parts::Column::{Number, Text};
use super::parts::{OLDER, address, ago, empty, pager, table, webhook_badge};
use crate::App;
use crate::rest::endpoints;
use crate::rest::wire::endpoint::{DISABLED, ENABLED};
use crate::web::auth::Tenant;
use crate::web::page::Params;
use crate::web::problem::Problem;

/// Event types of a webhook that the list names.
const MOST_NAMED: usize = 3;
/// Characters of a URL that the list shows; all of it is on the webhook's page.
const MOST_URL_CHARS: usize = 120;

pub(crate) fn routes() -> Router<App> {
    Router::new().route("/webhooks", get(show))
}

async fn show(
    visit: Visit,
    tenant: Tenant,
    State(app): State<App>,
    mut params: Params,
) -> Result<Page, Problem> {
    let filter = endpoints::filter_of(&mut params);
    let after = params.take("cursor", str::parse);
    params.finish()?;
    let request = PageRequest { limit: DEFAULT_PAGE, after };
    let first = after.is_none();
    let found = app.records().find_endpoints(tenant.0, filter.clone(), request).await?;
    let ids: Vec<_> = found.items.iter().map(|view| view.endpoint.id).collect();
    let lines = app.records().sparklines(tenant.0, &ids, visit.now()).await?;
    let links = visit.links();
    let next = found.next.map(|cursor| {
        let (search, state) = texts(&filter);
        let parameters = [("search", search), ("state", state), ("cursor", &*cursor)];
        address(&links.webhooks(), &parameters)
    });
    let body = html! {
        div.title {
            h1 { "Webhooks" }
            a.button.primary href=(links.new_webhook()) { "New webhook" }
        }
        @if found.items.is_empty() && first && next.is_none() && texts(&filter) == ("", "") {
            (empty(
                "No webhooks yet",
                "A webhook is a URL of yours and the event types that it wants: each event is sent there by POST.",
                Some((&links.new_webhook(), "New webhook")),
            ))
        } @else {
            (filter_form(&links.webhooks(), &filter))
            @if found.items.is_empty() { (empty("No webhook fits", "Search for another text, or in any state.", None)) }
            @else { (list(&visit, &found.items, &lines)) }
            (pager(next.as_deref(), OLDER))
        }
    };
    Ok(visit.page(Place::Webhooks, "Webhooks", body))
}

/// A filter as the parameters of a page: the text, and the state.
fn texts(filter: &EndpointFilter) -> (&str, &str) {
    let state = match filter.enabled {
        Some(true) => ENABLED,
        Some(false) => DISABLED,
        None => "",
    };
    (filter.text.as_deref().unwrap_or_default(), state)
}

fn filter_form(page: &str, filter: &EndpointFilter) -> Markup {
    let (search, state) = texts(filter);
    let states = [("", "Any state"), (ENABLED, "Enabled"), (DISABLED, "Disabled")];
    html! {
        form.filter method="get" action=(page) role="search" {
            label for="search" { "Search" }
            input #search type="search" name="search" value=(search) placeholder="Name or URL";
            (select("state", "State", &states, state))
            button type="submit" { "Show" }
        }
    }
}

fn list(visit: &Visit, views: &[EndpointView], lines: &[Sparkline]) -> Markup {
    let columns = [
        Text("Name"),
        Text("State"),
        Text("Event types"),
        Text("Last 24 hours"),
        Number("Errors"),
        Number("Waiting"),
    ];
    let rows = html! { @for (view, line) in views.iter().zip(lines) { (row(visit, view, line)) } };
    table("Webhooks", &columns, rows)
}

fn row(visit: &Visit, view: &EndpointView, line: &Sparkline) -> Markup {
    let endpoint = &view.endpoint;
    html! {
        tr {
            th scope="row" {
                a href=(visit.links().webhook(endpoint.id)) { bdi { (endpoint.name.as_str()) } }
                span.url { bdi { (shortened(endpoint.url.as_str(), MOST_URL_CHARS)) } }
            }
            td { (webhook_badge(&view.state, view.health.failure_count)) }
            td.types { (types(&endpoint.event_types)) }
            td { (chart::sparkline(line)) }
            td.number { (error_rate(line)) }
            td.number { (waiting(visit, view)) }
        }
    }
}

fn types(subscription: &Subscription) -> Markup {
    html! {
        @match subscription {
            Subscription::All => "all",
            Subscription::Only(names) if names.is_empty() => span.faint { "none" },
            Subscription::Only(names) => {
                @for name in names.iter().take(MOST_NAMED) { code { (name) } " " }
                @if names.len() > MOST_NAMED { span.faint { "and " (names.len() - MOST_NAMED) " more" } }
            }
        }
    }
}

/// How many attempts of the last 24 hours failed.
fn error_rate(line: &Sparkline) -> Markup {
    let tries = line.total();
    html! {
        @match tries.succeeded + tries.failed {
            0 => span.faint { "–" },
            all => span.bad[tries.failed > 0] { (percent(tries.failed, all)) },
        }
    }
}

/// What is pending or held, and since when.
fn waiting(visit: &Visit, view: &EndpointView) -> Markup {
    let held = matches!(view.state, Enabling::Disabled(_));
    html! {
        @if view.unfinished > 0 {
            (grouped(view.unfinished)) @if held { " held" }
            @if let Some(at) = view.oldest_pending_at {
                span.since { "oldest " (ago(at, visit.now())) }
            }
        } @else { span.faint { "–" } }
    }
}
