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
use postrider_service::metrics::Channel;
use postrider_service::{IdempotencyKey, PartialEvent, ServiceError};
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
use crate::web::fields::Fields;
use crate::web::findings::Findings;
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
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewEvent<'a> {
    /// A type of the catalogue.
    #[serde(borrow)]
    #[schema(value_type = String, example = "application.created")]
    event_type: Cow<'a, str>,
    /// The payload: at most 256 KiB, nested at most 64 deep. Receivers get exactly these bytes.
    #[serde(borrow)]
    #[schema(value_type = Value, example = json!({"application_id": "a1", "name": "Ada"}))]
    payload: &'a RawValue,
}

/// Events to publish, all or none.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewEvents<'a> {
    /// 1 to 1,000 events.
    #[serde(borrow)]
    #[schema(min_items = 1, max_items = 1000)]
    events: Vec<NewEvent<'a>>,
}

/// The header that makes a request safe to repeat.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
struct IdempotencyParams {
    /// A key for this request, 1 to 256 visible ASCII characters. A request that is repeated with the
    /// same key within 24 h gets the same response and has no further effect.
    #[param(rename = "Idempotency-Key", value_type = Option<String>)]
    key: Option<IdempotencyKey>,
}

/// A well-formed event, quickly.
fn quick(raw: &NewEvent<'_>, body: &Bytes) -> Option<PartialEvent> {
    let event_type = EventTypeName::parse(&raw.event_type).ok()?;
    let payload = Payload::of_json(body.slice_ref(raw.payload.get().as_bytes())).ok()?;
    Some(PartialEvent { event_type: Some(event_type), payload: Some(payload) })
}

/// Any event, with all that is wrong with it.
fn slow(fields: &mut Fields<'_>) -> PartialEvent {
    PartialEvent {
        event_type: fields.required("event_type", |field| field.parse(EventTypeName::parse)),
        payload: fields.required("payload", |field| field.payload()),
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
    fn read(self, body: &Bytes) -> Result<(Vec<PartialEvent>, Findings), Problem> {
        match self.read_quickly(body) {
            Some(events) => Ok((events, Findings::default())),
            None => self.read_slowly(body),
        }
    }

    fn read_quickly(self, body: &Bytes) -> Option<Vec<PartialEvent>> {
        match self {
            Self::Single => {
                let event = serde_json::from_slice(body).ok()?;
                Some(vec![quick(&event, body)?])
            }
            Self::Batch => {
                let NewEvents { events } = serde_json::from_slice(body).ok()?;
                let fits = (1..=MAX_BATCH_EVENTS).contains(&events.len());
                let events = events.iter().filter(|_| fits).map(|event| quick(event, body));
                events.collect::<Option<Vec<_>>>().filter(|_| fits)
            }
        }
    }

    fn read_slowly(self, body: &Bytes) -> Result<(Vec<PartialEvent>, Findings), Problem> {
        let mut fields = Fields::of(body)?;
        let events = match self {
            Self::Single => vec![slow(&mut fields)],
            Self::Batch => {
                let events = fields.required("events", |field| {
                    field.list(1..=MAX_BATCH_EVENTS, |item| {
                        let event = item.object(|fields| Some(slow(fields)));
                        // What is no object keeps its place, so that the others have theirs.
                        Some(event.unwrap_or_default())
                    })
                });
                events.unwrap_or_default().into_iter().map(|(_, event)| event).collect()
            }
        };
        Ok((events, fields.into_findings()))
    }

    /// Adds what the service found, each at its pointer into the body.
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

impl<S: Sync> FromRequestParts<S> for IdempotencyParams {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let mut values = parts.headers.get_all("idempotency-key").iter();
        let Some(value) = values.next() else {
            return Ok(Self { key: None });
        };
        match IdempotencyKey::parse(value.as_bytes()) {
            Ok(key) if values.next().is_none() => Ok(Self { key: Some(key) }),
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
/// Responds once the event is durable, with the number of endpoints that receive it.
#[utoipa::path(
    post, path = "/v1/accounts/{account}/events", tag = "Events",
    params(IdempotencyParams),
    request_body = NewEvent<'static>,
    responses(
        (status = ACCEPTED, description = "The event is durable", body = ReceiptBody),
        (status = CONFLICT, description = "The idempotency key was used with another request",
            body = Problem, content_type = "application/problem+json"),
    )
)]
async fn publish(
    tenant: Tenant,
    State(app): State<App>,
    IdempotencyParams { key }: IdempotencyParams,
    JsonBody(body): JsonBody,
) -> Result<(StatusCode, Json<ReceiptBody>), Problem> {
    let mut receipts = accept(&app, tenant.0, Form::Single, key, &body).await?;
    let receipt = receipts.pop().ok_or_else(Problem::internal)?;
    Ok((StatusCode::ACCEPTED, Json(receipt)))
}

/// Publish a batch of events
///
/// All or none: responds once all of them are durable.
#[utoipa::path(
    post, path = "/v1/accounts/{account}/events/batch", tag = "Events",
    params(IdempotencyParams),
    request_body = NewEvents<'static>,
    responses(
        (status = ACCEPTED, description = "The events are durable", body = ReceiptsBody),
        (status = CONFLICT, description = "The idempotency key was used with another request",
            body = Problem, content_type = "application/problem+json"),
    )
)]
async fn publish_batch(
    tenant: Tenant,
    State(app): State<App>,
    IdempotencyParams { key }: IdempotencyParams,
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
    let (events, mut findings) = form.read(body)?;
    if !findings.is_empty() {
        form.note(app.service().check(&events).await?, &mut findings);
        return Err(findings.into());
    }
    let events = events
        .into_iter()
        .map(|event| event.complete().expect("a field that cannot be read leaves an error"));
    let idempotency = key.map(|key| key.of_request(form.sha256(body)));
    match app.service().publish(Channel::Http, account, events.collect(), idempotency).await {
        Ok(receipts) => Ok(receipts.into_iter().map(Into::into).collect()),
        Err(ServiceError::InvalidEvents(found)) => {
            form.note(found, &mut findings);
            Err(findings.into())
        }
        Err(error) => Err(error.into()),
    }
}

/// Filters for events. Omitted filters match everything.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
struct FilterParams {
    /// Only events of this type.
    #[param(value_type = Option<String>)]
    event_type: Option<EventTypeName>,
}

impl FilterParams {
    fn read(params: &mut Params) -> Self {
        Self { event_type: params.take("event_type", EventTypeName::parse) }
    }
}

/// List events
///
/// Newest first, without their payloads. With a filter, a page may have fewer items than `limit`, even
/// none, and still have a `next_cursor`.
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
    let FilterParams { event_type } = FilterParams::read(&mut params);
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
    let (event, deliveries) = app.service().event(tenant.0, id).await?;
    Ok(Json(EventBody::new(&event, deliveries)))
}
