//! Test events: one request to an endpoint, shown as it went over the wire, and counted for
//! nothing.

use axum::Json;
use axum::extract::State;
use bytes::Bytes;
use postrider_cluster::route::TestReport;
use postrider_domain::event::{Event, EventTypeName, Payload};
use postrider_domain::findings::UNKNOWN_TYPE;
use postrider_domain::ids::{AccountId, EndpointId};
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::App;
use crate::rest::events::payload;
use crate::rest::fields::Fields;
use crate::rest::wire::exchange::{RequestBody, TestBody};
use crate::web::auth::Tenant;
use crate::web::extract::{JsonBody, PathId};
use crate::web::problem::Problem;

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(send_test))
}

/// A test event.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only the OpenAPI document is made of it")]
struct TestEvent {
    /// A type of the catalogue.
    #[schema(example = "application.created")]
    event_type: String,
    /// What to send; the type's example when absent. It is not held against the type's schema.
    #[schema(value_type = Option<Value>)]
    payload: Option<Value>,
}

/// Send a test event
///
/// Makes one request now, to a disabled endpoint too, and waits for it. It is signed like any
/// other. Nothing is retried, stored or counted.
#[utoipa::path(
    post, path = "/v1/accounts/{account}/endpoints/{endpoint}/test", tag = "Endpoints",
    request_body = TestEvent,
    responses((status = OK, description = "What went over the wire", body = TestBody))
)]
async fn send_test(
    tenant: Tenant,
    PathId(id): PathId<EndpointId>,
    State(app): State<App>,
    JsonBody(body): JsonBody,
) -> Result<Json<TestBody>, Problem> {
    let Tested { payload, report } = send(&app, tenant.0, id, &body).await?;
    Ok(Json(TestBody {
        request: RequestBody::new(report.request, Some(payload.bytes())),
        response: report.response.map(Into::into),
        error: report.error.map(Into::into),
        duration_ms: report.duration_ms,
        phases: report.phases.into(),
    }))
}

/// A test event that was sent.
pub(crate) struct Tested {
    pub payload: Payload,
    pub report: TestReport,
}

/// Sends the test event that `body` tells of.
pub(crate) async fn send(
    app: &App,
    account: AccountId,
    id: EndpointId,
    body: &Bytes,
) -> Result<Tested, Problem> {
    let endpoint = app.door().endpoint(account, id).await?.endpoint;
    let (event_type, payload) = read(app, body).await?;
    let now = app.now();
    let id = app.mint().id(now);
    let event = Event { id, account, event_type, created_at: now, payload: payload.clone() };
    let report = app.router().send_test(endpoint, event).await;
    Ok(Tested { payload, report })
}

/// The type and the payload to send.
async fn read(app: &App, body: &Bytes) -> Result<(EventTypeName, Payload), Problem> {
    let mut fields = Fields::of(body)?;
    let name = fields.required("event_type", |field| field.parse(EventTypeName::parse));
    let mut given = fields.change("payload", |field| payload(field, body));
    if let Some(name) = &name {
        match app.records().event_type(name).await? {
            Some(entry) => {
                given.get_or_insert_with(|| Payload::from_stored(entry.example.into()));
            }
            None => fields.reject("event_type", UNKNOWN_TYPE),
        }
    }
    fields.finish(name.zip(given))
}
