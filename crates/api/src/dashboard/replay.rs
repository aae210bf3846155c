//! The page of one replay: how far it has come, and pausing, resuming and cancelling it.

use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::response::{Redirect, Response};
use axum::routing::{get, post};
use maud::{Markup, html};
use postrider_domain::ids::{AccountId, ReplayId};
use postrider_domain::replay::{Command, Replay, ReplayState};

use super::format::{grouped, length};
use super::frame::{Page, Place, Visit, anew};
use super::links::below;
use super::parts::{address, copyable, time};
use super::replays::{bar, state_badge, taken};
use super::said::Said;
use crate::App;
use crate::rest::fields::name_of;
use crate::rest::replays;
use crate::web::auth::Tenant;
use crate::web::extract::PathId;
use crate::web::page::Params;
use crate::web::problem::Problem;

pub(crate) fn routes() -> Router<App> {
    let at = |action: &str| format!("/replays/{{replay}}/{action}");
    Router::new()
        .route("/replays/{replay}", get(show))
        .route(&at("progress"), get(progress))
        .route(&at("pause"), post(pause))
        .route(&at("resume"), post(resume))
        .route(&at("cancel"), post(cancel))
}

async fn found(app: &App, account: AccountId, id: ReplayId) -> Result<Replay, Problem> {
    let found = app.records().replay(account, id).await?;
    found.ok_or_else(|| Problem::not_found("replay"))
}

async fn show(
    visit: Visit,
    tenant: Tenant,
    PathId(id): PathId<ReplayId>,
    State(app): State<App>,
    params: Params,
) -> Result<Page, Problem> {
    params.finish()?;
    let replay = found(&app, tenant.0, id).await?;
    let links = visit.links();
    let body = html! {
        p.crumbs { a href=(links.replays()) { "Replays" } }
        h1 { "Replay" }
        p { (copyable(id)) }
        section.banner aria-label="State" {
            (standing(&visit, &replay))
            (commands(&visit, &replay))
        }
        section aria-labelledby="takes" {
            h2 #takes { "Which deliveries it makes anew" }
            p { (taken(&links, &replay.filter)) }
            p {
                "Made " (time(replay.created_at)) ", at most " (grouped(replay.rate.into()))
                " new deliveries a second."
            }
        }
    };
    Ok(visit.page(Place::Replays, "Replay", body))
}

/// How far it has come. It is asked for again while it runs.
fn standing(visit: &Visit, replay: &Replay) -> Markup {
    let page = below(&visit.links().replay(replay.id), "progress");
    let again = address(&page, &[("was", &name_of(&replay.state))]);
    let again = (replay.state == ReplayState::Running).then_some(again);
    html! {
        div #progress hx-get=[again.as_ref()] hx-trigger=[again.as_ref().map(|_| "every 2s")]
            hx-swap="outerHTML" {
            p.headline { (state_badge(replay.state)) " " (in_words(replay)) }
            (bar(replay))
            p {
                (grouped(replay.done)) " of " (grouped(replay.total.max(replay.done))) " done"
                @if let Some(at) = replay.finished_at { ", ended " (time(at)) }
                "."
            }
        }
    }
}

fn in_words(replay: &Replay) -> String {
    let left = replay.total.saturating_sub(replay.done);
    match replay.state {
        ReplayState::Running if left > 0 => {
            let seconds = left.div_ceil(u64::from(replay.rate.max(1)));
            format!("It has about {} to go.", length(Duration::from_secs(seconds)))
        }
        ReplayState::Running => "It is looking for more.".to_owned(),
        ReplayState::Paused => "It makes nothing until it is resumed.".to_owned(),
        ReplayState::Cancelled => "It was given up. What it had made is not taken back.".to_owned(),
        ReplayState::Completed if replay.done == 0 => {
            "There was nothing for it to take.".to_owned()
        }
        ReplayState::Completed => "Everything that it takes was made anew.".to_owned(),
    }
}

fn commands(visit: &Visit, replay: &Replay) -> Markup {
    let button = |action: &str, class: Option<&str>, text: &str| {
        html! {
            form method="post" action=(below(&visit.links().replay(replay.id), action)) {
                (visit.csrf())
                button class=[class] type="submit" { (text) }
            }
        }
    };
    html! {
        @match replay.state {
            ReplayState::Running => div.actions {
                (button("pause", None, "Pause")) (button("cancel", Some("bad"), "Cancel the replay"))
            },
            ReplayState::Paused => div.actions {
                (button("resume", Some("primary"), "Resume")) (button("cancel", Some("bad"), "Cancel the replay"))
            },
            ReplayState::Cancelled | ReplayState::Completed => {}
        }
    }
}

/// The progress anew; the whole page, when the state is not the one that it shows.
async fn progress(
    visit: Visit,
    tenant: Tenant,
    PathId(id): PathId<ReplayId>,
    State(app): State<App>,
    mut params: Params,
) -> Result<Response, Problem> {
    let was = params.text("was");
    params.finish()?;
    let replay = found(&app, tenant.0, id).await?;
    Ok(anew(was.as_deref(), &name_of(&replay.state), standing(&visit, &replay)))
}

async fn pause(
    visit: Visit,
    tenant: Tenant,
    PathId(id): PathId<ReplayId>,
    State(app): State<App>,
) -> Result<Redirect, Problem> {
    command(&visit, &app, tenant.0, id, Command::Pause).await
}

async fn resume(
    visit: Visit,
    tenant: Tenant,
    PathId(id): PathId<ReplayId>,
    State(app): State<App>,
) -> Result<Redirect, Problem> {
    command(&visit, &app, tenant.0, id, Command::Resume).await
}

async fn cancel(
    visit: Visit,
    tenant: Tenant,
    PathId(id): PathId<ReplayId>,
    State(app): State<App>,
) -> Result<Redirect, Problem> {
    command(&visit, &app, tenant.0, id, Command::Cancel).await
}

async fn command(
    visit: &Visit,
    app: &App,
    account: AccountId,
    id: ReplayId,
    command: Command,
) -> Result<Redirect, Problem> {
    replays::command(app, account, id, command).await?;
    let said = match command {
        Command::Pause => Said::ReplayPaused,
        Command::Resume => Said::Started,
        Command::Cancel => Said::ReplayCancelled,
    };
    Ok(Redirect::to(&said.at(&visit.links().replay(id))))
}
