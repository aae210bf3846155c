//! Test events: one request to an endpoint, shown exactly as it was sent. Nothing is recorded.

use axum::Json;
use axum::extract::State;
use postrider_cluster::route::TestReport;
use postrider_domain::event::{EventTypeName, Payload};
use postrider_domain::findings::UNKNOWN_TYPE;
use postrider_domain::ids::EndpointId;
use postrider_service::SentTest;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::App;
use crate::rest::wire::exchange::{RequestBody, TestBody};
use crate::web::auth::Tenant;
use crate::web::extract::{JsonBody, PathId};
use crate::web::fields::Fields;
use crate::web::problem::Problem;

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(send_test))
}

/// A test event.
#[derive(ToSchema)]
pub(crate) struct TestEvent {
    /// A type of the catalogue.
    #[schema(value_type = String, example = "application.created")]
    event_type: EventTypeName,
    /// The payload; the type's example if omitted. It is not checked against the type's schema.
    #[schema(value_type = Option<Value>)]
    payload: Option<Payload>,
}

impl TestEvent {
    /// The command, or everything that is wrong with the fields.
    pub(crate) async fn read(
        mut fields: Fields<'_>,
        app: &App,
    ) -> Result<postrider_service::TestEvent, Problem> {
        let event_type = fields.required("event_type", |field| field.parse(EventTypeName::parse));
        let payload = fields.change("payload", |field| field.payload());
        if let Some(name) = event_type.as_ref().filter(|_| fields.are_invalid())
            && app.records().event_type(name).await?.is_none()
        {
            fields.reject("event_type", UNKNOWN_TYPE);
        }
        let read = event_type.map(|event_type| Self { event_type, payload });
        let Self { event_type, payload } = fields.finish(read)?;
        Ok(postrider_service::TestEvent { event_type, payload })
    }
}

/// Send a test event
///
/// Sends one request now, also to a disabled endpoint, and waits for the response. It is signed like
/// any other. Nothing is retried, stored or counted.
#[utoipa::path(
    post, path = "/v1/accounts/{account}/endpoints/{endpoint}/test", tag = "Endpoints",
    request_body = TestEvent,
    responses((status = OK, description = "The request and the response", body = TestBody))
)]
async fn send_test(
    tenant: Tenant,
    PathId(id): PathId<EndpointId>,
    State(app): State<App>,
    JsonBody(body): JsonBody,
) -> Result<Json<TestBody>, Problem> {
    // An endpoint that does not exist is told before what is wrong with the body.
    app.service().endpoint(tenant.0, id).await?;
    let test = TestEvent::read(Fields::of(&body)?, &app).await?;
    let SentTest { payload, report } = app.service().send_test(tenant.0, id, test).await?;
    let TestReport { exchange, phases } = report;
    Ok(Json(TestBody {
        duration_ms: exchange.duration_ms(),
        error: exchange.outcome.error().map(Into::into),
        request: RequestBody::new(exchange.request, Some(payload.bytes())),
        response: exchange.response.map(Into::into),
        phases: phases.into(),
    }))
}
