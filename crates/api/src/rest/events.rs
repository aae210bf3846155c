//! Events: how they come in, and how they are read again.
//!
//! Publishing is the path that everything else waits for. The payload is found in the body and
//! kept as it is, without being taken apart; only a type with a schema has it read. When the
//! quick reading fails, a slow one finds out all that is wrong.

use std::borrow::Cow;

use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::middleware::from_fn;
use bytes::Bytes;
use http::StatusCode;
use http::request::Parts;
use postrider_domain::event::{EventTypeName, Payload};
use postrider_domain::findings::{self, Finding};
use postrider_domain::ids::{AccountId, EventId};
use postrider_domain::limits::MAX_BATCH_EVENTS;
use postrider_service::metrics::Way;
use postrider_service::{IdempotencyKey, Refusal, Sketch};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::App;
use crate::rest::fields::{Field, Fields, Findings};
use crate::rest::wire::List;
use crate::rest::wire::event::{EventBody, EventSummaryBody, ReceiptBody, ReceiptsBody};
use crate::web::auth::Tenant;
use crate::web::extract::{BatchBody, JsonBody, PathId};
use crate::web::page::{ListParams, Params};
use crate::web::problem::Problem;
use crate::web::spans;

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list, publish))
        .routes(routes!(publish_batch))
        .routes(routes!(get))
        .layer(from_fn(spans::accept))
}

/// An event to publish.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only the OpenAPI document is made of it")]
struct NewEvent {
    /// A type of the catalogue.
    #[schema(example = "application.created")]
    event_type: String,
    /// What to send, at most 256 KiB and nested at most 64 deep. Receivers get these very bytes.
    #[schema(value_type = Value, example = json!({"application_id": "a1", "name": "Ada"}))]
    payload: Value,
}

/// Events to publish, all or none.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only the OpenAPI document is made of it")]
struct NewEvents {
    /// 1 to 1,000 events.
    #[schema(min_items = 1, max_items = 1000)]
    events: Vec<NewEvent>,
}

/// What makes a request safe to repeat.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "only the OpenAPI document is made of it")]
struct IdempotencyParams {
    /// A name for this request, 1 to 256 visible ASCII characters. When the request is sent again
    /// with the same name within 24 h, it has the same answer and no further effect.
    #[param(rename = "Idempotency-Key")]
    idempotency_key: Option<String>,
}

/// An event as it stands in a body.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEvent<'a> {
    #[serde(borrow)]
    event_type: Cow<'a, str>,
    #[serde(borrow)]
    payload: &'a RawValue,
}

/// A batch as it stands in a body.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawBatch<'a> {
    #[serde(borrow)]
    events: Vec<RawEvent<'a>>,
}

/// A well-formed event, quickly.
fn quick(raw: &RawEvent<'_>, body: &Bytes) -> Option<Sketch> {
    let event_type = EventTypeName::parse(&raw.event_type).ok()?;
    let payload = Payload::of_json(body.slice_ref(raw.payload.get().as_bytes())).ok()?;
    Some(Sketch { event_type: Some(event_type), payload: Some(payload) })
}

/// Any event, with all that is wrong with it.
fn slow(fields: &mut Fields<'_>, body: &Bytes) -> Sketch {
    Sketch {
        event_type: fields.required("event_type", |field| field.parse(EventTypeName::parse)),
        payload: fields.required("payload", |field| payload(field, body)),
    }
}

/// A payload that stands in `body`, of which it keeps its bytes.
pub(crate) fn payload(field: Field<'_, '_>, body: &Bytes) -> Option<Payload> {
    match Payload::of_json(body.slice_ref(field.raw().get().as_bytes())) {
        Ok(payload) => Some(payload),
        Err(error) => field.fail(error),
    }
}

/// The two forms of a request to publish; they differ in where an event's fields stand.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Single,
    Batch,
}

impl Form {
    /// The events in their places, and what is wrong with them.
    fn read(self, body: &Bytes) -> Result<(Vec<Sketch>, Findings), Problem> {
        match self.read_quickly(body) {
            Some(sketches) => Ok((sketches, Findings::default())),
            None => self.read_slowly(body),
        }
    }

    fn read_quickly(self, body: &Bytes) -> Option<Vec<Sketch>> {
        match self {
            Self::Single => {
                let event = serde_json::from_slice(body).ok()?;
                Some(vec![quick(&event, body)?])
            }
            Self::Batch => {
                let RawBatch { events } = serde_json::from_slice(body).ok()?;
                let fits = (1..=MAX_BATCH_EVENTS).contains(&events.len());
                let sketches = events.iter().filter(|_| fits).map(|event| quick(event, body));
                sketches.collect::<Option<Vec<_>>>().filter(|_| fits)
            }
        }
    }

    fn read_slowly(self, body: &Bytes) -> Result<(Vec<Sketch>, Findings), Problem> {
        let mut fields = Fields::of(body)?;
        let sketches = match self {
            Self::Single => vec![slow(&mut fields, body)],
            Self::Batch => {
                let sketches = fields.required("events", |field| {
                    field.list(1..=MAX_BATCH_EVENTS, |item| {
                        let sketch = item.object(|fields| Some(slow(fields, body)));
                        // What is no object keeps its place, so that the others have theirs.
                        Some(sketch.unwrap_or_default())
                    })
                });
                sketches.unwrap_or_default().into_iter().map(|(_, sketch)| sketch).collect()
            }
        };
        Ok((sketches, fields.into_findings()))
    }

    /// Adds what the door found, each at its pointer into the body.
    fn note(self, found: findings::Findings, findings: &mut Findings) {
        for Finding { index, field, pointer, detail } in found.into_vec() {
            let field = field.as_str();
            let pointer = match self {
                Self::Single => format!("/{field}{pointer}"),
                Self::Batch => format!("/events/{index}/{field}{pointer}"),
            };
            findings.add(pointer, detail);
        }
    }

    /// What tells this request from any other that has the same idempotency key.
    fn sha256(self, body: &[u8]) -> [u8; 32] {
        let form: &[u8] = match self {
            Self::Single => b"single\0",
            Self::Batch => b"batch\0",
        };
        Sha256::new().chain_update(form).chain_update(body).finalize().into()
    }
}

/// The header `Idempotency-Key`.
struct KeyHeader(Option<IdempotencyKey>);

impl<S: Sync> FromRequestParts<S> for KeyHeader {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let mut values = parts.headers.get_all("idempotency-key").iter();
        let Some(value) = values.next() else {
            return Ok(Self(None));
        };
        match IdempotencyKey::parse(value.as_bytes()) {
            Ok(key) if values.next().is_none() => Ok(Self(Some(key))),
            _ => Err(Problem::new(
                StatusCode::BAD_REQUEST,
                "The header Idempotency-Key must be given once and have 1 to 256 visible ASCII \
                 characters.",
            )),
        }
    }
}

/// Publish an event
///
/// Answers once the event is durable, with the number of endpoints that receive it.
#[utoipa::path(
    post, path = "/v1/accounts/{account}/events", tag = "Events",
    params(IdempotencyParams),
    request_body = NewEvent,
    responses(
        (status = ACCEPTED, description = "It is durable", body = ReceiptBody),
        (status = CONFLICT, description = "The idempotency key was used with another request",
            body = Problem, content_type = "application/problem+json"),
    )
)]
async fn publish(
    tenant: Tenant,
    State(app): State<App>,
    KeyHeader(key): KeyHeader,
    JsonBody(body): JsonBody,
) -> Result<(StatusCode, Json<ReceiptBody>), Problem> {
    let mut receipts = accept(&app, tenant.0, Form::Single, key, &body).await?;
    let receipt = receipts.pop().ok_or_else(Problem::internal)?;
    Ok((StatusCode::ACCEPTED, Json(receipt)))
}

/// Publish a batch of events
///
/// All or none: answers once all of them are durable.
#[utoipa::path(
    post, path = "/v1/accounts/{account}/events/batch", tag = "Events",
    params(IdempotencyParams),
    request_body = NewEvents,
    responses(
        (status = ACCEPTED, description = "They are durable", body = ReceiptsBody),
        (status = CONFLICT, description = "The idempotency key was used with another request",
            body = Problem, content_type = "application/problem+json"),
    )
)]
async fn publish_batch(
    tenant: Tenant,
    State(app): State<App>,
    KeyHeader(key): KeyHeader,
    JsonBody(body): BatchBody,
) -> Result<(StatusCode, Json<ReceiptsBody>), Problem> {
    let data = accept(&app, tenant.0, Form::Batch, key, &body).await?;
    Ok((StatusCode::ACCEPTED, Json(ReceiptsBody { data })))
}

async fn accept(
    app: &App,
    account: AccountId,
    form: Form,
    key: Option<IdempotencyKey>,
    body: &Bytes,
) -> Result<Vec<ReceiptBody>, Problem> {
    let (sketches, mut findings) = form.read(body)?;
    if !findings.is_empty() {
        form.note(app.door().check(&sketches).await?, &mut findings);
        return Err(findings.problem());
    }
    let drafts = sketches
        .into_iter()
        .map(|sketch| sketch.finish().expect("a field that cannot be read leaves an error"));
    let idempotency = key.map(|key| key.of_request(form.sha256(body)));
    match app.door().publish(Way::Http, account, drafts.collect(), idempotency).await {
        Ok(receipts) => Ok(receipts.into_iter().map(Into::into).collect()),
        Err(Refusal::Invalid(found)) => {
            form.note(found, &mut findings);
            Err(findings.problem())
        }
        Err(refusal) => Err(refusal.into()),
    }
}

/// Filters for events. Omitted filters match everything.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "only the OpenAPI document is made of it")]
struct FilterParams {
    /// Those of this type.
    event_type: Option<String>,
}

/// List events
///
/// Newest first, without their payloads. With a filter, a page may have fewer items than asked
/// for, even none, and still a next one.
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
    let event_type = params.take("event_type", EventTypeName::parse);
    let page = params.page();
    params.finish()?;
    Ok(Json(List::of(app.records().events(tenant.0, event_type.as_ref(), page).await?)))
}

/// Get an event with its payload
#[utoipa::path(
    get, path = "/v1/accounts/{account}/events/{event}", tag = "Events",
    responses((status = OK, description = "The event", body = EventBody))
)]
async fn get(
    tenant: Tenant,
    PathId(id): PathId<EventId>,
    State(app): State<App>,
) -> Result<Json<EventBody>, Problem> {
    let found = app.records().event(tenant.0, id).await?;
    let (event, deliveries) = found.ok_or_else(|| Problem::not_found("event"))?;
    Ok(Json(EventBody::new(&event, deliveries)))
}
