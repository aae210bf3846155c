//! An account's API keys, which the operator makes and removes.

use axum::Json;
use axum::extract::State;
use bytes::Bytes;
use http::StatusCode;
use postrider_domain::account::{ApiKey, Name};
use postrider_domain::ids::{AccountId, KeyId};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::App;
use crate::rest::fields::Fields;
use crate::rest::wire::List;
use crate::rest::wire::account::{KeyBody, NewKeyBody};
use crate::web::auth::{self, Operator, Tenant};
use crate::web::extract::{JsonBody, PathId};
use crate::web::page::{ListParams, Params};
use crate::web::problem::Problem;

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(delete))
}

/// A key to make.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only the OpenAPI document is made of it")]
struct NewKey {
    /// What people call it: 1 to 200 characters.
    #[schema(example = "production")]
    name: String,
}

/// List an account's API keys
///
/// Newest first, without their texts, which are not stored.
#[utoipa::path(
    get, path = "/v1/accounts/{account}/api-keys", tag = "API keys",
    security(("operator_key" = [])),
    params(ListParams),
    responses((status = OK, description = "A page of keys", body = List<KeyBody>))
)]
async fn list(
    _: Operator,
    tenant: Tenant,
    State(app): State<App>,
    mut params: Params,
) -> Result<Json<List<KeyBody>>, Problem> {
    let page = params.page();
    params.finish()?;
    Ok(Json(List::of(app.records().keys(tenant.0, page).await?)))
}

/// Make an API key
///
/// The key opens its account alone. It is shown this once.
#[utoipa::path(
    post, path = "/v1/accounts/{account}/api-keys", tag = "API keys",
    security(("operator_key" = [])),
    request_body = NewKey,
    responses((status = CREATED, description = "The key", body = NewKeyBody))
)]
async fn create(
    _: Operator,
    tenant: Tenant,
    State(app): State<App>,
    JsonBody(body): JsonBody,
) -> Result<(StatusCode, Json<NewKeyBody>), Problem> {
    let (key, text) = make(&app, tenant.0, &body).await?;
    Ok((StatusCode::CREATED, Json(NewKeyBody { about: key.into(), key: text })))
}

/// Makes the key that `body` tells of, and gives it with its text.
pub(crate) async fn make(
    app: &App,
    account: AccountId,
    body: &Bytes,
) -> Result<(ApiKey, String), Problem> {
    let mut fields = Fields::of(body)?;
    let name = fields.required("name", |field| field.parse(Name::parse));
    let name = fields.finish(name)?;
    let now = app.now();
    let (text, sha256) = auth::new_key()?;
    let key = ApiKey { id: app.mint().id(now), account, name, sha256, created_at: now };
    match app.records().create_key(&key).await? {
        true => Ok((key, text)),
        false => Err(Problem::not_found("account")),
    }
}

/// Remove an API key
///
/// It stops working at once.
#[utoipa::path(
    delete, path = "/v1/accounts/{account}/api-keys/{key}", tag = "API keys",
    security(("operator_key" = [])),
    responses((status = NO_CONTENT, description = "It is gone"))
)]
async fn delete(
    _: Operator,
    tenant: Tenant,
    PathId(id): PathId<KeyId>,
    State(app): State<App>,
) -> Result<StatusCode, Problem> {
    match app.records().delete_key(tenant.0, id).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(Problem::not_found("key")),
    }
}
