//! How a session begins and ends: with a key, or by a link that the operator made for somebody.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use http::StatusCode;
use http::header::SET_COOKIE;
use maud::{Markup, html};
use serde::Serialize;
use url::form_urlencoded;

use super::form::Form;
use super::frame::{self, Page};
use super::gate::{set_cookie, way_back};
use super::session::{Session, Who};
use crate::App;
use crate::rest::fields::{choose, name_of};
use crate::rest::portal_links;
use crate::web::auth::{self, Key};
use crate::web::extract::PathText;
use crate::web::page::Params;
use crate::web::problem::Problem;

/// How long a session lasts that was begun with a key.
const SESSION: Duration = Duration::from_secs(12 * 3600);
/// Largest form that is read of somebody who is not known yet, in bytes.
const MAX_FORM_BYTES: usize = 4 * 1024;
const PATH: &str = "/dashboard/sign-in";

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route(PATH, get(show).post(sign_in))
        .route("/dashboard/sign-out", post(sign_out))
        .route("/dashboard/open/{link}", get(open))
}

/// What a session's end cut short.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Over {
    /// Nothing but the session.
    Session,
    /// A form that was brought in.
    Form,
}

/// The sign-in page that leads to `back` afterwards; for somebody whose session is over, it says so.
pub(crate) fn address(back: &str, over: Option<Over>) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    if back != super::ROOT {
        query.append_pair("back", back);
    }
    if let Some(over) = over {
        query.append_pair("over", &name_of(&over));
    }
    match query.finish() {
        query if query.is_empty() => PATH.to_owned(),
        query => format!("{PATH}?{query}"),
    }
}

async fn show(mut params: Params) -> Result<Page, Problem> {
    let back = params.take("back", |text| way_back(text).map(str::to_owned).ok_or("is no page"));
    let over = params.take("over", |text| choose(text, &[Over::Session, Over::Form]));
    let reason = over.map(|over| match over {
        Over::Session => "Your session has ended.",
        Over::Form => "Your session has ended. What you were filling in was not saved.",
    });
    Ok(page(back.as_deref().unwrap_or(super::ROOT), reason, None))
}

fn page(back: &str, reason: Option<&str>, error: Option<&str>) -> Page {
    frame::bare(
        "Sign in",
        html! {
            h1 { "Sign in" }
            @if let Some(reason) = reason { p role="status" { (reason) } }
            form.narrow method="post" action=(PATH) {
                input type="hidden" name="back" value=(back);
                label for="key" { "API key" }
                input #key type="password" name="key" required autofocus autocomplete="current-password"
                    spellcheck="false" aria-describedby="key-hint key-error";
                p #key-hint .hint {
                    "A key of your account (" code { "prk_…" } "), or the operator's key. If you came by a link, "
                    "go back to where you found it, and open a new one."
                }
                (error_text(error))
                button type="submit" { "Sign in" }
            }
        },
    )
}

fn error_text(error: Option<&str>) -> Markup {
    html! {
        p #key-error .error role="alert" { @if let Some(error) = error { (error) } }
    }
}

async fn sign_in(State(app): State<App>, body: Body) -> Result<Response, Problem> {
    let form = Form::read(body, MAX_FORM_BYTES).await?;
    let back = way_back(form.text("back")).unwrap_or(super::ROOT);
    let Some(key) = auth::whose(&app, form.text("key").trim()).await? else {
        let refused = page(back, None, Some("This key is unknown. It may have been deleted."));
        return Ok(refused.with_status(StatusCode::UNPROCESSABLE_ENTITY).into_response());
    };
    let who = match key {
        Key::Operator => Who::Operator { key: app.0.api.operator_key.fingerprint() },
        Key::Account(account, key) => Who::Key { account, key },
    };
    begin(&app, who, SESSION, back).await
}

/// Opens the page of a portal link as its account.
async fn open(State(app): State<App>, PathText(text): PathText) -> Result<Response, Problem> {
    let now = app.wall();
    let link = match app.signer().await?.read_link(&text, now) {
        Some(link) if portal_links::are_good(&app, link.account, link.generation).await? => link,
        _ => return Ok(link_ended()),
    };
    let who = Who::Link { account: link.account, generation: link.generation };
    begin(&app, who, link.expires_at.since(now), &link.page).await
}

fn link_ended() -> Response {
    let body = html! {
        h1 { "This link has ended" }
        p { "Links to the dashboard work for a limited time. Go back to where you found it, and "
            "open a new one." }
    };
    frame::bare("Link", body).with_status(StatusCode::GONE).into_response()
}

async fn begin(app: &App, who: Who, life: Duration, page: &str) -> Result<Response, Problem> {
    let session = Session { who, expires_at: app.wall().plus(life) };
    let text = app.signer().await?.session(&session);
    let cookie = set_cookie(app, &text, life);
    Ok(([(SET_COOKIE, cookie)], Redirect::to(page)).into_response())
}

async fn sign_out(State(app): State<App>) -> Response {
    ([(SET_COOKIE, set_cookie(&app, "", Duration::ZERO))], Redirect::to(PATH)).into_response()
}
