//! Operations on the deliveries of an event.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
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
use crate::web::extract::PathId;
use crate::web::fields::Fields;
use crate::web::idempotency::JsonPost;
use crate::web::page::{ListParams, Params};
use crate::web::problem::Problem;

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(deliveries)).routes(routes!(resend))
}

/// List an event's deliveries
///
/// Returns the event's deliveries, newest first. Deliveries created by versions before 0.1 are not
/// included.
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
    Ok(Json(List::from_page(page)))
}

/// Options for resending an event.
#[derive(ToSchema)]
#[schema(as = Resend)]
pub(crate) struct ResendEvent {
    /// The ID of the endpoint to resend to, whether or not it subscribes to the event type. If
    /// omitted, the event is resent to all endpoints that are currently subscribed to its type.
    #[schema(value_type = Option<String>)]
    endpoint: Option<EndpointId>,
}

impl ResendEvent {
    pub(crate) fn parse(mut fields: Fields<'_>) -> Result<Self, Problem> {
        let endpoint = fields.optional("endpoint", |field| field.parse(str::parse::<EndpointId>));
        fields.finish(Some(Self { endpoint }))
    }
}

impl From<ResendEvent> for ResendTarget {
    fn from(ResendEvent { endpoint }: ResendEvent) -> Self {
        endpoint.map_or(Self::AllSubscribers, Self::Endpoint)
    }
}

/// The result of resending an event.
#[derive(Serialize, ToSchema)]
#[schema(as = Resent)]
struct ResendResult {
    /// The number of created deliveries.
    deliveries: u64,
}

/// Resend an event
///
/// Creates new deliveries of the event, each with its own retry schedule. Deliveries to disabled
/// endpoints are held. The body may be omitted.
#[utoipa::path(
    post, path = "/v1/accounts/{account}/events/{event}/resend", tag = "Events",
    request_body(content = Option<ResendEvent>),
    responses(
        (status = ACCEPTED, description = "The deliveries were created", body = ResendResult),
        (status = CONFLICT, description = "The endpoint was deleted", body = Problem,
            content_type = "application/problem+json"),
    )
)]
async fn resend(
    tenant: Tenant,
    PathId(event): PathId<EventId>,
    State(app): State<App>,
    JsonPost { body, request }: JsonPost,
) -> Result<Response, Problem> {
    let target = ResendEvent::parse(Fields::from_optional_json(&body)?)?.into();
    let resend = |once| app.service().resend_event(tenant.0, event, target, once);
    let render = |count: &u64| (StatusCode::ACCEPTED, ResendResult { deliveries: *count });
    request.run(resend, render).await
}
