//! Operations on events.
//!
//! Publishing is the hot path. The payload is located in the body, checked, and kept as raw bytes;
//! its value is built only if its type has a schema. If the fast parser fails, a slower one collects
//! all errors.

use std::borrow::Cow;

use axum::Json;
use axum::extract::State;
use axum::middleware::from_fn;
use bytes::Bytes;
use http::StatusCode;
use postrider_domain::event::{EventTypeName, Payload};
use postrider_domain::findings::{Finding, Findings};
use postrider_domain::ids::{AccountId, EventId};
use postrider_domain::limits::MAX_BATCH_EVENTS;
use postrider_service::metrics::Channel;
use postrider_service::{IdempotencyKey, PartialEvent, PublishKind, ServiceError};
use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::App;
use crate::rest::wire::List;
use crate::rest::wire::event::{EventBody, EventSummaryBody, ReceiptBody, ReceiptsBody};
use crate::web::auth::Tenant;
use crate::web::extract::{BatchBody, JsonBody, PathId};
use crate::web::field_errors::FieldErrors;
use crate::web::fields::Fields;
use crate::web::idempotency::KeyHeader;
use crate::web::page::{ListParams, Params};
use crate::web::problem::Problem;
use crate::web::spans;

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list, publish))
        .routes(routes!(publish_batch))
        .routes(routes!(get))
        .layer(from_fn(spans::trace_publish))
}

/// The event to publish.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewEvent<'a> {
    /// The event type. It must be in the catalogue.
    #[serde(borrow)]
    #[schema(value_type = String, example = "application.created")]
    event_type: Cow<'a, str>,
    /// The payload. At most 256 KiB, and nested at most 64 levels deep. It is delivered byte for
    /// byte. What many JSON parsers reject is rejected, whether the event type has a schema or not:
    /// half of a surrogate pair in a string (`"\ud800"`), and a number beyond the range of a 64-bit
    /// float (`1e400`). A string that contains a JSON object or array is rejected as double-encoded,
    /// unless the schema of the event type names the type `string` for the payload.
    #[serde(borrow)]
    #[schema(value_type = Value, example = json!({"application_id": "a1", "name": "Ada"}))]
    payload: &'a RawValue,
}

/// The events to publish.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewEvents)]
struct EventBatch<'a> {
    /// The events, 1 to 1,000.
    #[serde(borrow)]
    #[schema(min_items = 1, max_items = 1000)]
    events: Vec<NewEvent<'a>>,
}

/// Parses a valid event without allocating errors.
fn parse_valid_event(raw: &NewEvent<'_>, body: &Bytes) -> Option<PartialEvent> {
    let event_type = EventTypeName::parse(&raw.event_type).ok()?;
    let payload = Payload::parse(body.slice_ref(raw.payload.get().as_bytes())).ok()?;
    Some(PartialEvent { event_type: Some(event_type), payload: Some(payload) })
}

/// Parses any event and collects its errors.
fn parse_event_with_errors(fields: &mut Fields<'_>) -> PartialEvent {
    PartialEvent {
        event_type: fields.required("event_type", |field| field.parse(EventTypeName::parse)),
        payload: fields.required("payload", |field| field.payload()),
    }
}

/// Parses the events and collects their errors. Invalid events keep their index.
fn parse_events(
    kind: PublishKind,
    body: &Bytes,
) -> Result<(Vec<PartialEvent>, FieldErrors), Problem> {
    match parse_valid_events(kind, body) {
        Some(events) => Ok((events, FieldErrors::default())),
        None => parse_events_with_errors(kind, body),
    }
}

fn parse_valid_events(kind: PublishKind, body: &Bytes) -> Option<Vec<PartialEvent>> {
    match kind {
        PublishKind::Single => {
            let event = serde_json::from_slice(body).ok()?;
            Some(vec![parse_valid_event(&event, body)?])
        }
        PublishKind::Batch => {
            let EventBatch { events } = serde_json::from_slice(body).ok()?;
            let is_in_range = (1..=MAX_BATCH_EVENTS).contains(&events.len());
            let events = events.iter().filter(|_| is_in_range);
            let events = events.map(|event| parse_valid_event(event, body));
            events.collect::<Option<Vec<_>>>().filter(|_| is_in_range)
        }
    }
}

fn parse_events_with_errors(
    kind: PublishKind,
    body: &Bytes,
) -> Result<(Vec<PartialEvent>, FieldErrors), Problem> {
    let mut fields = Fields::from_json(body)?;
    let events = match kind {
        PublishKind::Single => vec![parse_event_with_errors(&mut fields)],
        PublishKind::Batch => {
            let events = fields.required("events", |field| {
                field.list(1..=MAX_BATCH_EVENTS, |item| {
                    let event = item.object(|fields| Some(parse_event_with_errors(fields)));
                    // An item that is not an object keeps its index.
                    Some(event.unwrap_or_default())
                })
            });
            events.unwrap_or_default().into_iter().map(|(_, event)| event).collect()
        }
    };
    Ok((events, fields.into_errors()))
}

/// Adds the findings of the service, with pointers into the body.
fn add_findings(kind: PublishKind, findings: Findings, errors: &mut FieldErrors) {
    for Finding { index, field, pointer, detail } in findings.into_vec() {
        let field = field.as_str();
        let pointer = match kind {
            PublishKind::Single => format!("/{field}{pointer}"),
            PublishKind::Batch => format!("/events/{index}/{field}{pointer}"),
        };
        errors.add(pointer, detail);
    }
}

/// Identifies the content of the request, to detect reuse of its idempotency key.
fn sha256(kind: PublishKind, body: &[u8]) -> [u8; 32] {
    let prefix: &[u8] = match kind {
        PublishKind::Single => b"single\0",
        PublishKind::Batch => b"batch\0",
    };
    Sha256::new().chain_update(prefix).chain_update(body).finalize().into()
}

/// Publish an event
///
/// Returns once the event is stored durably, with the number of endpoints that it will be delivered
/// to.
#[utoipa::path(
    post, path = "/v1/accounts/{account}/events", tag = "Events",
    request_body = NewEvent<'static>,
    responses(
        (status = ACCEPTED, description = "The event was accepted", body = ReceiptBody),
    )
)]
async fn publish(
    tenant: Tenant,
    State(app): State<App>,
    KeyHeader(key): KeyHeader,
    JsonBody(body): JsonBody,
) -> Result<(StatusCode, Json<ReceiptBody>), Problem> {
    let mut receipts = accept(&app, tenant.0, PublishKind::Single, key, &body).await?;
    let receipt = receipts.pop().ok_or_else(Problem::internal)?;
    Ok((StatusCode::ACCEPTED, Json(receipt)))
}

/// Publish a batch of events
///
/// Accepts either all events or none. Returns once all of them are stored durably.
#[utoipa::path(
    post, path = "/v1/accounts/{account}/events/batch", tag = "Events",
    request_body = EventBatch<'static>,
    responses(
        (status = ACCEPTED, description = "The events were accepted", body = ReceiptsBody),
    )
)]
async fn publish_batch(
    tenant: Tenant,
    State(app): State<App>,
    KeyHeader(key): KeyHeader,
    JsonBody(body): BatchBody,
) -> Result<(StatusCode, Json<ReceiptsBody>), Problem> {
    let data = accept(&app, tenant.0, PublishKind::Batch, key, &body).await?;
    Ok((StatusCode::ACCEPTED, Json(ReceiptsBody { data })))
}

async fn accept(
    app: &App,
    account: AccountId,
    kind: PublishKind,
    key: Option<IdempotencyKey>,
    body: &Bytes,
) -> Result<Vec<ReceiptBody>, Problem> {
    let (events, mut errors) = parse_events(kind, body)?;
    if !errors.is_empty() {
        add_findings(kind, app.service().validate_events(&events).await?, &mut errors);
        return Err(errors.into());
    }
    let events = events
        .into_iter()
        .map(|event| event.complete().expect("a field that cannot be parsed has an error"));
    let idempotency = key.map(|key| key.for_request(sha256(kind, body)));
    match app.service().publish(Channel::Http, account, events.collect(), idempotency).await {
        Ok(receipts) => Ok(receipts.into_iter().map(Into::into).collect()),
        Err(ServiceError::InvalidEvents(findings)) => {
            add_findings(kind, findings, &mut errors);
            Err(errors.into())
        }
        Err(error) => Err(error.into()),
    }
}

/// Filters for events. Omitted filters match everything.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
struct FilterParams {
    /// Returns only events of this type.
    #[param(value_type = Option<String>)]
    event_type: Option<EventTypeName>,
}

impl FilterParams {
    fn parse(params: &mut Params) -> Self {
        Self { event_type: params.take("event_type", EventTypeName::parse) }
    }
}

/// List events
///
/// Returns the account's events without their payloads, newest first. With a filter, a page may
/// contain fewer items than `limit`, or none, and still have a `next_cursor`.
#[utoipa::path(
    get, path = "/v1/accounts/{account}/events", tag = "Events",
    params(FilterParams, ListParams),
    responses((status = OK, description = "A page of events", body = List<EventSummaryBody>))
)]
async fn list(
    tenant: Tenant,
    State(app): State<App>,
    mut params: Params,
) -> Result<Json<List<EventSummaryBody>>, Problem> {
    let FilterParams { event_type } = FilterParams::parse(&mut params);
    let page = params.page();
    params.finish()?;
    Ok(Json(List::from_page(app.records().events(tenant.0, event_type.as_ref(), page).await?)))
}

/// Get an event
///
/// Returns the event with its payload.
#[utoipa::path(
    get, path = "/v1/accounts/{account}/events/{event}", tag = "Events",
    responses((status = OK, description = "The event", body = EventBody))
)]
async fn get(
    tenant: Tenant,
    PathId(id): PathId<EventId>,
    State(app): State<App>,
) -> Result<Json<EventBody>, Problem> {
    let (event, deliveries) = app.service().event(tenant.0, id).await?;
    Ok(Json(EventBody::new(&event, deliveries)))
}
