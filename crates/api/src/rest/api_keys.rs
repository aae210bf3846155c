//! Operations on API keys, reserved for the operator.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use postrider_domain::account::Name;
use postrider_domain::ids::KeyId;
use postrider_service::CreatedApiKey;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::App;
use crate::rest::wire::List;
use crate::rest::wire::account::{CreatedKeyBody, KeyBody};
use crate::web::auth::{Operator, Tenant};
use crate::web::extract::PathId;
use crate::web::fields::Fields;
use crate::web::idempotency::JsonPost;
use crate::web::page::{ListParams, Params};
use crate::web::problem::Problem;

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(delete))
}

/// The API key to create.
#[derive(ToSchema)]
#[schema(as = NewKey)]
pub(crate) struct NewApiKey {
    /// The key's name, 1 to 200 characters.
    #[schema(value_type = String, example = "production")]
    pub name: Name,
}

impl NewApiKey {
    pub(crate) fn parse(mut fields: Fields<'_>) -> Result<Self, Problem> {
        let name = fields.required("name", |field| field.parse(Name::parse));
        fields.finish(name.map(|name| Self { name }))
    }
}

/// List API keys
///
/// Returns the account's API keys, newest first. The keys themselves are not stored and are not
/// returned.
#[utoipa::path(
    get, path = "/v1/accounts/{account}/api-keys", tag = "API keys",
    security(("operator_key" = [])),
    params(ListParams),
    responses((status = OK, description = "A page of API keys", body = List<KeyBody>))
)]
async fn list(
    _: Operator,
    tenant: Tenant,
    State(app): State<App>,
    mut params: Params,
) -> Result<Json<List<KeyBody>>, Problem> {
    let page = params.page();
    params.finish()?;
    Ok(Json(List::from_page(app.records().keys(tenant.0, page).await?)))
}

/// Create an API key
///
/// The key grants access to this account only. It is returned only in this response.
#[utoipa::path(
    post, path = "/v1/accounts/{account}/api-keys", tag = "API keys",
    security(("operator_key" = [])),
    request_body = NewApiKey,
    responses((status = CREATED, description = "The created API key", body = CreatedKeyBody))
)]
async fn create(
    _: Operator,
    tenant: Tenant,
    State(app): State<App>,
    JsonPost { body, request }: JsonPost,
) -> Result<Response, Problem> {
    let NewApiKey { name } = NewApiKey::parse(Fields::from_json(&body)?)?;
    let create = |once| app.service().create_api_key(tenant.0, name, once);
    let render = |CreatedApiKey { record, plaintext }: &CreatedApiKey| {
        let body = CreatedKeyBody { api_key: record.clone().into(), key: plaintext.clone() };
        (StatusCode::CREATED, body)
    };
    request.run(create, render).await
}

/// Delete an API key
///
/// The key stops working immediately.
#[utoipa::path(
    delete, path = "/v1/accounts/{account}/api-keys/{key}", tag = "API keys",
    security(("operator_key" = [])),
    responses((status = NO_CONTENT, description = "The API key was deleted"))
)]
async fn delete(
    _: Operator,
    tenant: Tenant,
    PathId(id): PathId<KeyId>,
    State(app): State<App>,
) -> Result<StatusCode, Problem> {
    app.service().delete_api_key(tenant.0, id).await?;
    Ok(StatusCode::NO_CONTENT)
}
