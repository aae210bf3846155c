//! The operator's list of accounts, and the form of a new one.

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use maud::{Markup, html};
use postrider_domain::account::Account;
use postrider_domain::limits::DEFAULT_PAGE;
use postrider_store::PageRequest;
use serde_json::json;

use super::contacts;
use super::field::Field;
use super::form::{self, Errors, Form};
use super::frame::{Page, Place, Visit};
use super::links::{ACCOUNTS, Links, NEW_ACCOUNT};
use super::parts::Column::Text;
use super::parts::{OLDER, address, copyable, empty, pager, table, time};
use super::said::Said;
use crate::App;
use crate::rest::accounts;
use crate::web::auth::Operator;
use crate::web::page::Params;
use crate::web::problem::Problem;

pub(crate) fn routes() -> Router<App> {
    Router::new().route(ACCOUNTS, get(list)).route(NEW_ACCOUNT, get(new_account).post(create))
}

async fn list(
    visit: Visit,
    _: Operator,
    State(app): State<App>,
    mut params: Params,
) -> Result<Page, Problem> {
    let after = params.take("cursor", str::parse);
    params.finish()?;
    let found = app.records().accounts(PageRequest { limit: DEFAULT_PAGE, after }).await?;
    let next = found.next.as_ref().map(|next| address(ACCOUNTS, &[("cursor", next)]));
    let body = html! {
        div.title {
            h1 { "Accounts" }
            a.button.primary href=(NEW_ACCOUNT) { "New account" }
        }
        @if found.items.is_empty() {
            (empty("No accounts yet", "An account is a company whose webhooks are sent.",
                Some((NEW_ACCOUNT, "New account"))))
        } @else {
            @let columns = ["Name", "Id", "Contacts", "Made"].map(Text);
            (table("Accounts", &columns, html! { @for account in &found.items { (row(account)) } }))
            (pager(next.as_deref(), OLDER))
        }
    };
    Ok(visit.page(Place::Accounts, "Accounts", body))
}

fn row(account: &Account) -> Markup {
    html! {
        tr {
            th scope="row" { a href=(Links::of(account.id).webhooks()) { bdi { (account.name.as_str()) } } }
            td { (copyable(account.id)) }
            td { @for email in &account.contact_emails { span.line { (email.as_str()) } } }
            td { (time(account.created_at)) }
        }
    }
}

async fn new_account(visit: Visit, _: Operator, params: Params) -> Result<Page, Problem> {
    params.finish()?;
    Ok(account_form(&visit, "", "", None))
}

fn account_form(visit: &Visit, name: &str, contacts: &str, problem: Option<&Problem>) -> Page {
    let errors = Errors::of(problem);
    let body = html! {
        h1 { "New account" }
        form method="post" action=(NEW_ACCOUNT) {
            (visit.csrf())
            (Field::new("name", "Name", "What people call it.", errors).text(name))
            (contacts::field(contacts, errors))
            p.actions { button type="submit" { "Create account" } }
        }
    };
    visit.page(Place::Accounts, "New account", body)
}

async fn create(
    visit: Visit,
    _: Operator,
    State(app): State<App>,
    form: Form,
) -> Result<Response, Problem> {
    let (name, contacts) = (form.text("name"), contacts::text(&form));
    let emails = contacts::addresses(contacts);
    let body = form::body(&json!({ "name": name, "contact_emails": emails }));
    match accounts::make(&app, &body).await {
        Ok(account) => {
            let page = Links::of(account.id).webhooks();
            Ok(Redirect::to(&Said::Created.at(&page)).into_response())
        }
        Err(problem) => {
            let problem = problem.of_fields()?;
            let page = account_form(&visit, name, contacts, Some(&problem));
            Ok(page.refused(&problem).into_response())
        }
    }
}
