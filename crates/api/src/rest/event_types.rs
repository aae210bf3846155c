//! Operations on the catalogue of event types. The operator maintains it; any API key may read it.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use postrider_domain::event::{EventType, EventTypeName};
use postrider_domain::limits::{MAX_CATALOGUE_JSON_BYTES, MAX_DESCRIPTION_CHARS};
use postrider_service::validate_event_type;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::App;
use crate::rest::wire::List;
use crate::rest::wire::event::EventTypeBody;
use crate::web::auth::Operator;
use crate::web::extract::{JsonBody, PathText};
use crate::web::fields::{Field, Fields};
use crate::web::page::{ListParams, Params};
use crate::web::problem::Problem;

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(get, put, delete))
}

/// The event type to create or replace.
#[derive(ToSchema)]
struct NewEventType {
    /// A human-readable description of the event type. At most 2,000 characters.
    #[schema(example = "An application was created.")]
    description: String,
    /// An example payload, which is also the default payload of test events. At most 32 KiB. It
    /// must be a valid payload of an event of this type, and conform to the schema.
    #[schema(value_type = Value, example = json!({"application_id": "a1"}))]
    example: String,
    /// A JSON Schema (2020-12) to validate payloads of this type. At most 32 KiB. External
    /// references are not supported, and patterns do not support lookaround or backreferences.
    #[schema(value_type = Option<Value>)]
    schema: Option<String>,
}

impl NewEventType {
    /// Parses the event type, or returns all errors. The example and the schema keep their bytes.
    fn parse(name: &str, mut fields: Fields<'_>, app: &App) -> Result<EventType, Problem> {
        let name = EventTypeName::parse(name).map_err(|error| fields.add_error("name", error)).ok();
        let description = fields.required("description", description);
        let example = fields.required("example", catalogue_json);
        let schema = fields.optional("schema", catalogue_json);
        if fields.has_errors() {
            let invalid = validate_event_type(schema.as_deref(), example.as_deref());
            fields.errors_mut().extend(invalid);
        }
        let parsed = || {
            let new = Self { description: description?, example: example?, schema };
            Some((name?, new))
        };
        let (name, Self { description, example, schema }) = fields.finish(parsed())?;
        let now = app.now();
        Ok(EventType { name, description, example, schema, created_at: now, updated_at: now })
    }
}

fn description(field: Field<'_, '_>) -> Option<String> {
    field.parse(|text| {
        let fits = text.chars().count() <= MAX_DESCRIPTION_CHARS;
        let error = format!("must have at most {MAX_DESCRIPTION_CHARS} characters");
        fits.then(|| text.to_owned()).ok_or(error)
    })
}

/// The text of a JSON value within the size limit.
fn catalogue_json(field: Field<'_, '_>) -> Option<String> {
    let text = field.json();
    if text.len() > MAX_CATALOGUE_JSON_BYTES {
        return field.fail(format!("must have at most {MAX_CATALOGUE_JSON_BYTES} bytes"));
    }
    field.value().map(|_| text.to_owned())
}

/// List event types
///
/// Returns the event types of the catalogue, sorted by name. Available to any API key.
#[utoipa::path(
    get, path = "/v1/event-types", tag = "Event types",
    params(ListParams),
    responses((status = OK, description = "A page of event types", body = List<EventTypeBody>))
)]
async fn list(
    State(app): State<App>,
    mut params: Params,
) -> Result<Json<List<EventTypeBody>>, Problem> {
    let page = params.page_after(EventTypeName::parse);
    params.finish()?;
    Ok(Json(List::from_page(app.records().event_types(page).await?)))
}

/// Get an event type
///
/// Available to any API key.
#[utoipa::path(
    get, path = "/v1/event-types/{name}", tag = "Event types",
    responses((status = OK, description = "The event type", body = EventTypeBody))
)]
async fn get(
    PathText(name): PathText,
    State(app): State<App>,
) -> Result<Json<EventTypeBody>, Problem> {
    Ok(Json(app.service().event_type(&existing_name(&name)?).await?.into()))
}

/// Create or replace an event type
///
/// Existing events of this type are not affected.
#[utoipa::path(
    put, path = "/v1/event-types/{name}", tag = "Event types", security(("operator_key" = [])),
    request_body = NewEventType,
    responses((status = OK, description = "The created or replaced event type", body = EventTypeBody))
)]
async fn put(
    _: Operator,
    PathText(name): PathText,
    State(app): State<App>,
    JsonBody(body): JsonBody,
) -> Result<Json<EventTypeBody>, Problem> {
    let entry = NewEventType::parse(&name, Fields::from_json(&body)?, &app)?;
    Ok(Json(app.service().put_event_type(entry).await?.into()))
}

/// Delete an event type
///
/// New events of this type are rejected. Subscriptions of endpoints to this type are kept.
#[utoipa::path(
    delete, path = "/v1/event-types/{name}", tag = "Event types", security(("operator_key" = [])),
    responses((status = NO_CONTENT, description = "The event type was deleted"))
)]
async fn delete(
    _: Operator,
    PathText(name): PathText,
    State(app): State<App>,
) -> Result<StatusCode, Problem> {
    app.service().delete_event_type(&existing_name(&name)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Parses the name of a stored event type. A malformed name does not exist: 404.
fn existing_name(name: &str) -> Result<EventTypeName, Problem> {
    EventTypeName::parse(name).map_err(|_| Problem::not_found("event type"))
}
