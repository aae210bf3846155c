//! Operations on accounts, reserved for the operator.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
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
use crate::web::idempotency::JsonPost;
use crate::web::page::{ListParams, Params};
use crate::web::problem::Problem;

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(get, update, delete))
}

/// The account to create.
#[derive(ToSchema)]
pub(crate) struct NewAccount {
    /// The account's name, 1 to 200 characters.
    #[schema(value_type = String, example = "Example Ltd")]
    name: Name,
    /// The email addresses to notify when one of the account's endpoints is disabled, 1 to 20
    /// addresses.
    #[schema(value_type = Vec<String>, example = json!(["ops@example.com"]))]
    contact_emails: Vec<EmailAddress>,
}

impl NewAccount {
    pub(crate) fn parse(mut fields: Fields<'_>) -> Result<accounts::NewAccount, Problem> {
        let name = fields.required("name", |field| field.parse(Name::parse));
        let contact_emails = fields.required("contact_emails", contact_emails);
        let parsed = || Some(Self { name: name?, contact_emails: contact_emails? });
        fields.finish(parsed()).map(Into::into)
    }
}

impl From<NewAccount> for accounts::NewAccount {
    fn from(NewAccount { name, contact_emails }: NewAccount) -> Self {
        Self { name, contact_emails }
    }
}

/// The fields of an account to update. Omitted fields are left unchanged.
#[derive(ToSchema)]
#[schema(as = AccountChange)]
pub(crate) struct AccountUpdate {
    /// The account's name, 1 to 200 characters.
    #[schema(value_type = Option<String>)]
    name: Option<Name>,
    /// The email addresses to notify when one of the account's endpoints is disabled, 1 to 20
    /// addresses.
    #[schema(value_type = Option<Vec<String>>)]
    contact_emails: Option<Vec<EmailAddress>>,
}

impl AccountUpdate {
    pub(crate) fn parse(mut fields: Fields<'_>) -> Result<accounts::AccountUpdate, Problem> {
        let name = fields.non_null("name", |field| field.parse(Name::parse));
        let contact_emails = fields.non_null("contact_emails", contact_emails);
        fields.finish(Some(Self { name, contact_emails })).map(Into::into)
    }
}

impl From<AccountUpdate> for accounts::AccountUpdate {
    fn from(AccountUpdate { name, contact_emails }: AccountUpdate) -> Self {
        Self { name, contact_emails }
    }
}

fn contact_emails(field: Field<'_, '_>) -> Option<Vec<EmailAddress>> {
    let emails = field.list(1..=MAX_CONTACTS, |item| item.parse(EmailAddress::parse))?;
    Some(emails.into_iter().map(|(_, email)| email).collect())
}

/// List accounts
///
/// Returns accounts, newest first.
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
    Ok(Json(List::from_page(app.records().accounts(page).await?)))
}

/// Create an account
#[utoipa::path(
    post, path = "/v1/accounts", tag = "Accounts", security(("operator_key" = [])),
    request_body = NewAccount,
    responses((status = CREATED, description = "The created account", body = AccountBody))
)]
async fn create(
    _: Operator,
    State(app): State<App>,
    JsonPost { body, request }: JsonPost,
) -> Result<Response, Problem> {
    let new = NewAccount::parse(Fields::from_json(&body)?)?;
    let create = |once| app.service().create_account(new, once);
    request.run(create, |account| (StatusCode::CREATED, AccountBody::from(account.clone()))).await
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

/// Update an account
///
/// Omitted fields are left unchanged.
#[utoipa::path(
    patch, path = "/v1/accounts/{account}", tag = "Accounts", security(("operator_key" = [])),
    request_body = AccountUpdate,
    responses((status = OK, description = "The updated account", body = AccountBody))
)]
async fn update(
    _: Operator,
    tenant: Tenant,
    State(app): State<App>,
    JsonBody(body): JsonBody,
) -> Result<Json<AccountBody>, Problem> {
    let update = AccountUpdate::parse(Fields::from_json(&body)?)?;
    Ok(Json(app.service().update_account(tenant.0, update, None).await?.into()))
}

/// Delete an account
///
/// Deletes the account with its API keys, endpoints, events and deliveries. Pending deliveries are
/// not sent.
#[utoipa::path(
    delete, path = "/v1/accounts/{account}", tag = "Accounts", security(("operator_key" = [])),
    responses((status = NO_CONTENT, description = "The account was deleted"))
)]
async fn delete(
    _: Operator,
    tenant: Tenant,
    State(app): State<App>,
) -> Result<StatusCode, Problem> {
    app.service().delete_account(tenant.0).await?;
    Ok(StatusCode::NO_CONTENT)
}
