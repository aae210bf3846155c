//! The catalogue of event types. The operator keeps it; any key may read it.

use axum::Json;
use axum::extract::State;
use bytes::Bytes;
use http::StatusCode;
use postrider_domain::event::{EventType, EventTypeName};
use postrider_domain::findings::UNKNOWN_TYPE;
use postrider_domain::limits::{MAX_CATALOGUE_JSON_BYTES, MAX_DESCRIPTION_CHARS};
use postrider_service::schemas;
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::App;
use crate::rest::fields::{Field, Fields, Findings};
use crate::rest::wire::List;
use crate::rest::wire::event::EventTypeBody;
use crate::web::auth::Operator;
use crate::web::extract::{JsonBody, PathText};
use crate::web::page::{ListParams, Params};
use crate::web::problem::Problem;

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(get, put, delete))
}

/// Notes each name that the catalogue does not have, at its pointer.
pub(crate) async fn check_known(
    app: &App,
    names: &[(String, EventTypeName)],
    findings: &mut Findings,
) -> Result<(), Problem> {
    for (pointer, name) in names {
        if app.records().event_type(name).await?.is_none() {
            findings.add(pointer, UNKNOWN_TYPE);
        }
    }
    Ok(())
}

/// An entry of the catalogue to put.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only the OpenAPI document is made of it")]
struct NewEventType {
    /// What it means, for people: at most 2,000 characters.
    #[schema(example = "An application was created.")]
    description: String,
    /// A payload of this type, at most 32 KiB; test events send it. It must satisfy the schema.
    #[schema(value_type = Value, example = json!({"application_id": "a1", "name": "Ada"}))]
    example: Value,
    /// A JSON Schema 2020-12, at most 32 KiB, that payloads of this type must satisfy. It cannot
    /// refer to other documents, and its patterns cannot look around or refer back.
    #[schema(value_type = Option<Value>)]
    schema: Option<Value>,
}

/// Reads an entry. The example and the schema keep their bytes.
fn read(name: &str, body: &Bytes, app: &App) -> Result<EventType, Problem> {
    let now = app.now();
    let mut fields = Fields::of(body)?;
    let name = EventTypeName::parse(name).map_err(|error| fields.reject("name", error)).ok();
    let description = fields.required("description", description);
    let example = fields.required("example", catalogue_json);
    let schema = fields.optional("schema", catalogue_json);
    if let Some((_, schema)) = &schema {
        let example = example.as_ref().map(|(_, example)| example);
        check_schema(schema, example, fields.findings());
    }
    let read = || {
        Some(EventType {
            name: name?,
            description: description?,
            example: example?.0,
            schema: schema.map(|(text, _)| text),
            created_at: now,
            updated_at: now,
        })
    };
    fields.finish(read())
}

fn description(field: Field<'_, '_>) -> Option<String> {
    field.parse(|text| {
        let fits = text.chars().count() <= MAX_DESCRIPTION_CHARS;
        let error = format!("must have at most {MAX_DESCRIPTION_CHARS} characters");
        fits.then(|| text.to_owned()).ok_or(error)
    })
}

/// JSON that fits into an entry, as its text and as its value.
fn catalogue_json(field: Field<'_, '_>) -> Option<(String, Value)> {
    let text = field.raw().get();
    if text.len() > MAX_CATALOGUE_JSON_BYTES {
        return field.fail(format!("must have at most {MAX_CATALOGUE_JSON_BYTES} bytes"));
    }
    Some((text.to_owned(), field.value()?))
}

fn check_schema(schema: &Value, example: Option<&Value>, findings: &mut Findings) {
    match schemas::compile(schema) {
        Err(errors) => {
            for (pointer, detail) in errors {
                findings.add(format!("/schema{pointer}"), detail);
            }
        }
        Ok(validator) => {
            for (pointer, detail) in
                example.into_iter().flat_map(|it| schemas::violations(&validator, it))
            {
                findings.add(format!("/example{pointer}"), detail);
            }
        }
    }
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
    let entry = app.records().event_type(&existing(&name)?).await?;
    entry.map(|entry| Json(entry.into())).ok_or_else(|| Problem::not_found("event type"))
}

/// Put an event type
///
/// Adds it to the catalogue or replaces it. Payloads that were accepted earlier stay as they are.
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
    let entry = read(&name, &body, &app)?;
    Ok(Json(app.records().put_event_type(entry).await?.into()))
}

/// Remove an event type
///
/// New events of it are refused. Endpoints that name it keep the name.
#[utoipa::path(
    delete, path = "/v1/event-types/{name}", tag = "Event types", security(("operator_key" = [])),
    responses((status = NO_CONTENT, description = "It is gone"))
)]
async fn delete(
    _: Operator,
    PathText(name): PathText,
    State(app): State<App>,
) -> Result<StatusCode, Problem> {
    match app.records().delete_event_type(&existing(&name)?).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(Problem::not_found("event type")),
    }
}

/// A name that cannot be one names nothing that exists.
fn existing(name: &str) -> Result<EventTypeName, Problem> {
    EventTypeName::parse(name).map_err(|_| Problem::not_found("event type"))
}
