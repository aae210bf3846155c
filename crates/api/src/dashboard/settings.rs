//! The page of an account's settings: who is told by email, and the keys of its API.

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use http::StatusCode;
use maud::{Markup, html};
use postrider_domain::account::{Account, ApiKey};
use postrider_domain::ids::{AccountId, KeyId};
use postrider_domain::limits::MAX_PAGE;
use postrider_store::PageRequest;
use serde_json::json;

use super::form::{self, Errors, Form};
use super::frame::{Page, Place, Visit};
use super::parts::{area_field, copyable, empty, text_field, time};
use super::said::Said;
use crate::App;
use crate::auth::Tenant;
use crate::error::Problem;
use crate::extract::PathId;
use crate::{accounts, api_keys};

pub(crate) fn routes() -> Router<App> {
    let at = |action: &str| format!("/dashboard/accounts/{{account}}/settings{action}");
    Router::new()
        .route(&at(""), get(show))
        .route(&at("/contacts"), post(save_contacts))
        .route(&at("/keys"), post(make_key))
        .route(&at("/keys/{key}/delete"), post(delete_key))
}

/// What the page shows besides what is stored.
#[derive(Default)]
struct Draft<'a> {
    /// The contacts as somebody wrote them, and what is wrong with them.
    contacts: Option<(&'a str, &'a Problem)>,
    /// The name of a key that could not be made, and why.
    key_name: Option<(&'a str, &'a Problem)>,
    /// A key that was just made.
    new_key: Option<&'a str>,
}

async fn show(visit: Visit, tenant: Tenant, State(app): State<App>) -> Result<Page, Problem> {
    page(&visit, &app, tenant.0, Draft::default()).await
}

async fn page(
    visit: &Visit,
    app: &App,
    account: AccountId,
    draft: Draft<'_>,
) -> Result<Page, Problem> {
    let record = app.records().account(account).await?;
    let record = record.ok_or_else(|| Problem::not_found("account"))?;
    let request = PageRequest { limit: MAX_PAGE, after: None };
    let keys = app.records().keys(account, request).await?.items;
    let body = html! {
        h1 { "Settings" }
        p { bdi { (record.name.as_str()) } " " (copyable(record.id)) }
        (contacts(visit, &record, &draft))
        section aria-labelledby="keys" {
            h2 #keys { "API keys" }
            @if let Some(key) = draft.new_key {
                div.said role="status" {
                    p { "The new key. It is shown this once:" }
                    p { (copyable(key)) }
                }
            }
            (key_table(visit, &keys))
            (new_key(visit, &draft))
        }
    };
    Ok(visit.page(Place::Settings, "Settings", body))
}

fn contacts(visit: &Visit, account: &Account, draft: &Draft<'_>) -> Markup {
    let stored = account.contact_emails.iter().map(|email| format!("{}\n", email.as_str()));
    let stored: String = stored.collect();
    let (text, problem) = match draft.contacts {
        Some((text, problem)) => (text, Some(problem)),
        None => (stored.as_str(), None),
    };
    html! {
        section aria-labelledby="contacts-title" {
            h2 #contacts-title { "Contacts" }
            form method="post" action={ (visit.links().settings()) "/contacts" } {
                (visit.csrf())
                (area_field("contact_emails", "Email addresses",
                    "A line each. They are told when a webhook is disabled.", text,
                    &Errors::of(problem).at("contact_emails")))
                p.actions { button type="submit" { "Save contacts" } }
            }
        }
    }
}

fn key_table(visit: &Visit, keys: &[ApiKey]) -> Markup {
    html! {
        @if keys.is_empty() {
            (empty("No API keys", "A key opens this account to your own programs.", None))
        } @else {
            div.scroll tabindex="0" role="region" aria-label="API keys" {
                table {
                    thead { tr { th scope="col" { "Name" } th scope="col" { "Id" } th scope="col" { "Made" }
                        th scope="col" { span.hidden { "Actions" } } } }
                    tbody { @for key in keys { (key_row(visit, key)) } }
                }
            }
        }
    }
}

fn key_row(visit: &Visit, key: &ApiKey) -> Markup {
    let action = format!("{}/keys/{}/delete", visit.links().settings(), key.id);
    html! {
        tr {
            th scope="row" { bdi { (key.name.as_str()) } }
            td { code { (key.id) } }
            td { (time(key.created_at)) }
            td {
                @if visit.may_make_keys() {
                    form method="post" action=(action) {
                        (visit.csrf())
                        button.quiet type="submit" { "Delete" span.hidden { " the key " (key.name.as_str()) } }
                    }
                }
            }
        }
    }
}

fn new_key(visit: &Visit, draft: &Draft<'_>) -> Markup {
    let (name, problem) = draft.key_name.unzip();
    html! {
        @if visit.may_make_keys() {
            form method="post" action={ (visit.links().settings()) "/keys" } {
                (visit.csrf())
                (text_field("key_name", "New key", "What people call it.", name.unwrap_or_default(),
                    &Errors::of(problem).at("name")))
                p.actions { button type="submit" { "Make key" } }
            }
        } @else {
            p.hint { "You came by a link of limited life, which cannot make or delete keys." }
        }
    }
}

async fn save_contacts(
    visit: Visit,
    tenant: Tenant,
    State(app): State<App>,
    form: Form,
) -> Result<Response, Problem> {
    let text = form.text("contact_emails");
    let emails: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let body = form::body(&json!({ "contact_emails": emails }));
    match accounts::change(&app, tenant.0, &body).await {
        Ok(_) => Ok(Redirect::to(&Said::Saved.at(&visit.links().settings())).into_response()),
        Err(problem) if problem.errors().is_empty() => Err(problem),
        Err(problem) => {
            let draft = Draft { contacts: Some((text, &problem)), ..Draft::default() };
            let page = page(&visit, &app, tenant.0, draft).await?;
            Ok(page.refused(&problem).into_response())
        }
    }
}

async fn make_key(
    visit: Visit,
    tenant: Tenant,
    State(app): State<App>,
    form: Form,
) -> Result<Page, Problem> {
    check_may_make_keys(&visit)?;
    let name = form.text("key_name");
    let body = form::body(&json!({ "name": name }));
    match api_keys::make(&app, tenant.0, &body).await {
        Ok((_, key)) => {
            let draft = Draft { new_key: Some(&key), ..Draft::default() };
            page(&visit, &app, tenant.0, draft).await
        }
        Err(problem) if problem.errors().is_empty() => Err(problem),
        Err(problem) => {
            let draft = Draft { key_name: Some((name, &problem)), ..Draft::default() };
            Ok(page(&visit, &app, tenant.0, draft).await?.refused(&problem))
        }
    }
}

async fn delete_key(
    visit: Visit,
    tenant: Tenant,
    PathId(id): PathId<KeyId>,
    State(app): State<App>,
) -> Result<Redirect, Problem> {
    check_may_make_keys(&visit)?;
    match app.records().delete_key(tenant.0, id).await? {
        true => Ok(Redirect::to(&Said::KeyDeleted.at(&visit.links().settings()))),
        false => Err(Problem::not_found("key")),
    }
}

fn check_may_make_keys(visit: &Visit) -> Result<(), Problem> {
    let detail = "A link of limited life cannot make or delete keys.";
    let refused = || Problem::new(StatusCode::FORBIDDEN, detail);
    visit.may_make_keys().then_some(()).ok_or_else(refused)
}
