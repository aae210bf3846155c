//! The page of one replay: its progress, and the buttons to pause, resume and cancel it.

use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::response::{Redirect, Response};
use axum::routing::{get, post};
use maud::{Markup, html};
use postrider_domain::ids::{AccountId, ReplayId};
use postrider_domain::replay::{Command, Replay, ReplayState};

use super::components::{copyable, time, with_query};
use super::flash::Flash;
use super::format::{count, grouped, short_duration};
use super::layout::{NavItem, Page, PageContext, refreshed};
use super::replays::{filter_summary, progress_bar, state_badge};
use super::urls::subpath;
use crate::App;
use crate::web::auth::Tenant;
use crate::web::choice::json_name;
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

async fn load_replay(app: &App, account: AccountId, id: ReplayId) -> Result<Replay, Problem> {
    let found = app.records().replay(account, id).await?;
    found.ok_or_else(|| Problem::not_found("replay"))
}

async fn show(
    ctx: PageContext,
    tenant: Tenant,
    PathId(id): PathId<ReplayId>,
    State(app): State<App>,
    params: Params,
) -> Result<Page, Problem> {
    params.finish()?;
    let replay = load_replay(&app, tenant.0, id).await?;
    let urls = ctx.urls();
    let body = html! {
        p.crumbs { a href=(urls.replays()) { "Replays" } }
        h1 { "Replay" }
        p { (copyable(id)) }
        section.banner aria-label="State" {
            (progress_section(&ctx, &replay))
            (commands(&ctx, &replay))
        }
        section aria-labelledby="filter" {
            h2 #filter { "Deliveries to replay" }
            p { (filter_summary(&urls, &replay.filter)) }
            p {
                "Created " (time(replay.created_at)) ". At most " (count(replay.rate.into(), "delivery", "deliveries"))
                " per second."
            }
        }
    };
    Ok(ctx.page(NavItem::Replays, "Replay", body))
}

/// The progress, which is polled while the replay is running.
fn progress_section(ctx: &PageContext, replay: &Replay) -> Markup {
    let page = subpath(&ctx.urls().replay(replay.id), "progress");
    let poll_url = with_query(&page, &[("version", &json_name(&replay.state))]);
    let poll_url = (replay.state == ReplayState::Running).then_some(poll_url);
    html! {
        div #progress hx-get=[poll_url.as_ref()] hx-trigger=[poll_url.as_ref().map(|_| "every 2s")]
            hx-swap="outerHTML" {
            p.headline { (state_badge(replay.state)) " " (status_text(replay)) }
            (progress_bar(replay))
            p {
                (grouped(replay.done)) " of " (grouped(replay.total.max(replay.done))) " done"
                @if let Some(at) = replay.finished_at { ", finished " (time(at)) }
                "."
            }
        }
    }
}

fn status_text(replay: &Replay) -> String {
    let left = replay.total.saturating_sub(replay.done);
    match replay.state {
        ReplayState::Running if left > 0 => {
            let seconds = left.div_ceil(u64::from(replay.rate.max(1)));
            format!("About {} left.", short_duration(Duration::from_secs(seconds)))
        }
        ReplayState::Running => "Looking for more deliveries.".to_owned(),
        ReplayState::Paused => "No deliveries are created until you resume it.".to_owned(),
        ReplayState::Cancelled => {
            "Cancelled. Deliveries that it already created are still sent.".to_owned()
        }
        ReplayState::Completed if replay.done == 0 => "No deliveries matched.".to_owned(),
        ReplayState::Completed => {
            "A new delivery was created for every matching delivery.".to_owned()
        }
    }
}

fn commands(ctx: &PageContext, replay: &Replay) -> Markup {
    let button = |action: &str, class: Option<&str>, text: &str| {
        html! {
            form method="post" action=(subpath(&ctx.urls().replay(replay.id), action)) {
                (ctx.csrf())
                button class=[class] type="submit" { (text) }
            }
        }
    };
    html! {
        @match replay.state {
            ReplayState::Running => div.actions {
                (button("pause", None, "Pause")) (button("cancel", Some("bad"), "Cancel replay"))
            },
            ReplayState::Paused => div.actions {
                (button("resume", Some("primary"), "Resume")) (button("cancel", Some("bad"), "Cancel replay"))
            },
            ReplayState::Cancelled | ReplayState::Completed => {}
        }
    }
}

/// The refreshed progress, or a reload of the page if the state has changed.
async fn progress(
    ctx: PageContext,
    tenant: Tenant,
    PathId(id): PathId<ReplayId>,
    State(app): State<App>,
    mut params: Params,
) -> Result<Response, Problem> {
    let old_version = params.text("version");
    params.finish()?;
    let replay = load_replay(&app, tenant.0, id).await?;
    let version = json_name(&replay.state);
    Ok(refreshed(old_version.as_deref(), &version, progress_section(&ctx, &replay)))
}

async fn pause(
    ctx: PageContext,
    tenant: Tenant,
    PathId(id): PathId<ReplayId>,
    State(app): State<App>,
) -> Result<Redirect, Problem> {
    command(&ctx, &app, tenant.0, id, Command::Pause).await
}

async fn resume(
    ctx: PageContext,
    tenant: Tenant,
    PathId(id): PathId<ReplayId>,
    State(app): State<App>,
) -> Result<Redirect, Problem> {
    command(&ctx, &app, tenant.0, id, Command::Resume).await
}

async fn cancel(
    ctx: PageContext,
    tenant: Tenant,
    PathId(id): PathId<ReplayId>,
    State(app): State<App>,
) -> Result<Redirect, Problem> {
    command(&ctx, &app, tenant.0, id, Command::Cancel).await
}

async fn command(
    ctx: &PageContext,
    app: &App,
    account: AccountId,
    id: ReplayId,
    command: Command,
) -> Result<Redirect, Problem> {
    app.service().command_replay(account, id, command, None).await?;
    let flash = match command {
        Command::Pause => Flash::ReplayPaused,
        Command::Resume => Flash::Started,
        Command::Cancel => Flash::ReplayCancelled,
    };
    Ok(Redirect::to(&flash.redirect_target(&ctx.urls().replay(id))))
}
