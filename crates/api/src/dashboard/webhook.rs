//! The page of one webhook: how it is; how it has fared, in charts; what was sent to it; whom email
//! told.

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use maud::{Markup, html};
use postrider_domain::endpoint::Endpoint;
use postrider_domain::ids::{AccountId, DeliveryId, EndpointId};
use postrider_domain::statistics::Span;
use postrider_store::{DeliveryFilter, DeliveryView, Page as ListPage, PageRequest};

use super::delivery_table::delivery_table;
use super::field::select;
use super::frame::{Fragment, Page, Place, Visit};
use super::links::{Links, below};
use super::parts::{OLDER, address, copyable, empty, pager};
use super::webhook_state::{Standing, banner};
use super::{chart, emails};
use crate::App;
use crate::rest::fields::name_of;
use crate::rest::wire::delivery::STATES;
use crate::web::auth::Tenant;
use crate::web::extract::PathId;
use crate::web::page::Params;
use crate::web::problem::Problem;
use crate::{deliveries, statistics};

/// Deliveries that the page shows at once.
const SHOWN: usize = 25;

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/webhooks/{endpoint}", get(show))
        .route("/webhooks/{endpoint}/deliveries", get(deliveries_anew))
}

/// What is shown of a webhook, as it was asked for.
struct Query {
    span: Span,
    filter: DeliveryFilter,
    after: Option<DeliveryId>,
}

impl Query {
    fn read(params: &mut Params) -> Self {
        Self {
            span: statistics::span_of(params),
            filter: deliveries::filter_of(params),
            after: params.take("cursor", str::parse),
        }
    }

    fn is_filtered(&self) -> bool {
        let DeliveryFilter { state, event_type, since } = &self.filter;
        state.is_some() || event_type.is_some() || since.is_some()
    }

    /// A page with the same restrictions, and these parameters besides.
    fn address(&self, page: &str, more: &[(&str, &str)]) -> String {
        let state = self.filter.state.as_ref().map(name_of).unwrap_or_default();
        let event_type =
            self.filter.event_type.as_ref().map(ToString::to_string).unwrap_or_default();
        let since = self.filter.since.map(|at| at.to_string()).unwrap_or_default();
        let same = [("state", &*state), ("event_type", &*event_type), ("since", &*since)];
        address(page, &[&same[..], more].concat())
    }
}

async fn show(
    visit: Visit,
    tenant: Tenant,
    PathId(id): PathId<EndpointId>,
    State(app): State<App>,
    mut params: Params,
) -> Result<Page, Problem> {
    let query = Query::read(&mut params);
    params.finish()?;
    let view = app.door().endpoint(tenant.0, id).await?;
    let state = Standing::of(&app, view).await?;
    let statistics = app.records().statistics(tenant.0, id, query.span, visit.now()).await?;
    let deliveries = list(&app, tenant.0, id, &query).await?;
    let emails = app.records().emails(tenant.0, id, emails::SHOWN).await?;
    let links = visit.links();
    let endpoint = &state.view.endpoint;
    let body = html! {
        (tabs(&links, endpoint, false))
        (banner(&visit, &state))
        section aria-labelledby="charts" {
            div.title { h2 #charts { "Health" } (spans(&links, id, &query)) }
            (chart::charts(&statistics))
        }
        section aria-labelledby="deliveries" {
            h2 #deliveries { "Deliveries" }
            (filter(&links, id, &query))
            (delivery_list(&visit, id, &query, &deliveries))
        }
        section aria-labelledby="emails" {
            h2 #emails { "Emails sent" }
            (emails::emails(&emails))
        }
    };
    Ok(visit.page(Place::Webhooks, endpoint.name.as_str(), body))
}

/// The heading of a webhook's pages, and the way between them.
pub(crate) fn tabs(links: &Links, endpoint: &Endpoint, settings: bool) -> Markup {
    let id = endpoint.id;
    let page = |current: bool| current.then_some("page");
    html! {
        p.crumbs { a href=(links.webhooks()) { "Webhooks" } }
        div.title {
            div {
                h1 { bdi { (endpoint.name.as_str()) } }
                p.url { bdi { (endpoint.url.as_str()) } }
                p { (copyable(id)) }
            }
            div.actions {
                a.button href=(links.test(id)) { "Send test event" }
                a.button href=(address(&links.new_replay(), &[("endpoint", &id.to_string())])) { "Replay" }
            }
        }
        nav.tabs aria-label="Webhook" {
            a href=(links.webhook(id)) aria-current=[page(!settings)] { "Overview" }
            a href=(links.webhook_settings(id)) aria-current=[page(settings)] { "Settings" }
        }
    }
}

fn spans(links: &Links, id: EndpointId, query: &Query) -> Markup {
    html! {
        nav.spans aria-label="Time shown" {
            @for span in Span::ALL {
                a href={ (query.address(&links.webhook(id), &[("span", span.as_str())])) "#charts" }
                    aria-current=[(span == query.span).then_some("true")] { (span.as_str()) }
            }
        }
    }
}

fn filter(links: &Links, id: EndpointId, query: &Query) -> Markup {
    let names = STATES.map(|state| name_of(&state));
    let mut states = vec![("", "Any state")];
    states.extend(names.iter().map(|name| (name.as_str(), name.as_str())));
    let chosen = query.filter.state.as_ref().map(name_of).unwrap_or_default();
    let event_type = query.filter.event_type.as_ref().map(ToString::to_string).unwrap_or_default();
    html! {
        form.filter method="get" action={ (links.webhook(id)) "#deliveries" } {
            input type="hidden" name="span" value=(query.span.as_str());
            (select("state", "State", &states, &chosen))
            label for="event_type" { "Event type" }
            input #event_type name="event_type" value=(event_type) placeholder="any" autocomplete="off" spellcheck="false";
            button type="submit" { "Show" }
        }
    }
}

async fn list(
    app: &App,
    account: AccountId,
    id: EndpointId,
    query: &Query,
) -> Result<ListPage<DeliveryView>, Problem> {
    let request = PageRequest { limit: SHOWN, after: query.after };
    Ok(app.records().deliveries(account, id, query.filter.clone(), request).await?)
}

/// The deliveries. The first of them are asked for again while somebody looks.
fn delivery_list(
    visit: &Visit,
    id: EndpointId,
    query: &Query,
    page: &ListPage<DeliveryView>,
) -> Markup {
    let links = visit.links();
    let again = query.address(&below(&links.webhook(id), "deliveries"), &[]);
    let again = query.after.is_none().then_some(again);
    let next = page.next.as_ref().map(|cursor| {
        let more = [("span", query.span.as_str()), ("cursor", cursor.as_str())];
        query.address(&links.webhook(id), &more) + "#deliveries"
    });
    html! {
        div #delivery-list hx-get=[again.as_ref()] hx-trigger=[again.as_ref().map(|_| "every 5s")]
            hx-swap="outerHTML" {
            @if page.items.is_empty() && page.next.is_none() {
                @if query.is_filtered() {
                    (empty("No deliveries like that", "Show any state and any event type to see the others.", None))
                } @else {
                    (empty("No deliveries yet", "Events that it wants are listed here. A test event is not: its page shows what came of it.",
                        Some((&links.test(id), "Send test event"))))
                }
            } @else {
                (delivery_table(&links, &page.items, "Event type", |delivery| html! { code { (delivery.event_type) } }))
                (pager(next.as_deref(), OLDER))
            }
        }
    }
}

/// The deliveries anew.
async fn deliveries_anew(
    visit: Visit,
    tenant: Tenant,
    PathId(id): PathId<EndpointId>,
    State(app): State<App>,
    mut params: Params,
) -> Result<Fragment, Problem> {
    let query = Query::read(&mut params);
    params.finish()?;
    app.door().endpoint(tenant.0, id).await?;
    let page = list(&app, tenant.0, id, &query).await?;
    Ok(Fragment(delivery_list(&visit, id, &query, &page)))
}
