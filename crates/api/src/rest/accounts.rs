//! Accounts, which the operator creates and deletes.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use postrider_domain::account::{EmailAddress, Name};
use postrider_domain::limits::MAX_CONTACTS;
use postrider_service::accounts;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::App;
use crate::rest::wire::List;
use crate::rest::wire::account::AccountBody;
use crate::web::auth::{Operator, Tenant};
use crate::web::extract::JsonBody;
use crate::web::fields::{Field, Fields};
use crate::web::page::{ListParams, Params};
use crate::web::problem::Problem;

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(get, update, delete))
}

/// An account to create.
#[derive(ToSchema)]
pub(crate) struct NewAccount {
    /// The account's name: 1 to 200 characters.
    #[schema(value_type = String, example = "Example Ltd")]
    name: Name,
    /// The addresses that are notified when one of its endpoints is disabled: 1 to 20.
    #[schema(value_type = Vec<String>, example = json!(["ops@example.com"]))]
    contact_emails: Vec<EmailAddress>,
}

impl NewAccount {
    pub(crate) fn read(mut fields: Fields<'_>) -> Result<accounts::NewAccount, Problem> {
        let name = fields.required("name", |field| field.parse(Name::parse));
        let contact_emails = fields.required("contact_emails", contact_emails);
        let read = || Some(Self { name: name?, contact_emails: contact_emails? });
        let Self { name, contact_emails } = fields.finish(read())?;
        Ok(accounts::NewAccount { name, contact_emails })
    }
}

/// Changes to an account. Omitted fields stay as they are.
#[derive(ToSchema)]
pub(crate) struct AccountChange {
    /// The account's name: 1 to 200 characters.
    #[schema(value_type = Option<String>)]
    name: Option<Name>,
    /// The addresses that are notified when one of its endpoints is disabled: 1 to 20.
    #[schema(value_type = Option<Vec<String>>)]
    contact_emails: Option<Vec<EmailAddress>>,
}

impl AccountChange {
    pub(crate) fn read(mut fields: Fields<'_>) -> Result<accounts::AccountChange, Problem> {
        let name = fields.change("name", |field| field.parse(Name::parse));
        let contact_emails = fields.change("contact_emails", contact_emails);
        let Self { name, contact_emails } = fields.finish(Some(Self { name, contact_emails }))?;
        Ok(accounts::AccountChange { name, contact_emails })
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

/// Create an account
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
    let new = NewAccount::read(Fields::of(&body)?)?;
    Ok((StatusCode::CREATED, Json(app.service().create_account(new).await?.into())))
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
    Ok(Json(app.service().account(tenant.0).await?.into()))
}

/// Change an account
///
/// Omitted fields stay as they are.
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
    let change = AccountChange::read(Fields::of(&body)?)?;
    Ok(Json(app.service().change_account(tenant.0, change, None).await?.into()))
}

/// Delete an account
///
/// Its keys, endpoints, events and deliveries are deleted with it. Nothing more is sent for it.
#[utoipa::path(
    delete, path = "/v1/accounts/{account}", tag = "Accounts", security(("operator_key" = [])),
    responses((status = NO_CONTENT, description = "Deleted"))
)]
async fn delete(
    _: Operator,
    tenant: Tenant,
    State(app): State<App>,
) -> Result<StatusCode, Problem> {
    app.service().delete_account(tenant.0).await?;
    Ok(StatusCode::NO_CONTENT)
}
