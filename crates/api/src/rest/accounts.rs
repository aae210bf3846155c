//! Accounts, which the operator makes and removes.

use axum::Json;
use axum::extract::State;
use bytes::Bytes;
use http::StatusCode;
use postrider_domain::account::{Account, EmailAddress, Name};
use postrider_domain::ids::AccountId;
use postrider_domain::limits::MAX_CONTACTS;
use postrider_domain::time::Timestamp;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::App;
use crate::rest::fields::{Field, Fields};
use crate::rest::wire::List;
use crate::rest::wire::account::AccountBody;
use crate::web::auth::{Operator, Tenant};
use crate::web::extract::JsonBody;
use crate::web::page::{ListParams, Params};
use crate::web::problem::Problem;

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(get, update, delete))
}

/// An account to make.
#[derive(ToSchema)]
struct NewAccount {
    /// What people call it: 1 to 200 characters.
    #[schema(value_type = String, example = "Example Ltd")]
    name: Name,
    /// Who is told when one of its endpoints is disabled: 1 to 20 addresses.
    #[schema(value_type = Vec<String>, example = json!(["ops@example.com"]))]
    contact_emails: Vec<EmailAddress>,
}

impl NewAccount {
    fn read(mut fields: Fields<'_>) -> Result<Self, Problem> {
        let name = fields.required("name", |field| field.parse(Name::parse));
        let contact_emails = fields.required("contact_emails", contact_emails);
        let read = || Some(Self { name: name?, contact_emails: contact_emails? });
        fields.finish(read())
    }
}

/// What to change of an account; what is absent stays as it is.
#[derive(ToSchema)]
struct AccountChange {
    /// What people call it: 1 to 200 characters.
    #[schema(value_type = Option<String>)]
    name: Option<Name>,
    /// Who is told when one of its endpoints is disabled: 1 to 20 addresses.
    #[schema(value_type = Option<Vec<String>>)]
    contact_emails: Option<Vec<EmailAddress>>,
}

impl AccountChange {
    fn read(mut fields: Fields<'_>) -> Result<Self, Problem> {
        let name = fields.change("name", |field| field.parse(Name::parse));
        let contact_emails = fields.change("contact_emails", contact_emails);
        fields.finish(Some(Self { name, contact_emails }))
    }
}

fn contact_emails(field: Field<'_, '_>) -> Option<Vec<EmailAddress>> {
    let emails = field.list(1..=MAX_CONTACTS, |item| item.parse(EmailAddress::parse))?;
    Some(emails.into_iter().map(|(_, email)| email).collect())
}

/// List accounts
///
/// Newest first.
#[utoipa::path(
    get, path = "/v1/accounts", tag = "Accounts", security(("operator_key" = [])),
    params(ListParams),
    responses((status = OK, description = "A page of accounts", body = List<AccountBody>))
)]
async fn list(
    _: Operator,
    State(app): State<App>,
    mut params: Params,
) -> Result<Json<List<AccountBody>>, Problem> {
    let page = params.page();
    params.finish()?;
    Ok(Json(List::of(app.records().accounts(page).await?)))
}

/// Make an account
#[utoipa::path(
    post, path = "/v1/accounts", tag = "Accounts", security(("operator_key" = [])),
    request_body = NewAccount,
    responses((status = CREATED, description = "The account", body = AccountBody))
)]
async fn create(
    _: Operator,
    State(app): State<App>,
    JsonBody(body): JsonBody,
) -> Result<(StatusCode, Json<AccountBody>), Problem> {
    Ok((StatusCode::CREATED, Json(make(&app, &body).await?.into())))
}

/// Makes the account that `body` tells of.
pub(crate) async fn make(app: &App, body: &Bytes) -> Result<Account, Problem> {
    let NewAccount { name, contact_emails } = NewAccount::read(Fields::of(body)?)?;
    let now = app.now();
    let id = app.mint().id(now);
    let account = Account { id, name, contact_emails, created_at: now, updated_at: now };
    app.records().create_account(&account).await?;
    Ok(account)
}

/// Get an account
#[utoipa::path(
    get, path = "/v1/accounts/{account}", tag = "Accounts", security(("operator_key" = [])),
    responses((status = OK, description = "The account", body = AccountBody))
)]
async fn get(
    _: Operator,
    tenant: Tenant,
    State(app): State<App>,
) -> Result<Json<AccountBody>, Problem> {
    let account = app.records().account(tenant.0).await?;
    Ok(Json(account.ok_or_else(|| Problem::not_found("account"))?.into()))
}

/// Change an account
///
/// What is absent stays as it is.
#[utoipa::path(
    patch, path = "/v1/accounts/{account}", tag = "Accounts", security(("operator_key" = [])),
    request_body = AccountChange,
    responses((status = OK, description = "The account as it is now", body = AccountBody))
)]
async fn update(
    _: Operator,
    tenant: Tenant,
    State(app): State<App>,
    JsonBody(body): JsonBody,
) -> Result<Json<AccountBody>, Problem> {
    Ok(Json(change(&app, tenant.0, &body, None).await?.into()))
}

/// Makes the change that `body` tells of, unless there was another one since the one that was `seen`.
pub(crate) async fn change(
    app: &App,
    account: AccountId,
    body: &Bytes,
    seen: Option<Timestamp>,
) -> Result<Account, Problem> {
    let AccountChange { name, contact_emails } = AccountChange::read(Fields::of(body)?)?;
    let now = app.now();
    let change = |account: &mut Account| {
        if let Some(name) = &name {
            account.name.clone_from(name);
        }
        if let Some(emails) = &contact_emails {
            account.contact_emails.clone_from(emails);
        }
        account.updated_at = now;
    };
    let unless_changed = |account: &mut Account| {
        if seen.is_none_or(|seen| account.updated_at == seen) {
            change(account);
        }
    };
    let account = app.records().update_account(account, unless_changed).await?;
    let account = account.ok_or_else(|| Problem::not_found("account"))?;
    // It may have been made by a run whose commit nobody heard of.
    let mut changed = account.clone();
    change(&mut changed);
    if account == changed { Ok(account) } else { Err(Problem::changed_meanwhile()) }
}

/// Remove an account
///
/// With its keys, endpoints, events and deliveries. Nothing more is sent for it.
#[utoipa::path(
    delete, path = "/v1/accounts/{account}", tag = "Accounts", security(("operator_key" = [])),
    responses((status = NO_CONTENT, description = "It is gone"))
)]
async fn delete(
    _: Operator,
    tenant: Tenant,
    State(app): State<App>,
) -> Result<StatusCode, Problem> {
    match app.records().delete_account(tenant.0).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(Problem::not_found("account")),
    }
}
