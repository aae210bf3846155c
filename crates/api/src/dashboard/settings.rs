//! The page of an account's settings: who is told by email, the keys of its API, and the end of the
//! links to it.

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use maud::{Markup, html};
use postrider_domain::account::{Account, ApiKey};
use postrider_domain::ids::KeyId;
use postrider_domain::limits::MAX_PAGE;
use postrider_store::PageRequest;
use serde_json::json;

use super::contacts;
use super::field::Field;
use super::form::{self, Errors, Form, as_a_whole, seen};
use super::frame::{Page, Place, Visit};
use super::links::below;
use super::parts::Column::{Text, Unnamed};
use super::parts::{copyable, empty, table, time};
use super::said::Said;
use crate::App;
use crate::web::auth::{Operator, Tenant};
use crate::web::extract::PathId;
use crate::web::page::Params;
use crate::web::problem::Problem;
use crate::{accounts, api_keys, portal_links};

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/settings", get(show))
        .route("/settings/contacts", post(save_contacts))
        .route("/settings/keys", post(make_key))
        .route("/settings/keys/{key}/delete", post(delete_key))
        .route("/settings/links/end", post(end_links))
}

/// What the page shows besides what is stored.
#[derive(Clone, Copy)]
enum Besides<'a> {
    Nothing,
    /// The contacts as somebody wrote them, and what is wrong with them.
    Contacts(&'a str, &'a Problem),
    /// The name of a key that could not be made, and why.
    KeyName(&'a str, &'a Problem),
    /// A key that was just made.
    NewKey(&'a str),
}

async fn show(
    visit: Visit,
    _: Tenant,
    State(app): State<App>,
    params: Params,
) -> Result<Page, Problem> {
    params.finish()?;
    page(&visit, &app, Besides::Nothing).await
}

async fn page(visit: &Visit, app: &App, besides: Besides<'_>) -> Result<Page, Problem> {
    let record = visit.account().ok_or_else(|| Problem::not_found("account"))?;
    let request = PageRequest { limit: MAX_PAGE, after: None };
    let keys = app.records().keys(record.id, request).await?.items;
    let body = html! {
        h1 { "Settings" }
        p { bdi { (record.name.as_str()) } " " (copyable(record.id)) }
        (contacts_form(visit, record, besides))
        section aria-labelledby="keys" {
            h2 #keys { "API keys" }
            @if let Besides::NewKey(key) = besides {
                div.said role="status" {
                    p { "The new key. It is shown this once:" }
                    p { (copyable(key)) }
                }
            }
            (key_table(visit, &keys))
            (new_key(visit, besides))
        }
        @if visit.is_operator() { (links_form(visit)) }
    };
    Ok(visit.page(Place::Settings, "Settings", body))
}

fn contacts_form(visit: &Visit, account: &Account, besides: Besides<'_>) -> Markup {
    let stored = account.contact_emails.iter().map(|email| format!("{}\n", email.as_str()));
    let stored: String = stored.collect();
    let (text, problem) = match besides {
        Besides::Contacts(text, problem) => (text, Some(problem)),
        _ => (stored.as_str(), None),
    };
    html! {
        section aria-labelledby="contacts-title" {
            h2 #contacts-title { "Contacts" }
            form method="post" action=(below(&visit.links().settings(), "contacts")) {
                (visit.csrf())
                (seen(account.updated_at))
                (as_a_whole(problem, &visit.links().settings()))
                (contacts::field(text, Errors::of(problem)))
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
            @let columns = [Text("Name"), Text("Id"), Text("Made"), Unnamed("Actions")];
            (table("API keys", &columns, html! { @for key in keys { (key_row(visit, key)) } }))
        }
    }
}

fn key_row(visit: &Visit, key: &ApiKey) -> Markup {
    let action = below(&visit.links().settings(), format_args!("keys/{}/delete", key.id));
    html! {
        tr {
            th scope="row" { bdi { (key.name.as_str()) } }
            td { code { (key.id) } }
            td { (time(key.created_at)) }
            td {
                @if visit.is_operator() {
                    details {
                        summary { "Delete" span.hidden { " the key " (key.name.as_str()) } }
                        form method="post" action=(action) {
                            (visit.csrf())
                            p.hint { "Programs that use it are refused at once." }
                            button.bad type="submit" { "Delete key" }
                        }
                    }
                }
            }
        }
    }
}

fn new_key(visit: &Visit, besides: Besides<'_>) -> Markup {
    let (name, problem) = match besides {
        Besides::KeyName(name, problem) => (name, Some(problem)),
        _ => ("", None),
    };
    html! {
        @if visit.is_operator() {
            form method="post" action=(below(&visit.links().settings(), "keys")) {
                (visit.csrf())
                (Field::new("name", "New key", "What people call it.", Errors::of(problem))
                    .text(name))
                p.actions { button type="submit" { "Make key" } }
            }
        } @else {
            p.hint { "The operator makes and deletes keys." }
        }
    }
}

fn links_form(visit: &Visit) -> Markup {
    html! {
        section aria-labelledby="links" {
            h2 #links { "Portal links" }
            p { "Your product makes links that open these pages without a key, each until it expires." }
            details {
                summary { "End all links" }
                form method="post" action=(below(&visit.links().settings(), "links/end")) {
                    (visit.csrf())
                    p.hint { "They open nothing any more, and whoever came by one is signed out at once." }
                    button.bad type="submit" { "Revoke links" }
                }
            }
        }
    }
}

async fn save_contacts(
    visit: Visit,
    tenant: Tenant,
    State(app): State<App>,
    form: Form,
) -> Result<Response, Problem> {
    let text = contacts::text(&form);
    let body = form::body(&json!({ "contact_emails": contacts::addresses(text) }));
    match accounts::change(&app, tenant.0, &body, Some(form.seen())).await {
        Ok(_) => {
            Ok(Redirect::to(&Said::ContactsSaved.at(&visit.links().settings())).into_response())
        }
        Err(problem) => {
            let problem = problem.of_form()?;
            let page = page(&visit, &app, Besides::Contacts(text, &problem)).await?;
            Ok(page.refused(&problem).into_response())
        }
    }
}

async fn make_key(
    visit: Visit,
    _: Operator,
    tenant: Tenant,
    State(app): State<App>,
    form: Form,
) -> Result<Page, Problem> {
    let name = form.text("name");
    let body = form::body(&json!({ "name": name }));
    match api_keys::make(&app, tenant.0, &body).await {
        Ok((_, key)) => page(&visit, &app, Besides::NewKey(&key)).await,
        Err(problem) => {
            let problem = problem.of_fields()?;
            let page = page(&visit, &app, Besides::KeyName(name, &problem)).await?;
            Ok(page.refused(&problem))
        }
    }
}

async fn delete_key(
    visit: Visit,
    _: Operator,
    tenant: Tenant,
    PathId(id): PathId<KeyId>,
    State(app): State<App>,
) -> Result<Redirect, Problem> {
    match app.records().delete_key(tenant.0, id).await? {
        true => Ok(Redirect::to(&Said::KeyDeleted.at(&visit.links().settings()))),
        false => Err(Problem::not_found("key")),
    }
}

async fn end_links(
    visit: Visit,
    _: Operator,
    tenant: Tenant,
    State(app): State<App>,
) -> Result<Redirect, Problem> {
    portal_links::end_all(&app, tenant.0).await?;
    Ok(Redirect::to(&Said::LinksEnded.at(&visit.links().settings())))
}
