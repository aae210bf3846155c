//! The list of webhooks.

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use maud::{Markup, html};
use postrider_domain::backlog::Backlog;
use postrider_domain::endpoint::Subscription;
use postrider_domain::limits::DEFAULT_PAGE;
use postrider_domain::statistics::Sparkline;
use postrider_store::{EndpointFilter, EndpointView, PageRequest};

use super::chart;
use super::components::Column::{Number, Text};
use super::components::{OLDER, age, empty_state, pager, table, webhook_badge, with_query};
use super::field::select;
use super::format::{grouped, percent, truncated};
use super::layout::{NavItem, Page, PageContext};
use crate::App;
use crate::rest::endpoints::FilterParams;
use crate::rest::wire::endpoint::{DISABLED, ENABLED};
use crate::web::auth::Tenant;
use crate::web::page::Params;
use crate::web::problem::Problem;

/// The maximum number of event types shown for a webhook.
const MAX_TYPES_SHOWN: usize = 3;
/// The maximum number of characters of a URL shown; the webhook's page shows all of it.
const MAX_URL_CHARS: usize = 120;

pub(crate) fn routes() -> Router<App> {
    Router::new().route("/webhooks", get(show))
}

async fn show(
    ctx: PageContext,
    tenant: Tenant,
    State(app): State<App>,
    mut params: Params,
) -> Result<Page, Problem> {
    let filter = EndpointFilter::from(FilterParams::parse(&mut params));
    let after = params.take("cursor", str::parse);
    params.finish()?;
    let request = PageRequest { limit: DEFAULT_PAGE, after };
    let first = after.is_none();
    let found = app.records().find_endpoints(tenant.0, filter.clone(), request).await?;
    let ids: Vec<_> = found.items.iter().map(|view| view.endpoint.id).collect();
    let sparklines = app.records().sparklines(tenant.0, &ids, ctx.now()).await?;
    let urls = ctx.urls();
    let next = found.next.map(|cursor| {
        let (search, state) = filter_params(&filter);
        let parameters = [("search", search), ("state", state), ("cursor", &*cursor)];
        with_query(&urls.webhooks(), &parameters)
    });
    let body = html! {
        div.title {
            h1 { "Webhooks" }
            a.button.primary href=(urls.new_webhook()) { "New webhook" }
        }
        @if found.items.is_empty() && first && next.is_none() && filter_params(&filter) == ("", "") {
            (empty_state(
                "No webhooks yet",
                "A webhook sends events of the types you choose to your URL, as POST requests.",
                Some((&urls.new_webhook(), "New webhook")),
            ))
        } @else {
            (filter_form(&urls.webhooks(), &filter))
            @if found.items.is_empty() { (empty_state("No matching webhooks", "Try another search or select any state.", None)) }
            @else { (list(&ctx, &found.items, &sparklines)) }
            (pager(next.as_deref(), OLDER))
        }
    };
    Ok(ctx.page(NavItem::Webhooks, "Webhooks", body))
}

/// A filter as query parameters: the text and the state.
fn filter_params(filter: &EndpointFilter) -> (&str, &str) {
    let state = match filter.enabled {
        Some(true) => ENABLED,
        Some(false) => DISABLED,
        None => "",
    };
    (filter.text.as_deref().unwrap_or_default(), state)
}

fn filter_form(page: &str, filter: &EndpointFilter) -> Markup {
    let (search, state) = filter_params(filter);
    let states = [("", "Any state"), (ENABLED, "Enabled"), (DISABLED, "Disabled")];
    html! {
        form.filter method="get" action=(page) role="search" {
            label for="search" { "Search" }
            input #search type="search" name="search" value=(search) placeholder="Name or URL";
            (select("state", "State", &states, state))
            button type="submit" { "Apply" }
        }
    }
}

fn list(ctx: &PageContext, views: &[EndpointView], sparklines: &[Sparkline]) -> Markup {
    let columns = [
        Text("Name"),
        Text("State"),
        Text("Event types"),
        Text("Last 24 hours"),
        Number("Error rate"),
        Number("Backlog"),
    ];
    let rows = html! {
        @for (view, sparkline) in views.iter().zip(sparklines) { (row(ctx, view, sparkline)) }
    };
    table("Webhooks", &columns, rows)
}

fn row(ctx: &PageContext, view: &EndpointView, sparkline: &Sparkline) -> Markup {
    let endpoint = &view.endpoint;
    html! {
        tr {
            th scope="row" {
                a href=(ctx.urls().webhook(endpoint.id)) { bdi { (endpoint.name.as_str()) } }
                span.url { bdi { (truncated(endpoint.url.as_str(), MAX_URL_CHARS)) } }
            }
            td { (webhook_badge(&view.state, view.health.failure_count)) }
            td.types { (types(&endpoint.event_types)) }
            td { (chart::sparkline(sparkline)) }
            td.number { (error_rate(sparkline)) }
            td.number { (backlog(ctx, view)) }
        }
    }
}

fn types(subscription: &Subscription) -> Markup {
    html! {
        @match subscription {
            Subscription::All => "all",
            Subscription::Only(names) if names.is_empty() => span.faint { "none" },
            Subscription::Only(names) => {
                @for name in names.iter().take(MAX_TYPES_SHOWN) { code { (name) } " " }
                @if names.len() > MAX_TYPES_SHOWN { span.faint { "and " (names.len() - MAX_TYPES_SHOWN) " more" } }
            }
        }
    }
}

/// The share of attempts in the last 24 hours that failed.
fn error_rate(sparkline: &Sparkline) -> Markup {
    let total = sparkline.total();
    html! {
        @match total.succeeded + total.failed {
            0 => span.faint { "–" },
            all => span.bad[total.failed > 0] { (percent(total.failed, all)) },
        }
    }
}

/// The number of pending or held deliveries, and the age of the oldest.
fn backlog(ctx: &PageContext, view: &EndpointView) -> Markup {
    let held = matches!(view.backlog, Backlog::Held(_));
    html! {
        @if view.backlog.count() > 0 {
            (grouped(view.backlog.count())) @if held { " held" }
            @if let Some(at) = view.oldest_pending_at {
                span.since { "oldest " (age(at, ctx.now())) }
            }
        } @else { span.faint { "–" } }
    }
}
