//! What every page shares: its head, the navigation, who is signed in, and what was just done.

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
use super::form::Form;
use super::links::{ACCOUNTS, CLUSTER, Links};
use super::said::Said;
use super::session::Who;
use crate::web::problem::Problem;

/// The field in which a form brings its token back.
const CSRF: &str = "csrf";
/// How htmx may work: without what the policy forbids anyway, and without keeping pages.
const HTMX: &str = r#"{"includeIndicatorStyles":false,"allowEval":false,"allowScriptTags":false,"selfRequestsOnly":true,"historyCacheSize":0,"timeout":10000,"responseHandling":[{"code":"204","swap":false},{"code":"[23]..","swap":true},{"code":"422","swap":true},{"code":"[45]..","swap":false,"error":true}]}"#;

/// Who looks at a page, left by the gate.
#[derive(Clone)]
pub(crate) struct Visit(Arc<Seen>);

struct Seen {
    who: Who,
    csrf: String,
    account: Option<Account>,
    said: Option<Said>,
    now: Timestamp,
}

/// Which item of the navigation a page belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Webhooks,
    Events,
    Replays,
    EventTypes,
    Settings,
    Accounts,
    Cluster,
}

/// A whole page.
pub(crate) struct Page {
    status: StatusCode,
    markup: Markup,
}

impl Visit {
    pub(crate) fn new(
        who: Who,
        csrf: String,
        account: Option<Account>,
        said: Option<Said>,
        now: Timestamp,
    ) -> Self {
        Self(Arc::new(Seen { who, csrf, account, said, now }))
    }

    /// The account whose pages these are; none on the operator's own.
    pub(crate) fn account(&self) -> Option<&Account> {
        self.0.account.as_ref()
    }

    /// The addresses of the account's pages.
    ///
    /// # Panics
    /// On a page that belongs to no account.
    pub(crate) fn links(&self) -> Links {
        Links::of(self.account().expect("the page is an account's").id)
    }

    /// When the page was asked for.
    pub(crate) fn now(&self) -> Timestamp {
        self.0.now
    }

    /// Whether this is the operator.
    pub(crate) fn is_operator(&self) -> bool {
        matches!(self.0.who, Who::Operator { .. })
    }

    /// The hidden field that every form must hold.
    pub(crate) fn csrf(&self) -> Markup {
        html! { input type="hidden" name=(CSRF) value=(self.0.csrf); }
    }

    /// Whether a form was made for this session.
    pub(crate) fn brought_back(&self, form: &Form) -> bool {
        use subtle::ConstantTimeEq;
        form.text(CSRF).as_bytes().ct_eq(self.0.csrf.as_bytes()).into()
    }

    /// A page of this account or of the operator's.
    pub(crate) fn page(&self, place: Place, title: &str, body: Markup) -> Page {
        self.shell(Some(place), title, body)
    }

    fn shell(&self, place: Option<Place>, title: &str, body: Markup) -> Page {
        let name = self.account().map(|account| account.name.as_str());
        let header = html! {
            header.top {
                a.brand href=(super::ROOT) { (asset::logo()) "Postrider" }
                @if let Some(name) = name { span.account title="The account" { bdi { (name) } } }
                form.sign-out method="post" action="/dashboard/sign-out" {
                    (self.csrf())
                    button.quiet type="submit" { "Sign out" }
                }
            }
            (self.navigation(place))
        };
        let said = html! {
            @if let Some(said) = self.0.said { p.said role="status" { (said.sentence()) } }
        };
        page(title, header, html! { (said) (body) })
    }

    fn navigation(&self, place: Option<Place>) -> Markup {
        let account = self.account().map(|account| Links::of(account.id));
        html! {
            nav aria-label="Pages" {
                @if let Some(links) = account {
                    ul {
                        (item(place, Place::Webhooks, &links.webhooks(), "Webhooks"))
                        (item(place, Place::Events, &links.events(), "Events"))
                        (item(place, Place::Replays, &links.replays(), "Replays"))
                        (item(place, Place::EventTypes, &links.event_types(), "Event types"))
                        (item(place, Place::Settings, &links.settings(), "Settings"))
                    }
                }
                @if self.is_operator() {
                    ul.operator {
                        (item(place, Place::Accounts, ACCOUNTS, "Accounts"))
                        (item(place, Place::Cluster, CLUSTER, "Cluster"))
                    }
                }
            }
        }
    }
}

fn item(current: Option<Place>, place: Place, link: &str, text: &str) -> Markup {
    let current = (current == Some(place)).then_some("page");
    html! { li { a href=(link) aria-current=[current] { (text) } } }
}

/// A page for somebody who is not signed in.
pub(crate) fn bare(title: &str, body: Markup) -> Page {
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
                meta name="htmx-config" content=(HTMX);
                title { (title) " · Postrider" }
                link rel="icon" href=(asset::link("icon.svg"));
                @for style in asset::STYLES { link rel="stylesheet" href=(asset::link(style)); }
                @for script in asset::SCRIPTS { script src=(asset::link(script)) defer {} }
            }
            body {
                a.skip href="#main" { "Skip to the content" }
                (header)
                main #main tabindex="-1" { (body) }
            }
        }
    };
    Page { status: StatusCode::OK, markup }
}

/// A problem, shown as a page.
pub(crate) fn problem(visit: Option<&Visit>, problem: &Problem) -> Page {
    let status = problem.status();
    let title = status.canonical_reason().unwrap_or("Error");
    let body = html! {
        h1 { (title) }
        @if problem.errors().is_empty() {
            p { (problem.detail()) }
        } @else {
            ul {
                @for error in problem.errors() {
                    li { span.strong { (named(&error.pointer)) } " " (error.detail) }
                }
            }
            p { "Go back, and change it." }
        }
        p { a href=(super::ROOT) { "To the dashboard" } }
    };
    let page = match visit {
        Some(visit) => visit.shell(None, title, body),
        None => bare(title, body),
    };
    page.with_status(status)
}

/// A part of a page, which htmx asks for by itself.
pub(crate) struct Fragment(pub Markup);

impl IntoResponse for Fragment {
    fn into_response(self) -> Response {
        Page { status: StatusCode::OK, markup: self.0 }.into_response()
    }
}

/// A part of a page anew; or the whole page, when what it `was` is not what `is`.
pub(crate) fn anew(was: Option<&str>, is: &str, part: Markup) -> Response {
    match was {
        Some(was) if was != is => [("hx-refresh", "true")].into_response(),
        _ => Fragment(part).into_response(),
    }
}

/// A field's name as people read it.
fn named(pointer: &str) -> String {
    pointer.trim_start_matches('/').replace('_', " ")
}

impl Page {
    /// The same with another status than 200.
    pub(crate) fn with_status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    /// The same as the answer to a form that cannot be taken as it is.
    pub(crate) fn refused(self, problem: &Problem) -> Self {
        self.with_status(problem.status())
    }
}

impl IntoResponse for Page {
    fn into_response(self) -> Response {
        let html = HeaderValue::from_static("text/html; charset=utf-8");
        (self.status, [(CONTENT_TYPE, html)], self.markup.into_string()).into_response()
    }
}

impl<S: Sync> FromRequestParts<S> for Visit {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts.extensions.get().cloned().ok_or_else(|| {
            tracing::error!(path = parts.uri.path(), "a page lies outside the gate");
            Problem::internal()
        })
    }
}

/// Leads to where the session belongs.
pub(crate) async fn home(visit: Visit) -> Redirect {
    match visit.0.who {
        Who::Operator { .. } => Redirect::to(ACCOUNTS),
        Who::Key { account, .. } | Who::Link { account, .. } => {
            Redirect::to(&Links::of(account).webhooks())
        }
    }
}
