//! The page of one webhook: its state, charts, deliveries and email log.

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use maud::{Markup, html};
use postrider_domain::endpoint::Endpoint;
use postrider_domain::ids::{AccountId, DeliveryId, EndpointId};
use postrider_domain::statistics::TimeRange;
use postrider_store::{DeliveryFilter, DeliveryView, ListPage, PageRequest};

use super::components::{OLDER, copyable, empty_state, pager, with_query};
use super::delivery_table::delivery_table;
use super::field::select;
use super::layout::{Fragment, NavItem, Page, PageContext};
use super::urls::{Urls, subpath};
use super::webhook_status::{WebhookStatus, banner};
use super::{chart, emails};
use crate::App;
use crate::rest::deliveries::FilterParams;
use crate::rest::statistics::TimeRangeParams;
use crate::rest::wire::delivery::STATES;
use crate::web::auth::Tenant;
use crate::web::choice::json_name;
use crate::web::extract::PathId;
use crate::web::page::Params;
use crate::web::problem::Problem;

/// Deliveries on one page.
const PAGE_SIZE: usize = 25;

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/webhooks/{endpoint}", get(show))
        .route("/webhooks/{endpoint}/deliveries", get(refresh_deliveries))
}

/// The page's query parameters.
struct Query {
    span: TimeRange,
    filter: DeliveryFilter,
    after: Option<DeliveryId>,
}

impl Query {
    fn read(params: &mut Params) -> Self {
        Self {
            span: TimeRangeParams::parse(params).into(),
            filter: FilterParams::parse(params).into(),
            after: params.take("cursor", str::parse),
        }
    }

    fn is_filtered(&self) -> bool {
        let DeliveryFilter { state, event_type, since } = &self.filter;
        state.is_some() || event_type.is_some() || since.is_some()
    }

    /// A page's URL with the same filter and more parameters.
    fn url(&self, page: &str, more: &[(&str, &str)]) -> String {
        let state = self.filter.state.as_ref().map(json_name).unwrap_or_default();
        let event_type =
            self.filter.event_type.as_ref().map(ToString::to_string).unwrap_or_default();
        let since = self.filter.since.map(|at| at.to_string()).unwrap_or_default();
        let same = [("state", &*state), ("event_type", &*event_type), ("since", &*since)];
        with_query(page, &[&same[..], more].concat())
    }
}

async fn show(
    ctx: PageContext,
    tenant: Tenant,
    PathId(id): PathId<EndpointId>,
    State(app): State<App>,
    mut params: Params,
) -> Result<Page, Problem> {
    let query = Query::read(&mut params);
    params.finish()?;
    let view = app.service().endpoint(tenant.0, id).await?;
    let status = WebhookStatus::of(&app, view).await?;
    let statistics = app.records().statistics(tenant.0, id, query.span, ctx.now()).await?;
    let deliveries = load_deliveries(&app, tenant.0, id, &query).await?;
    let emails = app.records().emails(tenant.0, id, emails::MAX_SHOWN).await?;
    let urls = ctx.urls();
    let endpoint = &status.view.endpoint;
    let body = html! {
        (tabs(&urls, endpoint, false))
        (banner(&ctx, &status))
        section aria-labelledby="charts" {
            div.title { h2 #charts { "Health" } (spans(&urls, id, &query)) }
            (chart::charts(&statistics))
        }
        section aria-labelledby="deliveries" {
            h2 #deliveries { "Deliveries" }
            (filter_form(&urls, id, &query))
            (delivery_list(&ctx, id, &query, &deliveries))
        }
        section aria-labelledby="emails" {
            h2 #emails { "Emails sent" }
            (emails::emails(&emails))
        }
    };
    Ok(ctx.page(NavItem::Webhooks, endpoint.name.as_str(), body))
}

/// The heading and tabs of a webhook's pages.
pub(crate) fn tabs(urls: &Urls, endpoint: &Endpoint, settings: bool) -> Markup {
    let id = endpoint.id;
    let page = |current: bool| current.then_some("page");
    html! {
        p.crumbs { a href=(urls.webhooks()) { "Webhooks" } }
        div.title {
            div {
                h1 { bdi { (endpoint.name.as_str()) } }
                p.url { bdi { (endpoint.url.as_str()) } }
                p { (copyable(id)) }
            }
            div.actions {
                a.button href=(urls.test(id)) { "Send test event" }
                a.button href=(with_query(&urls.new_replay(), &[("endpoint", &id.to_string())])) { "Replay" }
            }
        }
        nav.tabs aria-label="Webhook" {
            a href=(urls.webhook(id)) aria-current=[page(!settings)] { "Overview" }
            a href=(urls.webhook_settings(id)) aria-current=[page(settings)] { "Settings" }
        }
    }
}

fn spans(urls: &Urls, id: EndpointId, query: &Query) -> Markup {
    html! {
        nav.spans aria-label="Time range" {
            @for span in TimeRange::ALL {
                a href={ (query.url(&urls.webhook(id), &[("span", span.as_str())])) "#charts" }
                    aria-current=[(span == query.span).then_some("true")] { (span.as_str()) }
            }
        }
    }
}

fn filter_form(urls: &Urls, id: EndpointId, query: &Query) -> Markup {
    let names = STATES.map(|state| json_name(&state));
    let mut states = vec![("", "Any state")];
    states.extend(names.iter().map(|name| (name.as_str(), name.as_str())));
    let chosen = query.filter.state.as_ref().map(json_name).unwrap_or_default();
    let event_type = query.filter.event_type.as_ref().map(ToString::to_string).unwrap_or_default();
    html! {
        form.filter method="get" action={ (urls.webhook(id)) "#deliveries" } {
            input type="hidden" name="span" value=(query.span.as_str());
            (select("state", "State", &states, &chosen))
            label for="event_type" { "Event type" }
            input #event_type name="event_type" value=(event_type) placeholder="Any" autocomplete="off" spellcheck="false";
            button type="submit" { "Apply" }
        }
    }
}

async fn load_deliveries(
    app: &App,
    account: AccountId,
    id: EndpointId,
    query: &Query,
) -> Result<ListPage<DeliveryView>, Problem> {
    let request = PageRequest { limit: PAGE_SIZE, after: query.after };
    Ok(app.records().deliveries(account, id, query.filter.clone(), request).await?)
}

/// The list of deliveries. The first page is polled.
fn delivery_list(
    ctx: &PageContext,
    id: EndpointId,
    query: &Query,
    page: &ListPage<DeliveryView>,
) -> Markup {
    let urls = ctx.urls();
    let poll_url = query.url(&subpath(&urls.webhook(id), "deliveries"), &[]);
    let poll_url = query.after.is_none().then_some(poll_url);
    let next = page.next.as_ref().map(|cursor| {
        let more = [("span", query.span.as_str()), ("cursor", cursor.as_str())];
        query.url(&urls.webhook(id), &more) + "#deliveries"
    });
    html! {
        div #delivery-list hx-get=[poll_url.as_ref()] hx-trigger=[poll_url.as_ref().map(|_| "every 5s")]
            hx-swap="outerHTML" {
            @if page.items.is_empty() && page.next.is_none() {
                @if query.is_filtered() {
                    (empty_state("No matching deliveries", "Select any state and any event type to see all deliveries.", None))
                } @else {
                    (empty_state("No deliveries yet", "Deliveries of subscribed events appear here. Test events do not: their page shows the result.",
                        Some((&urls.test(id), "Send test event"))))
                }
            } @else {
                (delivery_table(&urls, &page.items, "Event type", |delivery| html! { code { (delivery.event_type) } }))
                (pager(next.as_deref(), OLDER))
            }
        }
    }
}

/// The refreshed list of deliveries.
async fn refresh_deliveries(
    ctx: PageContext,
    tenant: Tenant,
    PathId(id): PathId<EndpointId>,
    State(app): State<App>,
    mut params: Params,
) -> Result<Fragment, Problem> {
    let query = Query::read(&mut params);
    params.finish()?;
    app.service().endpoint(tenant.0, id).await?;
    let page = load_deliveries(&app, tenant.0, id, &query).await?;
    Ok(Fragment(delivery_list(&ctx, id, &query, &page)))
}
