//! The deliveries of an event, and resending it.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use postrider_domain::ids::{EndpointId, EventId};
use postrider_store::ResendTarget;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::App;
use crate::rest::wire::List;
use crate::rest::wire::delivery::DeliveryBody;
use crate::web::auth::Tenant;
use crate::web::extract::{JsonBody, PathId};
use crate::web::fields::Fields;
use crate::web::page::{ListParams, Params};
use crate::web::problem::Problem;

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(deliveries)).routes(routes!(resend))
}

/// List an event's deliveries
///
/// Newest first. Deliveries that a version before 0.1 made are not listed.
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

/// Where to resend an event.
#[derive(ToSchema)]
pub(crate) struct Resend {
    /// One endpoint, whether or not it subscribes to the event's type. If omitted, all endpoints that
    /// subscribe to the type now.
    #[schema(value_type = Option<String>)]
    endpoint: Option<EndpointId>,
}

impl Resend {
    pub(crate) fn read(mut fields: Fields<'_>) -> Result<ResendTarget, Problem> {
        let endpoint = fields.optional("endpoint", |field| field.parse(str::parse::<EndpointId>));
        let Self { endpoint } = fields.finish(Some(Self { endpoint }))?;
        Ok(endpoint.map_or(ResendTarget::AllSubscribers, ResendTarget::Endpoint))
    }
}

/// A resent event.
#[derive(Serialize, ToSchema)]
struct Resent {
    /// The number of new deliveries.
    deliveries: u64,
}

/// Resend an event
///
/// Makes new deliveries of the event, each with its own retries. Deliveries to disabled endpoints are
/// held.
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
    let audience = Resend::read(Fields::of_optional(&body)?)?;
    let deliveries = app.service().resend(tenant.0, event, audience).await?;
    Ok((StatusCode::ACCEPTED, Json(Resent { deliveries })))
}
