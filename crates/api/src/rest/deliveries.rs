//! Operations on deliveries.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use postrider_domain::delivery::DeliveryState;
use postrider_domain::event::{EventTypeName, Payload};
use postrider_domain::ids::{DeliveryId, EndpointId};
use postrider_domain::time::Timestamp;
use postrider_service::deliveries::RetriedDelivery;
use postrider_store::DeliveryFilter;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::App;
use crate::rest::wire::List;
use crate::rest::wire::delivery::{
    AttemptBody, DeliveryBody, DeliveryDetailBody, STATES, delivery_state,
};
use crate::web::auth::Tenant;
use crate::web::choice::parse_choice;
use crate::web::extract::PathId;
use crate::web::idempotency::EmptyPost;
use crate::web::page::{ListParams, Params};
use crate::web::problem::Problem;

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(get))
        .routes(routes!(retry))
        .routes(routes!(discard))
}

/// Filters for deliveries. Omitted filters match everything.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct FilterParams {
    /// Returns only deliveries in this state.
    #[param(schema_with = delivery_state)]
    state: Option<DeliveryState>,
    /// Returns only deliveries of this event type.
    #[param(value_type = Option<String>)]
    event_type: Option<EventTypeName>,
    /// Returns only deliveries created at or after this time (RFC 3339).
    #[param(value_type = Option<String>, format = DateTime)]
    since: Option<Timestamp>,
}

impl FilterParams {
    pub(crate) fn parse(params: &mut Params) -> Self {
        Self {
            state: params.take("state", |text| parse_choice(text, &STATES)),
            event_type: params.take("event_type", EventTypeName::parse),
            since: params.take("since", str::parse::<Timestamp>),
        }
    }
}

impl From<FilterParams> for DeliveryFilter {
    fn from(FilterParams { state, event_type, since }: FilterParams) -> Self {
        Self { state, event_type, since }
    }
}

/// List an endpoint's deliveries
///
/// Returns the endpoint's deliveries, newest first. With a filter, a page may contain fewer items
/// than `limit`, or none, and still have a `next_cursor`.
#[utoipa::path(
    get, path = "/v1/accounts/{account}/endpoints/{endpoint}/deliveries", tag = "Deliveries",
    params(FilterParams, ListParams),
    responses((status = OK, description = "A page of deliveries", body = List<DeliveryBody>))
)]
async fn list(
    tenant: Tenant,
    PathId(endpoint): PathId<EndpointId>,
    State(app): State<App>,
    mut params: Params,
) -> Result<Json<List<DeliveryBody>>, Problem> {
    let filter = FilterParams::parse(&mut params).into();
    let page = params.page();
    params.finish()?;
    app.service().endpoint(tenant.0, endpoint).await?;
    let page = app.records().deliveries(tenant.0, endpoint, filter, page).await?;
    Ok(Json(List::from_page(page)))
}

/// Get a delivery
///
/// Returns the delivery with all of its attempts.
#[utoipa::path(
    get, path = "/v1/accounts/{account}/deliveries/{delivery}", tag = "Deliveries",
    responses((status = OK, description = "The delivery", body = DeliveryDetailBody))
)]
async fn get(
    tenant: Tenant,
    PathId(id): PathId<DeliveryId>,
    State(app): State<App>,
) -> Result<Json<DeliveryDetailBody>, Problem> {
    let (view, attempts) = app.service().delivery(tenant.0, id).await?;
    let payload = app.service().sent_payload(tenant.0, &view, &attempts).await?;
    let payload = payload.as_ref().map(Payload::bytes);
    let attempts = attempts
        .into_iter()
        .map(|attempt| AttemptBody::new(attempt, payload.map(|bytes| bytes.as_ref())));
    let attempts = attempts.collect();
    Ok(Json(DeliveryDetailBody { delivery: view.into(), attempts }))
}

/// Retry a delivery
///
/// Makes a pending delivery due now; its attempts count on in its retry schedule. If the delivery
/// has ended, creates a new delivery of the same event to the same endpoint, with its own retry
/// schedule; if the endpoint is disabled, the new delivery is held.
#[utoipa::path(
    post, path = "/v1/accounts/{account}/deliveries/{delivery}/retry", tag = "Deliveries",
    responses(
        (status = OK, description = "The pending delivery, which is due now", body = DeliveryBody),
        (status = CREATED, description = "The created delivery", body = DeliveryBody),
        (status = CONFLICT, description = "The delivery is held, or the endpoint was deleted",
            body = Problem, content_type = "application/problem+json"),
    )
)]
async fn retry(
    tenant: Tenant,
    PathId(id): PathId<DeliveryId>,
    State(app): State<App>,
    EmptyPost(request): EmptyPost,
) -> Result<Response, Problem> {
    let retry = |once| app.service().retry_delivery(tenant.0, id, once);
    let render = |retried: &RetriedDelivery| {
        let (status, view) = match retried {
            RetriedDelivery::BroughtForward(view) => (StatusCode::OK, view),
            RetriedDelivery::Created(view) => (StatusCode::CREATED, view),
        };
        (status, DeliveryBody::from(view.clone()))
    };
    request.run(retry, render).await
}

/// Discard a delivery
///
/// Gives up a pending or held delivery. In strict order, the next delivery follows. A request that
/// is in flight may still arrive, but is not recorded.
#[utoipa::path(
    post, path = "/v1/accounts/{account}/deliveries/{delivery}/discard", tag = "Deliveries",
    responses(
        (status = OK, description = "The discarded delivery", body = DeliveryBody),
        (status = CONFLICT, description = "The delivery has already ended", body = Problem,
            content_type = "application/problem+json"),
    )
)]
async fn discard(
    tenant: Tenant,
    PathId(id): PathId<DeliveryId>,
    State(app): State<App>,
    EmptyPost(request): EmptyPost,
) -> Result<Response, Problem> {
    let discard = |once| app.service().discard_delivery(tenant.0, id, once);
    request.run(discard, |view| (StatusCode::OK, DeliveryBody::from(view.clone()))).await
}
