//! The layout of every page: head, navigation, account, and flash message.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::response::{IntoResponse, Redirect, Response};
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderValue, StatusCode};
use maud::{DOCTYPE, Markup, html};
use postrider_domain::account::Account;
use postrider_domain::time::Timestamp;

use super::asset;
use super::flash::Flash;
use super::form::Form;
use super::session::Principal;
use super::urls::{ACCOUNTS, CLUSTER, Urls};
use crate::web::problem::Problem;

/// The form field with the CSRF token.
const CSRF: &str = "csrf";
/// Configuration of htmx: nothing that the content security policy forbids, and no page cache.
const HTMX_CONFIG: &str = r#"{"includeIndicatorStyles":false,"allowEval":false,"allowScriptTags":false,"selfRequestsOnly":true,"historyCacheSize":0,"timeout":10000,"responseHandling":[{"code":"204","swap":false},{"code":"[23]..","swap":true},{"code":"422","swap":true},{"code":"[45]..","swap":false,"error":true}]}"#;

/// The request's context for rendering pages, provided by the session middleware.
#[derive(Clone)]
pub(crate) struct PageContext(Arc<Inner>);

struct Inner {
    principal: Principal,
    csrf: String,
    account: Option<Account>,
    flash: Option<Flash>,
    now: Timestamp,
}

/// The navigation item that a page belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum NavItem {
    Webhooks,
    Events,
    Replays,
    EventTypes,
    Settings,
    Accounts,
    Cluster,
}

/// A page with its status.
pub(crate) struct Page {
    status: StatusCode,
    markup: Markup,
}

impl PageContext {
    pub(crate) fn new(
        principal: Principal,
        csrf: String,
        account: Option<Account>,
        flash: Option<Flash>,
        now: Timestamp,
    ) -> Self {
        Self(Arc::new(Inner { principal, csrf, account, flash, now }))
    }

    /// The account of the page. `None` on the operator's pages.
    pub(crate) fn account(&self) -> Option<&Account> {
        self.0.account.as_ref()
    }

    /// The URLs of the account's pages.
    ///
    /// # Panics
    /// On the operator's pages.
    pub(crate) fn urls(&self) -> Urls {
        Urls::of(self.account().expect("the page is an account's").id)
    }

    /// The time of the request.
    pub(crate) fn now(&self) -> Timestamp {
        self.0.now
    }

    /// Whether the operator is signed in.
    pub(crate) fn is_operator(&self) -> bool {
        matches!(self.0.principal, Principal::Operator { .. })
    }

    /// The hidden field that every form needs.
    pub(crate) fn csrf(&self) -> Markup {
        html! { input type="hidden" name=(CSRF) value=(self.0.csrf); }
    }

    /// Whether a form carries this session's token.
    pub(crate) fn has_valid_csrf(&self, form: &Form) -> bool {
        use subtle::ConstantTimeEq;
        form.text(CSRF).as_bytes().ct_eq(self.0.csrf.as_bytes()).into()
    }

    /// A page with navigation and flash message.
    pub(crate) fn page(&self, item: NavItem, title: &str, body: Markup) -> Page {
        self.render(Some(item), title, body)
    }

    fn render(&self, item: Option<NavItem>, title: &str, body: Markup) -> Page {
        let name = self.account().map(|account| account.name.as_str());
        let header = html! {
            header.top {
                a.brand href=(super::ROOT) { (asset::logo()) "Postrider" }
                @if let Some(name) = name { span.account title="Account" { bdi { (name) } } }
                form.sign-out method="post" action="/dashboard/sign-out" {
                    (self.csrf())
                    button.quiet type="submit" { "Sign out" }
                }
            }
            (self.navigation(item))
        };
        let flash = html! {
            @if let Some(flash) = self.0.flash { p.flash role="status" { (flash.text()) } }
        };
        page(title, header, html! { (flash) (body) })
    }

    fn navigation(&self, item: Option<NavItem>) -> Markup {
        let account = self.account().map(|account| Urls::of(account.id));
        html! {
            nav aria-label="Pages" {
                @if let Some(urls) = account {
                    ul {
                        (nav_link(item, NavItem::Webhooks, &urls.webhooks(), "Webhooks"))
                        (nav_link(item, NavItem::Events, &urls.events(), "Events"))
                        (nav_link(item, NavItem::Replays, &urls.replays(), "Replays"))
                        (nav_link(item, NavItem::EventTypes, &urls.event_types(), "Event types"))
                        (nav_link(item, NavItem::Settings, &urls.settings(), "Settings"))
                    }
                }
                @if self.is_operator() {
                    ul.operator {
                        (nav_link(item, NavItem::Accounts, ACCOUNTS, "Accounts"))
                        (nav_link(item, NavItem::Cluster, CLUSTER, "Cluster"))
                    }
                }
            }
        }
    }
}

fn nav_link(current: Option<NavItem>, item: NavItem, link: &str, text: &str) -> Markup {
    let current = (current == Some(item)).then_some("page");
    html! { li { a href=(link) aria-current=[current] { (text) } } }
}

/// A page without a session.
pub(crate) fn signed_out_page(title: &str, body: Markup) -> Page {
    let header =
        html! { header.top { a.brand href=(super::ROOT) { (asset::logo()) "Postrider" } } };
    page(title, header, body)
}

fn page(title: &str, header: Markup, body: Markup) -> Page {
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="htmx-config" content=(HTMX_CONFIG);
                title { (title) " · Postrider" }
                link rel="icon" href=(asset::url("icon.svg"));
                @for style in asset::STYLES { link rel="stylesheet" href=(asset::url(style)); }
                @for script in asset::SCRIPTS { script src=(asset::url(script)) defer {} }
            }
            body {
                a.skip href="#main" { "Skip to content" }
                (header)
                main #main tabindex="-1" { (body) }
            }
        }
    };
    Page { status: StatusCode::OK, markup }
}

/// A problem as a page.
pub(crate) fn problem(ctx: Option<&PageContext>, problem: &Problem) -> Page {
    let status = problem.status();
    let title = status.canonical_reason().unwrap_or("Error");
    let body = html! {
        h1 { (title) }
        @if problem.errors().is_empty() {
            p { (problem.detail()) }
        } @else {
            ul {
                @for error in problem.errors() {
                    li { span.strong { (field_name(&error.pointer)) } " " (error.detail) }
                }
            }
            p { "Go back and correct it." }
        }
        p { a href=(super::ROOT) { "Go to dashboard" } }
    };
    let page = match ctx {
        Some(ctx) => ctx.render(None, title, body),
        None => signed_out_page(title, body),
    };
    page.with_status(status)
}

/// A part of a page, polled by htmx.
pub(crate) struct Fragment(pub Markup);

impl IntoResponse for Fragment {
    fn into_response(self) -> Response {
        Page { status: StatusCode::OK, markup: self.0 }.into_response()
    }
}

/// The refreshed fragment, or a reload of the whole page if its version has changed since.
pub(crate) fn refreshed(old_version: Option<&str>, version: &str, part: Markup) -> Response {
    match old_version {
        Some(old_version) if old_version != version => [("hx-refresh", "true")].into_response(),
        _ => Fragment(part).into_response(),
    }
}

/// The display name of the field at a JSON pointer.
fn field_name(pointer: &str) -> String {
    pointer.trim_start_matches('/').replace('_', " ")
}

impl Page {
    /// The page with a status other than 200.
    pub(crate) fn with_status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    /// The page with a problem's status, for a form with errors.
    pub(crate) fn with_status_of(self, problem: &Problem) -> Self {
        self.with_status(problem.status())
    }
}

impl IntoResponse for Page {
    fn into_response(self) -> Response {
        let html = HeaderValue::from_static("text/html; charset=utf-8");
        (self.status, [(CONTENT_TYPE, html)], self.markup.into_string()).into_response()
    }
}

impl<S: Sync> FromRequestParts<S> for PageContext {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts.extensions.get().cloned().ok_or_else(|| {
            tracing::error!(
                path = parts.uri.path(),
                "page handler is not behind the session middleware"
            );
            Problem::internal()
        })
    }
}

/// Redirects to the start page of the session.
pub(crate) async fn home(ctx: PageContext) -> Redirect {
    match ctx.0.principal {
        Principal::Operator { .. } => Redirect::to(ACCOUNTS),
        Principal::ApiKey { account, .. } | Principal::PortalLink { account, .. } => {
            Redirect::to(&Urls::of(account).webhooks())
        }
    }
}
