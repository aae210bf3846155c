//! The secrets that sign an endpoint's requests.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use postrider_domain::ids::EndpointId;
use postrider_domain::secret::{DEFAULT_OVERLAP, parse_overlap};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::App;
use crate::rest::wire::endpoint::SecretsBody;
use crate::web::auth::Tenant;
use crate::web::extract::{JsonBody, PathId};
use crate::web::fields::Fields;
use crate::web::problem::Problem;

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(get_secret)).routes(routes!(rotate_secret))
}

/// A rotation.
#[derive(ToSchema)]
struct Rotation {
    /// How long the old secret still signs, next to the new one, such as `90s` or `1h30m`: at most
    /// `30d`; `24h` if omitted. `0s` ends it at once.
    #[schema(value_type = Option<String>, example = "24h")]
    overlap: Option<Duration>,
}

impl Rotation {
    fn read(mut fields: Fields<'_>) -> Result<Self, Problem> {
        let overlap = fields.optional("overlap", |field| field.parse(parse_overlap));
        fields.finish(Some(Self { overlap }))
    }
}

/// Get an endpoint's signing secrets
#[utoipa::path(
    get, path = "/v1/accounts/{account}/endpoints/{endpoint}/secret", tag = "Endpoints",
    responses((status = OK, description = "The secrets that sign its requests", body = SecretsBody))
)]
async fn get_secret(
    tenant: Tenant,
    PathId(id): PathId<EndpointId>,
    State(app): State<App>,
) -> Result<Json<SecretsBody>, Problem> {
    let view = app.service().endpoint(tenant.0, id).await?;
    Ok(Json(SecretsBody::at(&view.endpoint.secrets, app.now())))
}

/// Rotate an endpoint's signing secret
///
/// During the overlap, every request is signed with both secrets. At most four replaced secrets
/// overlap with the new one: a further rotation ends the oldest of them at once. The body may be
/// omitted.
#[utoipa::path(
    post, path = "/v1/accounts/{account}/endpoints/{endpoint}/rotate-secret", tag = "Endpoints",
    request_body(content = Option<Rotation>),
    responses((status = OK, description = "The secrets that sign its requests", body = SecretsBody))
)]
async fn rotate_secret(
    tenant: Tenant,
    PathId(id): PathId<EndpointId>,
    State(app): State<App>,
    JsonBody(body): JsonBody,
) -> Result<Json<SecretsBody>, Problem> {
    let Rotation { overlap } = Rotation::read(Fields::of_optional(&body)?)?;
    let overlap = overlap.unwrap_or(DEFAULT_OVERLAP);
    let secrets = app.service().rotate_secret(tenant.0, id, overlap).await?;
    Ok(Json(SecretsBody::at(&secrets, app.now())))
}
