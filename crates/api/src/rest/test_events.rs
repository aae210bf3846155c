//! Test events: a single request to an endpoint, returned exactly as it was sent and not recorded.

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use postrider_domain::attempt::TestReport;
use postrider_domain::event::{EventTypeName, Payload};
use postrider_domain::findings::UNKNOWN_TYPE;
use postrider_domain::ids::EndpointId;
use postrider_service::SentTestEvent;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::App;
use crate::rest::wire::exchange::{RequestBody, TestBody};
use crate::web::auth::Tenant;
use crate::web::extract::PathId;
use crate::web::fields::Fields;
use crate::web::idempotency::JsonPost;
use crate::web::problem::Problem;

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(send_test))
}

/// The test event to send.
#[derive(ToSchema)]
pub(crate) struct TestEvent {
    /// The event type. It must be in the catalogue.
    #[schema(value_type = String, example = "application.created")]
    event_type: EventTypeName,
    /// The payload, as in an event. It is not validated against the type's schema. Defaults to the
    /// type's example.
    #[schema(value_type = Option<Value>)]
    payload: Option<Payload>,
}

impl TestEvent {
    /// Parses the command, or returns all field errors.
    pub(crate) async fn parse(
        mut fields: Fields<'_>,
        app: &App,
    ) -> Result<postrider_service::TestEvent, Problem> {
        let event_type = fields.required("event_type", |field| field.parse(EventTypeName::parse));
        let payload = fields.non_null("payload", |field| field.payload());
        if let Some(name) = event_type.as_ref().filter(|_| fields.has_errors())
            && app.records().event_type(name).await?.is_none()
        {
            fields.add_error("event_type", UNKNOWN_TYPE);
        }
        let parsed = event_type.map(|event_type| Self { event_type, payload });
        fields.finish(parsed).map(Into::into)
    }
}

impl From<TestEvent> for postrider_service::TestEvent {
    fn from(TestEvent { event_type, payload }: TestEvent) -> Self {
        Self { event_type, payload }
    }
}

/// Send a test event
///
/// Sends a signed request to the endpoint, even if it is disabled, and returns the response. Test
/// events are not retried, stored or included in statistics.
#[utoipa::path(
    post, path = "/v1/accounts/{account}/endpoints/{endpoint}/test", tag = "Endpoints",
    request_body = TestEvent,
    responses((status = OK, description = "The result of the request, which may be a failure", body = TestBody))
)]
async fn send_test(
    tenant: Tenant,
    PathId(id): PathId<EndpointId>,
    State(app): State<App>,
    JsonPost { body, request }: JsonPost,
) -> Result<Response, Problem> {
    // A missing endpoint takes precedence over an invalid body.
    app.service().endpoint(tenant.0, id).await?;
    let test = TestEvent::parse(Fields::from_json(&body)?, &app).await?;
    let send = |once| app.service().send_test_event(tenant.0, id, test, once);
    let render = |SentTestEvent { payload, report }: &SentTestEvent| {
        let TestReport { exchange, phases } = report.clone();
        let body = TestBody {
            duration_ms: exchange.duration_ms(),
            error: exchange.outcome.error().map(Into::into),
            request: RequestBody::new(exchange.request, Some(payload.bytes())),
            response: exchange.response.map(Into::into),
            phases: phases.into(),
        };
        (StatusCode::OK, body)
    };
    request.run(send, render).await
}
