//! Replays: durable jobs that deliver past events again.

use std::collections::BTreeSet;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::StatusCode;
use postrider_domain::delivery::DeliveryState;
use postrider_domain::event::EventTypeName;
use postrider_domain::ids::{AccountId, EndpointId, ReplayId};
use postrider_domain::limits::MAX_EVENT_TYPES_PER_ENDPOINT;
use postrider_domain::replay::{Command, Filter, Replay};
use postrider_domain::time::Timestamp;
use postrider_store::{ReplayCount, ReplayRequest};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::App;
use crate::rest::fields::{Field, Fields};
use crate::rest::wire::List;
use crate::rest::wire::delivery::STATES;
use crate::rest::wire::replay::{DryRunBody, REPLAYABLE, ReplayBody, replayable_states};
use crate::web::auth::Tenant;
use crate::web::extract::{JsonBody, PathId};
use crate::web::page::{ListParams, Params};
use crate::web::problem::Problem;

/// New deliveries a second when the caller does not say.
pub(crate) const DEFAULT_RATE: u32 = 100;
/// Most new deliveries a second that a caller may ask for.
pub(crate) const MAX_RATE: u32 = 10_000;

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
#[expect(dead_code, reason = "only the OpenAPI document is made of it")]
struct NewReplay {
    /// Deliveries to this endpoint.
    endpoint: Option<String>,
    /// Deliveries of these types, 1 to 100.
    event_types: Option<Vec<String>>,
    /// Deliveries that stand so; all three when absent. A pending or held delivery cannot be
    /// replayed: it is still to be made.
    #[schema(schema_with = replayable_states)]
    states: Option<Vec<DeliveryState>>,
    /// Deliveries made at this time or later (RFC 3339).
    #[schema(format = DateTime)]
    since: Option<String>,
    /// Deliveries made before this time (RFC 3339).
    #[schema(format = DateTime)]
    until: Option<String>,
    /// Most new deliveries a second: 1 to 10,000; 100 when absent.
    #[schema(minimum = 1, maximum = 10000)]
    rate: Option<u32>,
    /// Only count.
    dry_run: Option<bool>,
}

/// What was asked for.
struct Request {
    filter: Filter,
    rate: u32,
    dry_run: bool,
}

async fn read(app: &App, account: AccountId, mut fields: Fields<'_>) -> Result<Request, Problem> {
    let filter = Filter {
        endpoint: fields.optional("endpoint", |field| field.parse(str::parse::<EndpointId>)),
        event_types: fields.optional("event_types", event_types),
        states: fields.optional("states", states).or_else(|| Some(REPLAYABLE.to_vec())),
        since: fields.optional("since", |field| field.parse(str::parse::<Timestamp>)),
        until: fields.optional("until", |field| field.parse(str::parse::<Timestamp>)),
    };
    let rate = fields.optional("rate", |field| field.integer(1..=MAX_RATE));
    let dry_run = fields.optional("dry_run", |field| field.boolean());
    if let (Some(since), Some(until)) = (filter.since, filter.until)
        && since >= until
    {
        fields.reject("until", "must be later than since");
    }
    if let Some(endpoint) = filter.endpoint
        && app.records().endpoint(account, endpoint).await?.is_none()
    {
        fields.reject("endpoint", "is not an endpoint of this account");
    }
    let (rate, dry_run) = (rate.unwrap_or(DEFAULT_RATE), dry_run.unwrap_or(false));
    fields.finish(Some(Request { filter, rate, dry_run }))
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
            let state = crate::rest::fields::choose(text, &STATES)?;
            let ended = REPLAYABLE.contains(&state);
            ended.then_some(state).ok_or_else(|| {
                format!("cannot be replayed: a delivery that is {text} is still to be made")
            })
        })
    })?;
    let mut states: Vec<_> = states.into_iter().map(|(_, state)| state).collect();
    states.dedup();
    Some(states)
}

/// Make a replay
///
/// A durable job: each past delivery that it takes is made anew, to the same endpoint, with its
/// own retries. With `dry_run` it only counts, and the answer is 200.
#[utoipa::path(
    post, path = "/v1/accounts/{account}/replays", tag = "Replays",
    request_body = NewReplay,
    responses(
        (status = ACCEPTED, description = "The replay, which runs", body = ReplayBody),
        (status = OK, description = "What it would take", body = DryRunBody),
    )
)]
async fn create(
    tenant: Tenant,
    State(app): State<App>,
    JsonBody(body): JsonBody,
) -> Result<Response, Problem> {
    Ok(match make(&app, tenant.0, &body).await? {
        Made::Counted(count) => {
            let body = DryRunBody { total: count.total, exact: count.exact, dry_run: true };
            Json(body).into_response()
        }
        Made::Started(replay) => {
            (StatusCode::ACCEPTED, Json(ReplayBody::from(replay))).into_response()
        }
    })
}

/// What a request for a replay came to.
pub(crate) enum Made {
    /// What it would take.
    Counted(ReplayCount),
    /// It runs.
    Started(Replay),
}

/// Makes the replay that a body describes, or only counts, as it says.
pub(crate) async fn make(app: &App, account: AccountId, body: &Bytes) -> Result<Made, Problem> {
    let request = read(app, account, Fields::of(body)?).await?;
    let now = app.now();
    let count = app.records().count_replay(account, &request.filter).await?;
    if request.dry_run {
        return Ok(Made::Counted(count));
    }
    let request = ReplayRequest { filter: request.filter, rate: request.rate, total: count.total };
    let made = app.records().create_replay(account, request, app.mint(), now).await?;
    let (replay, wake) = made.ok_or_else(|| Problem::not_found("account"))?;
    app.router().wake(vec![wake]);
    Ok(Made::Started(replay))
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
    let replay = app.records().replay(tenant.0, id).await?;
    replay.map(|replay| Json(replay.into())).ok_or_else(|| Problem::not_found("replay"))
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
    changed(&app, tenant.0, id, Command::Pause).await
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
    changed(&app, tenant.0, id, Command::Resume).await
}

/// Cancel a replay
///
/// Deliveries that it has made already are not taken back.
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
    changed(&app, tenant.0, id, Command::Cancel).await
}

async fn changed(
    app: &App,
    account: AccountId,
    id: ReplayId,
    command: Command,
) -> Result<Json<ReplayBody>, Problem> {
    Ok(Json(self::command(app, account, id, command).await?.into()))
}

/// Does to a replay what somebody asked, and gives it as it is then.
pub(crate) async fn command(
    app: &App,
    account: AccountId,
    id: ReplayId,
    command: Command,
) -> Result<Replay, Problem> {
    let done = app.records().command_replay(account, id, command, app.now()).await?;
    match done.ok_or_else(|| Problem::not_found("replay"))? {
        Ok((replay, wakes)) => {
            app.router().wake(wakes);
            Ok(replay)
        }
        Err(state) => Err(Problem::conflict(
            "urn:postrider:problem:replay-ended",
            "The replay has ended",
            format!("It is {}.", crate::rest::fields::name_of(&state)),
        )),
    }
}
