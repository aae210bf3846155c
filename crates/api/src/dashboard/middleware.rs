//! The middleware around every page: sessions, protection of forms against other sites (CSRF), and
//! the security headers of responses.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HOST, ORIGIN, REFERRER_POLICY, WWW_AUTHENTICATE,
    X_CONTENT_TYPE_OPTIONS,
};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use postrider_domain::account::Account;
use postrider_domain::ids::AccountId;

use super::flash::Flash;
use super::form::{self, Form};
use super::layout::{self, PageContext};
use super::origin::Origin;
use super::session::{Principal, Session};
use super::session_cookie;
use super::sign_in::{self, SessionEnd};
use super::urls;
use crate::App;
use crate::web::auth::{Caller, Tenant};
use crate::web::problem::Problem;

/// Pages may load our own scripts and styles and send requests to this host, nothing else.
const CSP: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     img-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; \
     frame-ancestors ";
/// The header that marks requests from htmx.
const HTMX: &str = "hx-request";

/// The base URL of the dashboard, without a trailing slash: the configured one, or else the host
/// that the request was sent to.
pub(crate) fn base_url(app: &App, headers: &HeaderMap) -> Result<String, Problem> {
    if let Some(url) = &app.0.api.dashboard.public_url {
        return Ok(url.to_string());
    }
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let host = host.and_then(|host| host.parse::<Authority>().ok());
    match host {
        Some(host) => Ok(format!("http://{host}")),
        None => Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "The request has no valid Host header, and [dashboard] public_url is not set.",
        )),
    }
}

/// Requires a session that may access the account in the path, and passes on the caller and the
/// [`PageContext`].
pub(crate) async fn require_session(
    State(app): State<App>,
    request: Request,
    next: Next,
) -> Response {
    let (mut response, ctx) = match authenticate(&app, request).await {
        Ok((request, ctx)) => (next.run(request).await, Some(ctx)),
        Err(Rejection { response, ctx }) => (response, ctx),
    };
    // The error page of a signed-in user keeps its navigation.
    if let Some(ctx) = ctx {
        response.extensions_mut().insert(ctx);
    }
    response
}

/// The response instead of the page, and the page context as far as it is known.
struct Rejection {
    response: Response,
    ctx: Option<PageContext>,
}

impl From<Problem> for Rejection {
    fn from(problem: Problem) -> Self {
        Self { response: problem.into_response(), ctx: None }
    }
}

async fn authenticate(app: &App, request: Request) -> Result<(Request, PageContext), Rejection> {
    let token = session_cookie::token(&app.0.api.dashboard, request.headers()).unwrap_or_default();
    let signer = app.signer().await?;
    let session = signer.verify_session(&token, app.wall_time());
    let caller = match session {
        Some(session) => resolve_caller(app, session).await?,
        None => None,
    };
    let (Some(session), Some(caller)) = (session, caller) else {
        let ended = !token.is_empty();
        return Err(Rejection { response: redirect_to_sign_in(&request, ended), ctx: None });
    };
    let (mut parts, body) = request.into_parts();
    let account = resolve_account(app, caller, parts.uri.path()).await;
    let flash = Flash::take(&mut parts.uri);
    let known = account.as_ref().ok().cloned().flatten();
    let ctx =
        PageContext::new(session.principal, signer.csrf_token(&token), known, flash, app.now());
    let reject =
        |problem: Problem| Rejection { response: problem.into_response(), ctx: Some(ctx.clone()) };
    if let Some(account) = account.map_err(reject)? {
        parts.extensions.insert(Tenant(account.id));
    }
    parts.extensions.insert(caller);
    parts.extensions.insert(ctx.clone());
    if matches!(parts.method, Method::GET | Method::HEAD) {
        return Ok((Request::from_parts(parts, body), ctx));
    }
    let form = Form::read(body, form::MAX_BYTES).await.map_err(reject)?;
    if !ctx.has_valid_csrf(&form) {
        return Err(reject(csrf_problem()));
    }
    parts.extensions.insert(form);
    Ok((Request::from_parts(parts, Body::empty()), ctx))
}

fn csrf_problem() -> Problem {
    Problem::new(
        StatusCode::FORBIDDEN,
        "This form does not belong to your session. Go back, reload the page, and submit it again.",
    )
}

/// The caller of a session. `None` once the credential it was opened with has been revoked.
async fn resolve_caller(app: &App, session: Session) -> Result<Option<Caller>, Problem> {
    Ok(match session.principal {
        Principal::Operator { key } => {
            (app.0.api.operator_key.fingerprint() == key).then_some(Caller::Operator)
        }
        Principal::ApiKey { account, key } => {
            let known = app.records().key(account, key).await?.is_some();
            known.then_some(Caller::Account(account))
        }
        Principal::PortalLink { account, generation } => {
            let good = app.service().portal_links_are_valid(account, generation).await?;
            good.then_some(Caller::Account(account))
        }
    })
}

/// The account in the path, if there is one. Accounts of others appear not to exist.
async fn resolve_account(
    app: &App,
    caller: Caller,
    path: &str,
) -> Result<Option<Account>, Problem> {
    let Some(segment) = urls::account_segment(path) else {
        return Ok(None);
    };
    let not_found = || Problem::not_found("account");
    let id: AccountId = segment.parse().map_err(|_| not_found())?;
    if !caller.may_access(id) {
        return Err(not_found());
    }
    app.records().account(id).await?.ok_or_else(not_found).map(Some)
}

/// Redirects to the sign-in page, which returns to the requested page if it can be loaded again.
/// The sign-in page says when a session has ended.
fn redirect_to_sign_in(request: &Request, ended: bool) -> Response {
    let headers = request.headers();
    if headers.contains_key(HTMX) {
        // A fragment can neither become a sign-in page nor be returned to.
        let back = current_page(headers).unwrap_or(super::ROOT);
        let target = sign_in::url(back, Some(SessionEnd::Expired));
        return (StatusCode::UNAUTHORIZED, [("hx-redirect", target)]).into_response();
    }
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    let back = if is_read { request.uri().path() } else { super::ROOT };
    let ended = match (ended, is_read) {
        (false, _) => None,
        (true, true) => Some(SessionEnd::Expired),
        (true, false) => Some(SessionEnd::FormLost),
    };
    Redirect::to(&sign_in::url(back, ended)).into_response()
}

/// The page on which htmx made the request.
fn current_page(headers: &HeaderMap) -> Option<&str> {
    let url = headers.get("hx-current-url")?.to_str().ok()?;
    let (_, rest) = url.split_once("://")?;
    let path = &rest[rest.find('/')?..];
    urls::return_path(path.split(['?', '#']).next()?)
}

/// Rejects form submissions from other sites.
pub(crate) async fn reject_cross_site(
    State(app): State<App>,
    request: Request,
    next: Next,
) -> Response {
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    let own_origin = app.0.api.dashboard.public_url.as_ref();
    if !is_read && is_cross_site(request.headers(), own_origin) {
        return csrf_problem().into_response();
    }
    next.run(request).await
}

/// Whether the browser reports that another site's page sent this request (Fetch Metadata;
/// RFC 6454 §7). `own_origin` is same-site even if a proxy rewrote the host.
fn is_cross_site(headers: &HeaderMap, own_origin: Option<&Origin>) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(site) = text("sec-fetch-site") {
        return !matches!(site, "same-origin" | "none");
    }
    match (text(ORIGIN.as_str()), text(HOST.as_str())) {
        (Some(origin), _) if own_origin.is_some_and(|own| own.to_string() == origin) => false,
        (Some(origin), Some(host)) => {
            origin.split_once("://").is_none_or(|(_, origin_host)| origin_host != host)
        }
        (Some(_), None) => true,
        (None, _) => false,
    }
}

/// Renders problems as pages and adds the security headers to every response.
pub(crate) async fn security_headers(
    State(app): State<App>,
    request: Request,
    next: Next,
) -> Response {
    let is_fragment = request.headers().contains_key(HTMX);
    let mut response = next.run(request).await;
    let ctx = response.extensions_mut().remove::<PageContext>();
    if let Some(problem) = response.extensions_mut().remove::<Arc<Problem>>() {
        let old_headers = response.headers().clone();
        response = layout::problem(ctx.as_ref(), &problem).into_response();
        for name in ["retry-after", "allow", "connection"] {
            if let Some(value) = old_headers.get(name) {
                response.headers_mut().insert(name, value.clone());
            }
        }
    }
    let is_not_found = response.status() == StatusCode::NOT_FOUND;
    let headers = response.headers_mut();
    if is_fragment && is_not_found {
        // The page around the fragment is gone too: reload it, to show the error.
        headers.insert("hx-refresh", HeaderValue::from_static("true"));
    }
    headers.remove(WWW_AUTHENTICATE);
    headers.insert(CONTENT_SECURITY_POLICY, csp(&app));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

fn csp(app: &App) -> HeaderValue {
    let origins = &app.0.api.dashboard.embed_in;
    let origins: Vec<_> = origins.iter().map(ToString::to_string).collect();
    let ancestors = if origins.is_empty() { "'none'".to_owned() } else { origins.join(" ") };
    HeaderValue::try_from(format!("{CSP}{ancestors}")).expect("origins are ASCII")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cross_site_requests_are_detected() {
        let cross = |pairs: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.insert(*name, HeaderValue::from_static(value));
            }
            is_cross_site(&headers, Some(&Origin::parse("https://hooks.example.com").unwrap()))
        };
        assert!(!cross(&[("host", "a:1")]), "not a browser");
        assert!(!cross(&[("host", "a:1"), ("origin", "http://a:1")]));
        assert!(cross(&[("host", "a:1"), ("origin", "http://a:2")]));
        assert!(cross(&[("host", "a:1"), ("origin", "null")]));
        assert!(!cross(&[("host", "a:1"), ("origin", "https://hooks.example.com")]));
        assert!(!cross(&[("sec-fetch-site", "same-origin"), ("origin", "https://proxy")]));
        assert!(cross(&[("sec-fetch-site", "cross-site")]));
        assert!(cross(&[("sec-fetch-site", "same-site")]));
    }

    #[test]
    fn a_fragment_returns_to_its_page() {
        let page = |url: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("hx-current-url", HeaderValue::from_static(url));
            current_page(&headers).map(str::to_owned)
        };
        let good = page("https://a:1/dashboard/accounts/a/webhooks/e?flash=saved#x");
        assert_eq!(good.as_deref(), Some("/dashboard/accounts/a/webhooks/e"));
        for bad in ["", "https://a", "https://a/v1/", "/dashboard", "https://a//evil/dashboard"] {
            assert_eq!(page(bad), None, "{bad}");
        }
    }
}
