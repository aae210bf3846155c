//! Replays: durable jobs that deliver past events again.

use std::collections::BTreeSet;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use postrider_domain::delivery::DeliveryState;
use postrider_domain::event::EventTypeName;
use postrider_domain::ids::{AccountId, EndpointId, ReplayId};
use postrider_domain::limits::MAX_EVENT_TYPES_PER_ENDPOINT;
use postrider_domain::replay::{Command, DEFAULT_RATE, Filter, MAX_RATE, REPLAYABLE};
use postrider_domain::time::Timestamp;
use postrider_service::replays;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::App;
use crate::rest::wire::List;
use crate::rest::wire::delivery::STATES;
use crate::rest::wire::replay::{DryRunBody, ReplayBody, replayable_states};
use crate::web::auth::Tenant;
use crate::web::choice::choose;
use crate::web::extract::{JsonBody, PathId};
use crate::web::fields::{Field, Fields};
use crate::web::page::{ListParams, Params};
use crate::web::problem::Problem;

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(get))
        .routes(routes!(pause))
        .routes(routes!(resume))
        .routes(routes!(cancel))
}

/// A replay to create. Omitted filters match everything.
#[derive(ToSchema)]
pub(crate) struct NewReplay {
    /// Deliveries to this endpoint.
    #[schema(value_type = Option<String>)]
    endpoint: Option<EndpointId>,
    /// Deliveries of these types, 1 to 100.
    #[schema(value_type = Option<Vec<String>>)]
    event_types: Option<BTreeSet<EventTypeName>>,
    /// Deliveries in these states; all three if omitted. A pending or held delivery cannot be
    /// replayed: it has not ended.
    #[schema(schema_with = replayable_states)]
    states: Option<Vec<DeliveryState>>,
    /// Deliveries created at or after this time (RFC 3339).
    #[schema(value_type = Option<String>, format = DateTime)]
    since: Option<Timestamp>,
    /// Deliveries created before this time (RFC 3339).
    #[schema(value_type = Option<String>, format = DateTime)]
    until: Option<Timestamp>,
    /// New deliveries a second, at most: 1 to 10,000; 100 if omitted.
    #[schema(minimum = 1, maximum = 10000)]
    rate: Option<u32>,
    /// Only count the deliveries.
    dry_run: Option<bool>,
}

impl NewReplay {
    /// The command, and whether it is a dry run; or everything that is wrong with the fields.
    pub(crate) async fn read(
        mut fields: Fields<'_>,
        app: &App,
        account: AccountId,
    ) -> Result<(replays::NewReplay, bool), Problem> {
        let read = Self {
            endpoint: fields.optional("endpoint", |field| field.parse(str::parse::<EndpointId>)),
            event_types: fields.optional("event_types", event_types),
            states: fields.optional("states", states),
            since: fields.optional("since", |field| field.parse(str::parse::<Timestamp>)),
            until: fields.optional("until", |field| field.parse(str::parse::<Timestamp>)),
            rate: fields.optional("rate", |field| field.integer(1..=MAX_RATE)),
            dry_run: fields.optional("dry_run", |field| field.boolean()),
        };
        let Self { endpoint, event_types, states, since, until, rate, dry_run } = read;
        let states = states.or_else(|| Some(REPLAYABLE.to_vec()));
        let filter = Filter { endpoint, event_types, states, since, until };
        if fields.are_invalid() {
            let invalid = app.service().check_replay(account, &filter).await?;
            fields.findings().extend(invalid);
        }
        let new = replays::NewReplay { filter, rate: rate.unwrap_or(DEFAULT_RATE) };
        fields.finish(Some((new, dry_run.unwrap_or(false))))
    }
}

/// The names need not be in the catalogue: a type's events outlive its entry.
fn event_types(field: Field<'_, '_>) -> Option<BTreeSet<EventTypeName>> {
    let names =
        field.list(1..=MAX_EVENT_TYPES_PER_ENDPOINT, |item| item.parse(EventTypeName::parse))?;
    Some(names.into_iter().map(|(_, name)| name).collect())
}

fn states(field: Field<'_, '_>) -> Option<Vec<DeliveryState>> {
    let states = field.list(1..=STATES.len(), |item| {
        item.parse(|text| {
            let state = choose(text, &STATES)?;
            let ended = REPLAYABLE.contains(&state);
            ended
                .then_some(state)
                .ok_or_else(|| format!("cannot be replayed: a {text} delivery has not ended"))
        })
    })?;
    let mut states: Vec<_> = states.into_iter().map(|(_, state)| state).collect();
    states.dedup();
    Some(states)
}

/// Create a replay
///
/// A durable job that delivers past events again: for each matching delivery it makes a new one to the
/// same endpoint, with retries of its own. With `dry_run` it only counts them, and the response is 200.
#[utoipa::path(
    post, path = "/v1/accounts/{account}/replays", tag = "Replays",
    request_body = NewReplay,
    responses(
        (status = ACCEPTED, description = "The running replay", body = ReplayBody),
        (status = OK, description = "The number of matching deliveries", body = DryRunBody),
    )
)]
async fn create(
    tenant: Tenant,
    State(app): State<App>,
    JsonBody(body): JsonBody,
) -> Result<Response, Problem> {
    let (new, dry_run) = NewReplay::read(Fields::of(&body)?, &app, tenant.0).await?;
    if dry_run {
        let count = app.service().count_replay(tenant.0, &new.filter).await?;
        let body = DryRunBody { total: count.total, exact: count.exact, dry_run };
        return Ok(Json(body).into_response());
    }
    let replay = app.service().start_replay(tenant.0, new).await?;
    Ok((StatusCode::ACCEPTED, Json(ReplayBody::from(replay))).into_response())
}

/// List replays
///
/// Newest first.
#[utoipa::path(
    get, path = "/v1/accounts/{account}/replays", tag = "Replays",
    params(ListParams),
    responses((status = OK, description = "A page of replays", body = List<ReplayBody>))
)]
async fn list(
    tenant: Tenant,
    State(app): State<App>,
    mut params: Params,
) -> Result<Json<List<ReplayBody>>, Problem> {
    let page = params.page();
    params.finish()?;
    Ok(Json(List::of(app.records().replays(tenant.0, page).await?)))
}

/// Get a replay and its progress
#[utoipa::path(
    get, path = "/v1/accounts/{account}/replays/{replay}", tag = "Replays",
    responses((status = OK, description = "The replay", body = ReplayBody))
)]
async fn get(
    tenant: Tenant,
    PathId(id): PathId<ReplayId>,
    State(app): State<App>,
) -> Result<Json<ReplayBody>, Problem> {
    Ok(Json(app.service().replay(tenant.0, id).await?.into()))
}

/// Pause a replay
#[utoipa::path(
    post, path = "/v1/accounts/{account}/replays/{replay}/pause", tag = "Replays",
    responses(
        (status = OK, description = "The replay as it is now", body = ReplayBody),
        (status = CONFLICT, description = "It has ended", body = Problem,
            content_type = "application/problem+json"),
    )
)]
async fn pause(
    tenant: Tenant,
    PathId(id): PathId<ReplayId>,
    State(app): State<App>,
) -> Result<Json<ReplayBody>, Problem> {
    Ok(Json(app.service().command_replay(tenant.0, id, Command::Pause).await?.into()))
}

/// Resume a replay
#[utoipa::path(
    post, path = "/v1/accounts/{account}/replays/{replay}/resume", tag = "Replays",
    responses(
        (status = OK, description = "The replay as it is now", body = ReplayBody),
        (status = CONFLICT, description = "It has ended", body = Problem,
            content_type = "application/problem+json"),
    )
)]
async fn resume(
    tenant: Tenant,
    PathId(id): PathId<ReplayId>,
    State(app): State<App>,
) -> Result<Json<ReplayBody>, Problem> {
    Ok(Json(app.service().command_replay(tenant.0, id, Command::Resume).await?.into()))
}

/// Cancel a replay
///
/// Deliveries that it has made already stay.
#[utoipa::path(
    post, path = "/v1/accounts/{account}/replays/{replay}/cancel", tag = "Replays",
    responses(
        (status = OK, description = "The replay as it is now", body = ReplayBody),
        (status = CONFLICT, description = "It has ended", body = Problem,
            content_type = "application/problem+json"),
    )
)]
async fn cancel(
    tenant: Tenant,
    PathId(id): PathId<ReplayId>,
    State(app): State<App>,
) -> Result<Json<ReplayBody>, Problem> {
    Ok(Json(app.service().command_replay(tenant.0, id, Command::Cancel).await?.into()))
}
