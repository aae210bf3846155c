//! The catalogue of event types. The operator maintains it; any key may read it.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use postrider_domain::event::{EventType, EventTypeName};
use postrider_domain::limits::{MAX_CATALOGUE_JSON_BYTES, MAX_DESCRIPTION_CHARS};
use postrider_service::check_schema;
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

/// An event type to put into the catalogue.
#[derive(ToSchema)]
struct NewEventType {
    /// What the event means, for people: at most 2,000 characters.
    #[schema(example = "An application was created.")]
    description: String,
    /// A payload of this type, at most 32 KiB. Test events send it. It must satisfy the schema.
    #[schema(value_type = Value, example = json!({"application_id": "a1"}))]
    example: String,
    /// A JSON Schema 2020-12, at most 32 KiB, that payloads of this type must satisfy. It cannot
    /// refer to other documents, and its patterns cannot look around or refer back.
    #[schema(value_type = Option<Value>)]
    schema: Option<String>,
}

impl NewEventType {
    /// The entry, whose example and schema keep their bytes, or everything that is wrong with it.
    fn read(name: &str, mut fields: Fields<'_>, app: &App) -> Result<EventType, Problem> {
        let name = EventTypeName::parse(name).map_err(|error| fields.reject("name", error)).ok();
        let description = fields.required("description", description);
        let example = fields.required("example", catalogue_json);
        let schema = fields.optional("schema", catalogue_json);
        if fields.are_invalid() {
            fields.findings().extend(check_schema(schema.as_deref(), example.as_deref()));
        }
        let read = || {
            let new = Self { description: description?, example: example?, schema };
            Some((name?, new))
        };
        let (name, Self { description, example, schema }) = fields.finish(read())?;
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

/// JSON that fits into an entry, as its text.
fn catalogue_json(field: Field<'_, '_>) -> Option<String> {
    let text = field.json();
    if text.len() > MAX_CATALOGUE_JSON_BYTES {
        return field.fail(format!("must have at most {MAX_CATALOGUE_JSON_BYTES} bytes"));
    }
    field.value().map(|_| text.to_owned())
}

/// List event types
///
/// By name. Any key may read the catalogue.
#[utoipa::path(
    get, path = "/v1/event-types", tag = "Event types",
    params(ListParams),
    responses((status = OK, description = "A page of the catalogue", body = List<EventTypeBody>))
)]
async fn list(
    State(app): State<App>,
    mut params: Params,
) -> Result<Json<List<EventTypeBody>>, Problem> {
    let page = params.page_after(EventTypeName::parse);
    params.finish()?;
    Ok(Json(List::of(app.records().event_types(page).await?)))
}

/// Get an event type
///
/// Any key may read the catalogue.
#[utoipa::path(
    get, path = "/v1/event-types/{name}", tag = "Event types",
    responses((status = OK, description = "The entry", body = EventTypeBody))
)]
async fn get(
    PathText(name): PathText,
    State(app): State<App>,
) -> Result<Json<EventTypeBody>, Problem> {
    Ok(Json(app.service().event_type(&existing(&name)?).await?.into()))
}

/// Put an event type
///
/// Adds the type to the catalogue, or replaces it. Events that were accepted before stay as they are.
#[utoipa::path(
    put, path = "/v1/event-types/{name}", tag = "Event types", security(("operator_key" = [])),
    request_body = NewEventType,
    responses((status = OK, description = "The entry", body = EventTypeBody))
)]
async fn put(
    _: Operator,
    PathText(name): PathText,
    State(app): State<App>,
    JsonBody(body): JsonBody,
) -> Result<Json<EventTypeBody>, Problem> {
    let entry = NewEventType::read(&name, Fields::of(&body)?, &app)?;
    Ok(Json(app.service().put_event_type(entry).await?.into()))
}

/// Delete an event type
///
/// New events of this type are rejected. Endpoints that name it keep the name.
#[utoipa::path(
    delete, path = "/v1/event-types/{name}", tag = "Event types", security(("operator_key" = [])),
    responses((status = NO_CONTENT, description = "Deleted"))
)]
async fn delete(
    _: Operator,
    PathText(name): PathText,
    State(app): State<App>,
) -> Result<StatusCode, Problem> {
    app.service().delete_event_type(&existing(&name)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A name that cannot be one names nothing that exists.
fn existing(name: &str) -> Result<EventTypeName, Problem> {
    EventTypeName::parse(name).map_err(|_| Problem::not_found("event type"))
}
