//! The operator's list of accounts, and the form for a new one.

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use maud::{Markup, html};
use postrider_domain::account::Account;
use postrider_domain::limits::DEFAULT_PAGE;
use postrider_store::PageRequest;

use super::components::Column::Text;
use super::components::{OLDER, copyable, empty_state, pager, table, time, with_query};
use super::contacts;
use super::field::Field;
use super::flash::Flash;
use super::form::{Errors, Form};
use super::layout::{NavItem, Page, PageContext};
use super::urls::{ACCOUNTS, NEW_ACCOUNT, Urls};
use crate::App;
use crate::rest::accounts::NewAccount;
use crate::web::auth::Operator;
use crate::web::fields::{Fields, Raw};
use crate::web::page::Params;
use crate::web::problem::Problem;

pub(crate) fn routes() -> Router<App> {
    Router::new().route(ACCOUNTS, get(list)).route(NEW_ACCOUNT, get(new_account).post(create))
}

async fn list(
    ctx: PageContext,
    _: Operator,
    State(app): State<App>,
    mut params: Params,
) -> Result<Page, Problem> {
    let after = params.take("cursor", str::parse);
    params.finish()?;
    let found = app.records().accounts(PageRequest { limit: DEFAULT_PAGE, after }).await?;
    let next = found.next.as_ref().map(|next| with_query(ACCOUNTS, &[("cursor", next)]));
    let body = html! {
        div.title {
            h1 { "Accounts" }
            a.button.primary href=(NEW_ACCOUNT) { "New account" }
        }
        @if found.items.is_empty() {
            (empty_state("No accounts yet", "Create one for each customer who receives webhooks.",
                Some((NEW_ACCOUNT, "New account"))))
        } @else {
            @let columns = ["Name", "ID", "Contacts", "Created"].map(Text);
            (table("Accounts", &columns, html! { @for account in &found.items { (row(account)) } }))
            (pager(next.as_deref(), OLDER))
        }
    };
    Ok(ctx.page(NavItem::Accounts, "Accounts", body))
}

fn row(account: &Account) -> Markup {
    html! {
        tr {
            th scope="row" { a href=(Urls::of(account.id).webhooks()) { bdi { (account.name.as_str()) } } }
            td { (copyable(account.id)) }
            td { @for email in &account.contact_emails { span.line { (email.as_str()) } } }
            td { (time(account.created_at)) }
        }
    }
}

async fn new_account(ctx: PageContext, _: Operator, params: Params) -> Result<Page, Problem> {
    params.finish()?;
    Ok(account_form(&ctx, "", "", None))
}

fn account_form(ctx: &PageContext, name: &str, contacts: &str, problem: Option<&Problem>) -> Page {
    let errors = Errors::of(problem);
    let body = html! {
        h1 { "New account" }
        form method="post" action=(NEW_ACCOUNT) {
            (ctx.csrf())
            (Field::new("name", "Name", "The customer's name.", errors).text(name))
            (contacts::field(contacts, errors))
            p.actions { button type="submit" { "Create account" } }
        }
    };
    ctx.page(NavItem::Accounts, "New account", body)
}

async fn create(
    ctx: PageContext,
    _: Operator,
    State(app): State<App>,
    form: Form,
) -> Result<Response, Problem> {
    let (name, contacts) = (form.text("name"), contacts::text(&form));
    let emails = Raw::Texts(contacts::addresses(contacts));
    let fields = Fields::from_form([("name", Raw::Text(name)), ("contact_emails", emails)]);
    let created = match NewAccount::parse(fields) {
        Ok(new) => app.service().create_account(new, None).await.map_err(Problem::from),
        Err(problem) => Err(problem),
    };
    match created {
        Ok(account) => {
            let page = Urls::of(account.id).webhooks();
            Ok(Redirect::to(&Flash::Created.redirect_target(&page)).into_response())
        }
        Err(problem) => {
            let problem = problem.if_invalid_fields()?;
            let page = account_form(&ctx, name, contacts, Some(&problem));
            Ok(page.with_status_of(&problem).into_response())
        }
    }
}
