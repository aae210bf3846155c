//! The list of replays, and what it shares with the page of one replay.

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use maud::{Markup, html};
use postrider_domain::limits::DEFAULT_PAGE;
use postrider_domain::replay::{Filter, Replay, ReplayState};
use postrider_store::PageRequest;

use super::components::Column::{Number, Text};
use super::components::{
    OLDER, Tone, badge, delivery_badge, empty_state, pager, table, time, with_query,
};
use super::format::grouped;
use super::layout::{NavItem, Page, PageContext};
use super::urls::Urls;
use crate::App;
use crate::web::auth::Tenant;
use crate::web::choice::json_name;
use crate::web::page::Params;
use crate::web::problem::Problem;

pub(crate) fn routes() -> Router<App> {
    Router::new().route("/replays", get(show))
}

async fn show(
    ctx: PageContext,
    tenant: Tenant,
    State(app): State<App>,
    mut params: Params,
) -> Result<Page, Problem> {
    let after = params.take("cursor", str::parse);
    params.finish()?;
    let request = PageRequest { limit: DEFAULT_PAGE, after };
    let page = app.records().replays(tenant.0, request).await?;
    let urls = ctx.urls();
    let next = page.next.as_ref().map(|next| with_query(&urls.replays(), &[("cursor", next)]));
    let body = html! {
        div.title {
            h1 { "Replays" }
            a.button.primary href=(urls.new_replay()) { "New replay" }
        }
        p { "A replay delivers past events again, at a rate you choose. It continues even if a node fails." }
        @if page.items.is_empty() {
            (empty_state("No replays yet",
                "After an outage, a replay delivers what your service missed.",
                Some((&urls.new_replay(), "New replay"))))
        } @else {
            @let columns = [Text("Created"), Text("State"), Text("Deliveries"), Text("Progress"), Number("Per second")];
            (table("Replays", &columns, html! { @for replay in &page.items { (row(&urls, replay)) } }))
            (pager(next.as_deref(), OLDER))
        }
    };
    Ok(ctx.page(NavItem::Replays, "Replays", body))
}

fn row(urls: &Urls, replay: &Replay) -> Markup {
    html! {
        tr {
            td { a id=(replay.id) href=(urls.replay(replay.id)) { (time(replay.created_at)) } }
            td { (state_badge(replay.state)) }
            td { (filter_summary(urls, &replay.filter)) }
            td { (progress_bar(replay)) span.line { (grouped(replay.done)) " of " (grouped(replay.total.max(replay.done))) } }
            td.number { (grouped(replay.rate.into())) }
        }
    }
}

pub(crate) fn state_badge(state: ReplayState) -> Markup {
    let tone = match state {
        ReplayState::Running => Tone::Accent,
        ReplayState::Paused => Tone::Warn,
        ReplayState::Cancelled => Tone::Faint,
        ReplayState::Completed => Tone::Good,
    };
    badge(tone, &json_name(&state))
}

/// The progress bar. A replay can do more than its total, whose count may be incomplete.
pub(crate) fn progress_bar(replay: &Replay) -> Markup {
    let (done, total) = match replay.state {
        ReplayState::Completed => (1, 1),
        _ => (replay.done.min(replay.total), replay.total.max(1)),
    };
    html! { progress max=(total) value=(done) aria-label="Progress" {} }
}

/// A filter in words.
pub(crate) fn filter_summary(urls: &Urls, filter: &Filter) -> Markup {
    let Filter { endpoint, event_types, states, since, until } = filter;
    html! {
        span.line {
            @match endpoint {
                Some(id) => { "to " a href=(urls.webhook(*id)) { code { (id) } } }
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
