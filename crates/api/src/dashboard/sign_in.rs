//! Sign-in with an API key or a portal link, and sign-out.

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
use super::layout::{self, Page};
use super::session::{Principal, Session};
use super::session_cookie;
use super::urls::return_path;
use crate::App;
use crate::web::auth::{self, VerifiedKey};
use crate::web::choice::{json_name, parse_choice};
use crate::web::extract::PathText;
use crate::web::page::Params;
use crate::web::problem::Problem;

/// The lifetime of a session opened with a key.
const SESSION_LIFETIME: Duration = Duration::from_secs(12 * 3600);
/// The maximum size in bytes of a form accepted without a session.
const MAX_FORM_BYTES: usize = 4 * 1024;
const PATH: &str = "/dashboard/sign-in";

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route(PATH, get(show).post(sign_in))
        .route("/dashboard/sign-out", post(sign_out))
        .route("/dashboard/open/{link}", get(open))
}

/// What the sign-in page says about a session that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SessionEnd {
    /// Nothing was lost.
    Expired,
    /// A submitted form was lost.
    FormLost,
}

/// The URL of the sign-in page that returns to `back`.
pub(crate) fn url(back: &str, ended: Option<SessionEnd>) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    if back != super::ROOT {
        query.append_pair("back", back);
    }
    if let Some(ended) = ended {
        query.append_pair("ended", &json_name(&ended));
    }
    match query.finish() {
        query if query.is_empty() => PATH.to_owned(),
        query => format!("{PATH}?{query}"),
    }
}

async fn show(mut params: Params) -> Result<Page, Problem> {
    let back = params
        .take("back", |text| return_path(text).map(str::to_owned).ok_or("is not a dashboard page"));
    let ended = params
        .take("ended", |text| parse_choice(text, &[SessionEnd::Expired, SessionEnd::FormLost]));
    let reason = ended.map(|ended| match ended {
        SessionEnd::Expired => "Your session has ended.",
        SessionEnd::FormLost => "Your session has ended. Your changes were not saved.",
    });
    Ok(page(back.as_deref().unwrap_or(super::ROOT), reason, None))
}

fn page(back: &str, reason: Option<&str>, error: Option<&str>) -> Page {
    layout::signed_out_page(
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
                    "Your account's API key (" code { "prk_…" } ") or the operator key. If you followed a link to get here, "
                    "go back to the page you came from and open the link again."
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
    let back = return_path(form.text("back")).unwrap_or(super::ROOT);
    let Some(key) = auth::verify_key(&app, form.text("key").trim()).await? else {
        let refused = page(back, None, Some("Invalid API key. It may have been deleted."));
        return Ok(refused.with_status(StatusCode::UNPROCESSABLE_ENTITY).into_response());
    };
    let principal = match key {
        VerifiedKey::Operator => Principal::Operator { key: app.0.api.operator_key.fingerprint() },
        VerifiedKey::Account(account, key) => Principal::ApiKey { account, key },
    };
    start_session(&app, principal, SESSION_LIFETIME, back).await
}

/// Opens a portal link: starts a session for its account and redirects to its page.
async fn open(State(app): State<App>, PathText(token): PathText) -> Result<Response, Problem> {
    let now = app.wall_time();
    let link = match app.signer().await?.verify_link(&token, now) {
        Some(link)
            if app.service().portal_links_are_valid(link.account, link.generation).await? =>
        {
            link
        }
        _ => return Ok(link_expired()),
    };
    let principal = Principal::PortalLink { account: link.account, generation: link.generation };
    start_session(&app, principal, link.expires_at.since(now), &link.page).await
}

fn link_expired() -> Response {
    let body = html! {
        h1 { "This link has expired" }
        p { "Links to the dashboard are valid for a limited time. Go back to the page with the link "
            "and open the link again." }
    };
    layout::signed_out_page("Link expired", body).with_status(StatusCode::GONE).into_response()
}

async fn start_session(
    app: &App,
    principal: Principal,
    lifetime: Duration,
    page: &str,
) -> Result<Response, Problem> {
    let session = Session { principal, expires_at: app.wall_time().plus(lifetime) };
    let token = app.signer().await?.sign_session(&session);
    let cookie = session_cookie::start(&app.0.api.dashboard, &token, lifetime);
    Ok(([(SET_COOKIE, cookie)], Redirect::to(page)).into_response())
}

async fn sign_out(State(app): State<App>) -> Response {
    ([(SET_COOKIE, session_cookie::remove(&app.0.api.dashboard))], Redirect::to(PATH))
        .into_response()
}
