//! The list of replays, and what a replay's pages say of it in common.

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use maud::{Markup, html};
use postrider_domain::limits::DEFAULT_PAGE;
use postrider_domain::replay::{Filter, Replay, ReplayState};
use postrider_store::PageRequest;

use super::format::grouped;
use super::frame::{Page, Place, Visit};
use super::links::Links;
use super::parts::Column::{Number, Text};
use super::parts::{Kind, OLDER, address, badge, delivery_badge, empty, pager, table, time};
use crate::App;
use crate::rest::fields::name_of;
use crate::web::auth::Tenant;
use crate::web::page::Params;
use crate::web::problem::Problem;

pub(crate) fn routes() -> Router<App> {
    Router::new().route("/replays", get(show))
}

async fn show(
    visit: Visit,
    tenant: Tenant,
    State(app): State<App>,
    mut params: Params,
) -> Result<Page, Problem> {
    let after = params.take("cursor", str::parse);
    params.finish()?;
    let request = PageRequest { limit: DEFAULT_PAGE, after };
    let page = app.records().replays(tenant.0, request).await?;
    let links = visit.links();
    let next = page.next.as_ref().map(|next| address(&links.replays(), &[("cursor", next)]));
    let body = html! {
        div.title {
            h1 { "Replays" }
            a.button.primary href=(links.new_replay()) { "New replay" }
        }
        p { "A replay makes past deliveries anew, at a measured pace. It goes on by itself, also when a node is lost." }
        @if page.items.is_empty() {
            (empty("No replays yet",
                "After a failure of your service, a replay sends what it missed.",
                Some((&links.new_replay(), "New replay"))))
        } @else {
            @let columns = [Text("Made"), Text("State"), Text("Deliveries"), Text("Done"), Number("A second")];
            (table("Replays", &columns, html! { @for replay in &page.items { (row(&links, replay)) } }))
            (pager(next.as_deref(), OLDER))
        }
    };
    Ok(visit.page(Place::Replays, "Replays", body))
}

fn row(links: &Links, replay: &Replay) -> Markup {
    html! {
        tr {
            td { a id=(replay.id) href=(links.replay(replay.id)) { (time(replay.created_at)) } }
            td { (state_badge(replay.state)) }
            td { (taken(links, &replay.filter)) }
            td { (bar(replay)) span.line { (grouped(replay.done)) " of " (grouped(replay.total.max(replay.done))) } }
            td.number { (grouped(replay.rate.into())) }
        }
    }
}

pub(crate) fn state_badge(state: ReplayState) -> Markup {
    let kind = match state {
        ReplayState::Running => Kind::Accent,
        ReplayState::Paused => Kind::Warn,
        ReplayState::Cancelled => Kind::Faint,
        ReplayState::Completed => Kind::Good,
    };
    badge(kind, &name_of(&state))
}

/// How far a replay has come. Its count may have been stopped short, so that it can do more.
pub(crate) fn bar(replay: &Replay) -> Markup {
    let (done, total) = match replay.state {
        ReplayState::Completed => (1, 1),
        _ => (replay.done.min(replay.total), replay.total.max(1)),
    };
    html! { progress max=(total) value=(done) aria-label="Progress" {} }
}

/// Which deliveries a filter takes, in words.
pub(crate) fn taken(links: &Links, filter: &Filter) -> Markup {
    let Filter { endpoint, event_types, states, since, until } = filter;
    html! {
        span.line {
            @match endpoint {
                Some(id) => { "to " a href=(links.webhook(*id)) { code { (id) } } }
                None => "to all webhooks",
            }
        }
        span.line.types {
            @match event_types {
                Some(names) => { "of " @for name in names { code { (name) } " " } }
                None => "of all types",
            }
        }
        @if let Some(states) = states {
            span.line { @for state in states { (delivery_badge(*state)) " " } }
        }
        @if let Some(since) = since { span.line { "since " (time(*since)) } }
        @if let Some(until) = until { span.line { "before " (time(*until)) } }
    }
}
