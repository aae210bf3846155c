//! An account's API keys, which the operator creates and deletes.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use postrider_domain::account::Name;
use postrider_domain::ids::KeyId;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::App;
use crate::rest::wire::List;
use crate::rest::wire::account::{KeyBody, NewKeyBody};
use crate::web::auth::{Operator, Tenant};
use crate::web::extract::{JsonBody, PathId};
use crate::web::fields::Fields;
use crate::web::page::{ListParams, Params};
use crate::web::problem::Problem;

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(delete))
}

/// An API key to create.
#[derive(ToSchema)]
pub(crate) struct NewKey {
    /// The key's name: 1 to 200 characters.
    #[schema(value_type = String, example = "production")]
    name: Name,
}

impl NewKey {
    pub(crate) fn read(mut fields: Fields<'_>) -> Result<Name, Problem> {
        let name = fields.required("name", |field| field.parse(Name::parse));
        let Self { name } = fields.finish(name.map(|name| Self { name }))?;
        Ok(name)
    }
}

/// List an account's API keys
///
/// Newest first, without the texts of the keys, which are not stored.
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

/// Create an API key
///
/// The key gives access to its account alone. Its text is shown only in this response.
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
    let name = NewKey::read(Fields::of(&body)?)?;
    let new = app.service().create_key(tenant.0, name).await?;
    Ok((StatusCode::CREATED, Json(NewKeyBody { about: new.key.into(), key: new.text })))
}

/// Delete an API key
///
/// It stops working at once.
#[utoipa::path(
    delete, path = "/v1/accounts/{account}/api-keys/{key}", tag = "API keys",
    security(("operator_key" = [])),
    responses((status = NO_CONTENT, description = "Deleted"))
)]
async fn delete(
    _: Operator,
    tenant: Tenant,
    PathId(id): PathId<KeyId>,
    State(app): State<App>,
) -> Result<StatusCode, Problem> {
    app.service().delete_key(tenant.0, id).await?;
    Ok(StatusCode::NO_CONTENT)
}
