//! Sending an event again, and the deliveries that were made of it.

use axum::Json;
use axum::extract::State;
use bytes::Bytes;
use http::StatusCode;
use postrider_domain::ids::{AccountId, EndpointId, EventId};
use postrider_store::Audience;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::App;
use crate::rest::fields::Fields;
use crate::rest::wire::List;
use crate::rest::wire::delivery::DeliveryBody;
use crate::web::auth::Tenant;
use crate::web::extract::{JsonBody, PathId};
use crate::web::page::{ListParams, Params};
use crate::web::problem::Problem;

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(deliveries)).routes(routes!(resend))
}

/// List an event's deliveries
///
/// Those that were made last first. What an early version made of an event is not listed.
#[utoipa::path(
    get, path = "/v1/accounts/{account}/events/{event}/deliveries", tag = "Events",
    params(ListParams),
    responses((status = OK, description = "A page of deliveries", body = List<DeliveryBody>))
)]
async fn deliveries(
    tenant: Tenant,
    PathId(event): PathId<EventId>,
    State(app): State<App>,
    mut params: Params,
) -> Result<Json<List<DeliveryBody>>, Problem> {
    let page = params.page();
    params.finish()?;
    let page = app.records().event_deliveries(tenant.0, event, page).await?;
    Ok(Json(List::of(page)))
}

/// To whom an event is sent again.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only the OpenAPI document is made of it")]
struct Resend {
    /// To this endpoint, which need not want the event's type; to all that want it now when absent.
    endpoint: Option<String>,
}

/// An event that is sent again.
#[derive(Serialize, ToSchema)]
struct Resent {
    /// To how many endpoints.
    deliveries: u64,
}

/// Send an event again
///
/// Makes new deliveries of the event, each with its own retries. Those to endpoints that are
/// disabled are held.
#[utoipa::path(
    post, path = "/v1/accounts/{account}/events/{event}/resend", tag = "Events",
    request_body(content = Option<Resend>),
    responses(
        (status = ACCEPTED, description = "The deliveries are durable", body = Resent),
        (status = CONFLICT, description = "The endpoint was deleted", body = Problem,
            content_type = "application/problem+json"),
    )
)]
async fn resend(
    tenant: Tenant,
    PathId(event): PathId<EventId>,
    State(app): State<App>,
    JsonBody(body): JsonBody,
) -> Result<(StatusCode, Json<Resent>), Problem> {
    let deliveries = make(&app, tenant.0, event, &body).await?;
    Ok((StatusCode::ACCEPTED, Json(Resent { deliveries })))
}

/// Sends an event again as a body says, and gives to how many endpoints.
pub(crate) async fn make(
    app: &App,
    account: AccountId,
    event: EventId,
    body: &Bytes,
) -> Result<u64, Problem> {
    let mut fields = Fields::of_optional(body)?;
    let endpoint = fields.optional("endpoint", |field| field.parse(str::parse::<EndpointId>));
    let endpoint = fields.finish(Some(endpoint))?;
    let audience = endpoint.map_or(Audience::AllThatWantIt, Audience::Endpoint);
    Ok(app.door().resend(account, event, audience).await?)
}
