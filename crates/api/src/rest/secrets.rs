//! Operations on signing secrets.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use postrider_domain::ids::EndpointId;
use postrider_domain::secret::{DEFAULT_OVERLAP, parse_overlap};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::App;
use crate::rest::wire::endpoint::SecretsBody;
use crate::web::auth::Tenant;
use crate::web::extract::PathId;
use crate::web::fields::Fields;
use crate::web::idempotency::JsonPost;
use crate::web::problem::Problem;

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(get_secret)).routes(routes!(rotate_secret))
}

/// Options for rotating a signing secret.
#[derive(ToSchema)]
#[schema(as = Rotation)]
struct RotateSecret {
    /// How long requests are signed with both the old and the new secret, such as `90s` or `1h30m`.
    /// At most `30d`; `0s` expires the old secret immediately. Defaults to `24h`.
    #[schema(value_type = Option<String>, example = "24h")]
    overlap: Option<Duration>,
}

impl RotateSecret {
    fn parse(mut fields: Fields<'_>) -> Result<Self, Problem> {
        let overlap = fields.optional("overlap", |field| field.parse(parse_overlap));
        fields.finish(Some(Self { overlap }))
    }
}

/// Get an endpoint's signing secrets
///
/// Returns the current secret and the replaced secrets that have not expired.
#[utoipa::path(
    get, path = "/v1/accounts/{account}/endpoints/{endpoint}/secret", tag = "Endpoints",
    responses((status = OK, description = "The signing secrets", body = SecretsBody))
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
/// Creates a new signing secret. During the overlap, requests are signed with both the old and the
/// new secret. At most four replaced secrets are kept: a further rotation expires the oldest of
/// them immediately. The body may be omitted.
#[utoipa::path(
    post, path = "/v1/accounts/{account}/endpoints/{endpoint}/rotate-secret", tag = "Endpoints",
    request_body(content = Option<RotateSecret>),
    responses((status = OK, description = "The signing secrets", body = SecretsBody))
)]
async fn rotate_secret(
    tenant: Tenant,
    PathId(id): PathId<EndpointId>,
    State(app): State<App>,
    JsonPost { body, request }: JsonPost,
) -> Result<Response, Problem> {
    let RotateSecret { overlap } = RotateSecret::parse(Fields::from_optional_json(&body)?)?;
    let overlap = overlap.unwrap_or(DEFAULT_OVERLAP);
    let now = app.now();
    let rotate = |once| app.service().rotate_secret(tenant.0, id, overlap, once);
    request.run(rotate, move |secrets| (StatusCode::OK, SecretsBody::at(secrets, now))).await
}
