//! What stands before and behind every page: who looks, whether a form is ours, and what a browser
//! may do with the answer.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, COOKIE, HOST, ORIGIN, REFERRER_POLICY,
    WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use postrider_domain::account::Account;
use postrider_domain::ids::AccountId;

use super::form::{self, Form};
use super::frame::{self, Visit};
use super::links;
use super::origin::Origin;
use super::said::Said;
use super::session::{Session, Who};
use super::sign_in::{self, Over};
use crate::App;
use crate::rest::portal_links;
use crate::web::auth::{Caller, Tenant};
use crate::web::problem::Problem;

/// The session's cookie; and where it goes over TLS alone, with the prefix that binds it to its host
/// (RFC 6265bis §4.1.3.2).
const COOKIE_NAMES: (&str, &str) = ("postrider_session", "__Host-postrider_session");
/// How long a browser keeps a session that has ended.
const REMEMBERED: Duration = Duration::from_secs(7 * 24 * 3600);
/// What a page may do: show itself, run the files of ours, ask this host.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     img-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; \
     frame-ancestors ";
/// What htmx calls itself in the requests that it makes.
const HTMX: &str = "hx-request";

/// The start of URLs that lead people here, without a slash at its end: as it is configured, or else
/// as the request found this node.
pub(crate) fn own_url(app: &App, headers: &HeaderMap) -> Result<String, Problem> {
    if let Some(url) = &app.0.api.dashboard.public_url {
        return Ok(url.to_string());
    }
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let host = host.and_then(|host| host.parse::<Authority>().ok());
    match host {
        Some(host) => Ok(format!("http://{host}")),
        None => Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "The request has no usable Host header, and [dashboard] public_url is not set.",
        )),
    }
}

/// Lets a request pass whose session may see what its path names, and leaves who it is.
pub(crate) async fn enter(State(app): State<App>, request: Request, next: Next) -> Response {
    let (mut response, visit) = match admit(&app, request).await {
        Ok((request, visit)) => (next.run(request).await, Some(visit)),
        Err(Refusal { response, visit }) => (response, visit),
    };
    // A problem is shown to somebody who is signed in between the links that they know.
    if let Some(visit) = visit {
        response.extensions_mut().insert(visit);
    }
    response
}

/// An answer in place of the page, and who it is for, as far as that is known.
struct Refusal {
    response: Response,
    visit: Option<Visit>,
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self { response: problem.into_response(), visit: None }
    }
}

async fn admit(app: &App, request: Request) -> Result<(Request, Visit), Refusal> {
    let text = cookie(app, request.headers()).unwrap_or_default().to_owned();
    let signer = app.signer().await?;
    let session = signer.read_session(&text, app.wall());
    let caller = match session {
        Some(session) => caller(app, session).await?,
        None => None,
    };
    let (Some(session), Some(caller)) = (session, caller) else {
        let over = !text.is_empty();
        return Err(Refusal { response: to_sign_in(&request, over), visit: None });
    };
    let (mut parts, body) = request.into_parts();
    let account = tenant(app, caller, parts.uri.path()).await;
    let said = Said::take(&mut parts.uri);
    let known = account.as_ref().ok().cloned().flatten();
    let visit = Visit::new(session.who, signer.csrf(&text), known, said, app.now());
    let refuse = |problem: Problem| Refusal {
        response: problem.into_response(),
        visit: Some(visit.clone()),
    };
    if let Some(account) = account.map_err(refuse)? {
        parts.extensions.insert(Tenant(account.id));
    }
    parts.extensions.insert(caller);
    parts.extensions.insert(visit.clone());
    if matches!(parts.method, Method::GET | Method::HEAD) {
        return Ok((Request::from_parts(parts, body), visit));
    }
    let form = Form::read(body, form::MAX_BYTES).await.map_err(refuse)?;
    if !visit.brought_back(&form) {
        return Err(refuse(not_ours()));
    }
    parts.extensions.insert(form);
    Ok((Request::from_parts(parts, Body::empty()), visit))
}

fn not_ours() -> Problem {
    Problem::new(
        StatusCode::FORBIDDEN,
        "This form does not belong to your session. Go back, load the page again and repeat it.",
    )
}

/// Whose session it is; none once what it was begun with is over.
async fn caller(app: &App, session: Session) -> Result<Option<Caller>, Problem> {
    Ok(match session.who {
        Who::Operator { key } => {
            (app.0.api.operator_key.fingerprint() == key).then_some(Caller::Operator)
        }
        Who::Key { account, key } => {
            let known = app.records().key(account, key).await?.is_some();
            known.then_some(Caller::Account(account))
        }
        Who::Link { account, generation } => {
            let good = portal_links::are_good(app, account, generation).await?;
            good.then_some(Caller::Account(account))
        }
    })
}

/// The account in the path, if there is one. To an account every other one is as if it did not
/// exist.
async fn tenant(app: &App, caller: Caller, path: &str) -> Result<Option<Account>, Problem> {
    let Some(segment) = links::account_in(path) else {
        return Ok(None);
    };
    let nobody = || Problem::not_found("account");
    let id: AccountId = segment.parse().map_err(|_| nobody())?;
    if !caller.may_see(id) {
        return Err(nobody());
    }
    app.records().account(id).await?.ok_or_else(nobody).map(Some)
}

/// Leads to the sign-in page and from there back, to a page that can be read again. Somebody whose
/// session is over is told so.
fn to_sign_in(request: &Request, over: bool) -> Response {
    let headers = request.headers();
    if headers.contains_key(HTMX) {
        // A part of a page cannot be a sign-in page, nor can one come back to it.
        let back = current_page(headers).unwrap_or(super::ROOT);
        let target = sign_in::address(back, Some(Over::Session));
        return (StatusCode::UNAUTHORIZED, [("hx-redirect", target)]).into_response();
    }
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    let back = if reads { request.uri().path() } else { super::ROOT };
    let over = match (over, reads) {
        (false, _) => None,
        (true, true) => Some(Over::Session),
        (true, false) => Some(Over::Form),
    };
    Redirect::to(&sign_in::address(back, over)).into_response()
}

/// The page that htmx asks for a part of.
fn current_page(headers: &HeaderMap) -> Option<&str> {
    let url = headers.get("hx-current-url")?.to_str().ok()?;
    let (_, rest) = url.split_once("://")?;
    let path = &rest[rest.find('/')?..];
    way_back(path.split(['?', '#']).next()?)
}

/// Refuses what another site's page makes a browser send.
pub(crate) async fn same_site(State(app): State<App>, request: Request, next: Next) -> Response {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    let ours = app.0.api.dashboard.public_url.as_ref();
    if !reads && is_cross_site(request.headers(), ours) {
        return not_ours().into_response();
    }
    next.run(request).await
}

/// Whether a browser says that another site's page made it send this (Fetch Metadata; RFC 6454 §7).
/// A page of `ours` did not, whatever a proxy made of the host.
fn is_cross_site(headers: &HeaderMap, ours: Option<&Origin>) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(site) = text("sec-fetch-site") {
        return !matches!(site, "same-origin" | "none");
    }
    match (text(ORIGIN.as_str()), text(HOST.as_str())) {
        (Some(origin), _) if ours.is_some_and(|ours| ours.to_string() == origin) => false,
        (Some(origin), Some(host)) => {
            origin.split_once("://").is_none_or(|(_, origin_host)| origin_host != host)
        }
        (Some(_), None) => true,
        (None, _) => false,
    }
}

/// Shows a problem as a page, and says what a browser may do with any answer.
pub(crate) async fn dress(State(app): State<App>, request: Request, next: Next) -> Response {
    let is_part = request.headers().contains_key(HTMX);
    let mut response = next.run(request).await;
    let visit = response.extensions_mut().remove::<Visit>();
    if let Some(problem) = response.extensions_mut().remove::<Arc<Problem>>() {
        let kept = response.headers().clone();
        response = frame::problem(visit.as_ref(), &problem).into_response();
        for name in ["retry-after", "allow", "connection"] {
            if let Some(value) = kept.get(name) {
                response.headers_mut().insert(name, value.clone());
            }
        }
    }
    let is_gone = response.status() == StatusCode::NOT_FOUND;
    let headers = response.headers_mut();
    if is_part && is_gone {
        // The page that it is a part of is gone as well, and says so once it is asked for.
        headers.insert("hx-refresh", HeaderValue::from_static("true"));
    }
    headers.remove(WWW_AUTHENTICATE);
    headers.insert(CONTENT_SECURITY_POLICY, policy(&app));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

fn policy(app: &App) -> HeaderValue {
    let origins = &app.0.api.dashboard.embed_in;
    let origins: Vec<_> = origins.iter().map(ToString::to_string).collect();
    let ancestors = if origins.is_empty() { "'none'".to_owned() } else { origins.join(" ") };
    HeaderValue::try_from(format!("{POLICY}{ancestors}")).expect("origins are ASCII")
}

/// The session's text in a request's cookies.
fn cookie<'a>(app: &App, headers: &'a HeaderMap) -> Option<&'a str> {
    let name = cookie_name(app);
    let texts = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = texts.flat_map(|text| text.split(';')).filter_map(|pair| pair.split_once('='));
    pairs.find(|(other, _)| other.trim() == name).map(|(_, value)| value.trim())
}

fn cookie_name(app: &App) -> &'static str {
    if app.0.api.dashboard.is_secure() { COOKIE_NAMES.1 } else { COOKIE_NAMES.0 }
}

/// The header that gives a browser this session for so long; no time takes it away. The browser
/// keeps it for a while after its end, so that somebody who comes back can be told that it has ended.
pub(crate) fn set_cookie(app: &App, text: &str, life: Duration) -> HeaderValue {
    let kept = if life.is_zero() { life } else { life + REMEMBERED };
    let seconds = kept.as_secs();
    let name = cookie_name(app);
    let embedded = !app.0.api.dashboard.embed_in.is_empty();
    // Within another site's page a browser sends only what is marked so, and only over TLS.
    let scope = match (app.0.api.dashboard.is_secure(), embedded) {
        (true, true) => "; Secure; SameSite=None; Partitioned",
        (true, false) => "; Secure; SameSite=Lax",
        (false, _) => "; SameSite=Lax",
    };
    let value = format!("{name}={text}; Path=/; Max-Age={seconds}; HttpOnly{scope}");
    HeaderValue::try_from(value).expect("a session's text is base64")
}

/// A path within the dashboard that somebody asked to be led back to; none for any other.
pub(crate) fn way_back(text: &str) -> Option<&str> {
    let uri: Uri = text.parse().ok()?;
    let local = uri.authority().is_none() && uri.scheme().is_none();
    let ours = text == super::ROOT || text.starts_with("/dashboard/");
    let plain = !text.contains(['\\', '\r', '\n']);
    (local && ours && plain).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_sites_are_told_apart() {
        let cross = |pairs: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.insert(*name, HeaderValue::from_static(value));
            }
            is_cross_site(&headers, Some(&Origin::parse("https://hooks.example.com").unwrap()))
        };
        assert!(!cross(&[("host", "a:1")]), "no browser");
        assert!(!cross(&[("host", "a:1"), ("origin", "http://a:1")]));
        assert!(cross(&[("host", "a:1"), ("origin", "http://a:2")]));
        assert!(cross(&[("host", "a:1"), ("origin", "null")]));
        assert!(!cross(&[("host", "a:1"), ("origin", "https://hooks.example.com")]));
        assert!(!cross(&[("sec-fetch-site", "same-origin"), ("origin", "https://proxy")]));
        assert!(cross(&[("sec-fetch-site", "cross-site")]));
        assert!(cross(&[("sec-fetch-site", "same-site")]));
    }

    #[test]
    fn a_part_leads_back_to_its_page() {
        let page = |url: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("hx-current-url", HeaderValue::from_static(url));
            current_page(&headers).map(str::to_owned)
        };
        let good = page("https://a:1/dashboard/accounts/a/webhooks/e?said=saved#x");
        assert_eq!(good.as_deref(), Some("/dashboard/accounts/a/webhooks/e"));
        for bad in ["", "https://a", "https://a/v1/", "/dashboard", "https://a//evil/dashboard"] {
            assert_eq!(page(bad), None, "{bad}");
        }
    }

    #[test]
    fn only_pages_of_ours_lead_back() {
        for good in ["/dashboard", "/dashboard/accounts/a/webhooks"] {
            assert_eq!(way_back(good), Some(good));
        }
        for bad in ["", "//evil", "https://evil/dashboard/", "/dashboardx", "/v1", "/dashboard/\\e"]
        {
            assert_eq!(way_back(bad), None, "{bad}");
        }
    }
}
