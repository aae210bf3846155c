//! What an endpoint's requests are signed with.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use bytes::Bytes;
use postrider_domain::duration;
use postrider_domain::endpoint::{Endpoint, Secrets};
use postrider_domain::ids::{AccountId, EndpointId};
use postrider_domain::signature::Secret;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::App;
use crate::rest::fields::{Field, Fields};
use crate::rest::wire::endpoint::SecretsBody;
use crate::web::auth::Tenant;
use crate::web::extract::{JsonBody, PathId};
use crate::web::problem::Problem;
use crate::web::random;

/// How long a replaced secret signs too when the caller does not say.
const DEFAULT_OVERLAP: Duration = Duration::from_secs(24 * 3600);
/// The longest that it may.
const MAX_OVERLAP: Duration = Duration::from_secs(30 * 24 * 3600);

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(get_secret)).routes(routes!(rotate_secret))
}

/// How to rotate.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only the OpenAPI document is made of it")]
struct Rotation {
    /// How long the old secret signs too, such as `90s` or `1h30m`: at most `30d`; `24h` when
    /// absent. `0s` ends it at once.
    #[schema(example = "24h")]
    overlap: Option<String>,
}

fn overlap(field: Field<'_, '_>) -> Option<Duration> {
    field.parse(|text| match duration::parse(text) {
        Ok(overlap) if overlap <= MAX_OVERLAP => Ok(overlap),
        Ok(_) => Err(format!("must be at most {}", duration::format(MAX_OVERLAP))),
        Err(error) => Err(error.to_string()),
    })
}

/// Get an endpoint's signing secrets
#[utoipa::path(
    get, path = "/v1/accounts/{account}/endpoints/{endpoint}/secret", tag = "Endpoints",
    responses((status = OK, description = "What signs its requests now", body = SecretsBody))
)]
async fn get_secret(
    tenant: Tenant,
    PathId(id): PathId<EndpointId>,
    State(app): State<App>,
) -> Result<Json<SecretsBody>, Problem> {
    let view = app.door().endpoint(tenant.0, id).await?;
    Ok(Json(SecretsBody::at(&view.endpoint.secrets, app.now())))
}

/// Rotate an endpoint's signing secret
///
/// While old and new overlap, every request is signed with both. At most four replaced secrets
/// overlap with the new one: a further rotation ends the oldest of them at once. The body may be
/// left out.
#[utoipa::path(
    post, path = "/v1/accounts/{account}/endpoints/{endpoint}/rotate-secret", tag = "Endpoints",
    request_body(content = Option<Rotation>),
    responses((status = OK, description = "What signs its requests now", body = SecretsBody))
)]
async fn rotate_secret(
    tenant: Tenant,
    PathId(id): PathId<EndpointId>,
    State(app): State<App>,
    JsonBody(body): JsonBody,
) -> Result<Json<SecretsBody>, Problem> {
    let secrets = rotate(&app, tenant.0, id, &body).await?;
    Ok(Json(SecretsBody::at(&secrets, app.now())))
}

/// Rotates an endpoint's secret as `body` tells.
pub(crate) async fn rotate(
    app: &App,
    account: AccountId,
    id: EndpointId,
    body: &Bytes,
) -> Result<Secrets, Problem> {
    let mut fields = Fields::of_optional(body)?;
    let overlap = fields.optional("overlap", overlap);
    let overlap = fields.finish(Some(overlap))?.unwrap_or(DEFAULT_OVERLAP);
    let next = Secret::from_bytes(random::bytes()?);
    let now = app.now();
    let change = |endpoint: &mut Endpoint| {
        // It may run again after a commit that nobody heard of, and is not to rotate twice.
        if endpoint.secrets.current != next {
            endpoint.secrets.rotate(next.clone(), now, overlap);
            endpoint.updated_at = now;
        }
    };
    let view = app.records().update_endpoint(account, id, change).await?;
    let view = view.ok_or_else(|| Problem::not_found("endpoint"))?;
    app.router().changed(account, id);
    Ok(view.endpoint.secrets)
}
