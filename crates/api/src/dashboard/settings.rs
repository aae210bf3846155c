//! The settings page of an account: email contacts, API keys, and revoking portal links.

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use maud::{Markup, html};
use postrider_domain::account::{Account, ApiKey};
use postrider_domain::ids::KeyId;
use postrider_domain::limits::MAX_PAGE;
use postrider_store::PageRequest;

use super::components::Column::{Text, Unnamed};
use super::components::{copyable, empty_state, table, time};
use super::contacts;
use super::field::Field;
use super::flash::Flash;
use super::form::{Errors, Form, form_error, version_field};
use super::layout::{NavItem, Page, PageContext};
use super::urls::subpath;
use crate::App;
use crate::rest::accounts::AccountUpdate;
use crate::rest::api_keys::NewApiKey;
use crate::web::auth::{Operator, Tenant};
use crate::web::extract::PathId;
use crate::web::fields::{Fields, Raw};
use crate::web::page::Params;
use crate::web::problem::Problem;

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/settings", get(show))
        .route("/settings/contacts", post(save_contacts))
        .route("/settings/keys", post(create_key))
        .route("/settings/keys/{key}/delete", post(delete_key))
        .route("/settings/links/revoke", post(revoke_links))
}

/// What the page shows in addition to the stored settings.
#[derive(Clone, Copy)]
enum Extra<'a> {
    Nothing,
    /// Rejected contacts as they were entered, and their errors.
    Contacts(&'a str, &'a Problem),
    /// The rejected name of a new key, and its errors.
    KeyName(&'a str, &'a Problem),
    /// A key that was just created.
    NewKey(&'a str),
}

async fn show(
    ctx: PageContext,
    _: Tenant,
    State(app): State<App>,
    params: Params,
) -> Result<Page, Problem> {
    params.finish()?;
    page(&ctx, &app, Extra::Nothing).await
}

async fn page(ctx: &PageContext, app: &App, extra: Extra<'_>) -> Result<Page, Problem> {
    let record = ctx.account().ok_or_else(|| Problem::not_found("account"))?;
    let request = PageRequest { limit: MAX_PAGE, after: None };
    let keys = app.records().keys(record.id, request).await?.items;
    let body = html! {
        h1 { "Settings" }
        p { bdi { (record.name.as_str()) } " " (copyable(record.id)) }
        (contacts_form(ctx, record, extra))
        section aria-labelledby="keys" {
            h2 #keys { "API keys" }
            @if let Extra::NewKey(key) = extra {
                div.flash role="status" {
                    p { "API key created. Copy it now; it will not be shown again:" }
                    p { (copyable(key)) }
                }
            }
            (key_table(ctx, &keys))
            (new_key(ctx, extra))
        }
        @if ctx.is_operator() { (links_form(ctx)) }
    };
    Ok(ctx.page(NavItem::Settings, "Settings", body))
}

fn contacts_form(ctx: &PageContext, account: &Account, extra: Extra<'_>) -> Markup {
    let stored = account.contact_emails.iter().map(|email| format!("{}\n", email.as_str()));
    let stored: String = stored.collect();
    let (text, problem) = match extra {
        Extra::Contacts(text, problem) => (text, Some(problem)),
        _ => (stored.as_str(), None),
    };
    html! {
        section aria-labelledby="contacts-title" {
            h2 #contacts-title { "Contacts" }
            form method="post" action=(subpath(&ctx.urls().settings(), "contacts")) {
                (ctx.csrf())
                (version_field(account.updated_at))
                (form_error(problem, &ctx.urls().settings()))
                (contacts::field(text, Errors::of(problem)))
                p.actions { button type="submit" { "Save contacts" } }
            }
        }
    }
}

fn key_table(ctx: &PageContext, keys: &[ApiKey]) -> Markup {
    html! {
        @if keys.is_empty() {
            (empty_state("No API keys", "Use a key to call the API from your own code.", None))
        } @else {
            @let columns = [Text("Name"), Text("ID"), Text("Created"), Unnamed("Actions")];
            (table("API keys", &columns, html! { @for key in keys { (key_row(ctx, key)) } }))
        }
    }
}

fn key_row(ctx: &PageContext, key: &ApiKey) -> Markup {
    let action = subpath(&ctx.urls().settings(), format_args!("keys/{}/delete", key.id));
    html! {
        tr {
            th scope="row" { bdi { (key.name.as_str()) } }
            td { code { (key.id) } }
            td { (time(key.created_at)) }
            td {
                @if ctx.is_operator() {
                    details {
                        summary { "Delete" span.hidden { " key " (key.name.as_str()) } }
                        form method="post" action=(action) {
                            (ctx.csrf())
                            p.hint { "Requests with this key are rejected immediately." }
                            button.bad type="submit" { "Delete key" }
                        }
                    }
                }
            }
        }
    }
}

fn new_key(ctx: &PageContext, extra: Extra<'_>) -> Markup {
    let (name, problem) = match extra {
        Extra::KeyName(name, problem) => (name, Some(problem)),
        _ => ("", None),
    };
    html! {
        @if ctx.is_operator() {
            form method="post" action=(subpath(&ctx.urls().settings(), "keys")) {
                (ctx.csrf())
                (Field::new("name", "New key", "A name for your team.", Errors::of(problem))
                    .text(name))
                p.actions { button type="submit" { "Create key" } }
            }
        } @else {
            p.hint { "Only the operator can create and delete API keys." }
        }
    }
}

fn links_form(ctx: &PageContext) -> Markup {
    html! {
        section aria-labelledby="links" {
            h2 #links { "Portal links" }
            p { "Your product can create links that open these pages without an API key until they expire." }
            details {
                summary { "Revoke all links" }
                form method="post" action=(subpath(&ctx.urls().settings(), "links/revoke")) {
                    (ctx.csrf())
                    p.hint { "All links stop working, and anyone who signed in with one is signed out immediately." }
                    button.bad type="submit" { "Revoke links" }
                }
            }
        }
    }
}

async fn save_contacts(
    ctx: PageContext,
    tenant: Tenant,
    State(app): State<App>,
    form: Form,
) -> Result<Response, Problem> {
    let text = contacts::text(&form);
    let emails = Raw::Texts(contacts::addresses(text));
    let saved = match AccountUpdate::parse(Fields::from_form([("contact_emails", emails)])) {
        Ok(change) => {
            let saved = app.service().update_account(tenant.0, change, Some(form.version())).await;
            saved.map_err(Problem::from)
        }
        Err(problem) => Err(problem),
    };
    match saved {
        Ok(_) => Ok(Redirect::to(&Flash::ContactsSaved.redirect_target(&ctx.urls().settings()))
            .into_response()),
        Err(problem) => {
            let problem = problem.if_invalid_fields_or_conflict()?;
            let page = page(&ctx, &app, Extra::Contacts(text, &problem)).await?;
            Ok(page.with_status_of(&problem).into_response())
        }
    }
}

async fn create_key(
    ctx: PageContext,
    _: Operator,
    tenant: Tenant,
    State(app): State<App>,
    form: Form,
) -> Result<Page, Problem> {
    let name = form.text("name");
    let created = match NewApiKey::parse(Fields::from_form([("name", Raw::Text(name))])) {
        Ok(NewApiKey { name }) => {
            app.service().create_api_key(tenant.0, name, None).await.map_err(Problem::from)
        }
        Err(problem) => Err(problem),
    };
    match created {
        Ok(new) => page(&ctx, &app, Extra::NewKey(&new.plaintext)).await,
        Err(problem) => {
            let problem = problem.if_invalid_fields()?;
            let page = page(&ctx, &app, Extra::KeyName(name, &problem)).await?;
            Ok(page.with_status_of(&problem))
        }
    }
}

async fn delete_key(
    ctx: PageContext,
    _: Operator,
    tenant: Tenant,
    PathId(id): PathId<KeyId>,
    State(app): State<App>,
) -> Result<Redirect, Problem> {
    app.service().delete_api_key(tenant.0, id).await?;
    Ok(Redirect::to(&Flash::KeyDeleted.redirect_target(&ctx.urls().settings())))
}

async fn revoke_links(
    ctx: PageContext,
    _: Operator,
    tenant: Tenant,
    State(app): State<App>,
) -> Result<Redirect, Problem> {
    app.service().revoke_portal_links(tenant.0).await?;
    Ok(Redirect::to(&Flash::LinksRevoked.redirect_target(&ctx.urls().settings())))
}
