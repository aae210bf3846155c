//! Operations on replays.

use std::collections::BTreeSet;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
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
use crate::web::choice::parse_choice;
use crate::web::extract::PathId;
use crate::web::fields::{Field, Fields};
use crate::web::idempotency::{EmptyPost, JsonPost, Repeatable};
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

/// The replay to create. Omitted filters match everything, except that `states` defaults to all
/// finished states.
#[derive(ToSchema)]
pub(crate) struct NewReplay {
    /// Replays only deliveries to this endpoint.
    #[schema(value_type = Option<String>)]
    endpoint: Option<EndpointId>,
    /// Replays only deliveries of these event types, 1 to 100 types.
    #[schema(value_type = Option<Vec<String>>)]
    event_types: Option<BTreeSet<EventTypeName>>,
    /// Replays only deliveries in these states. Defaults to all finished states. Pending and held
    /// deliveries cannot be replayed.
    #[schema(schema_with = replayable_states)]
    states: Option<Vec<DeliveryState>>,
    /// Replays only deliveries created at or after this time (RFC 3339).
    #[schema(value_type = Option<String>, format = DateTime)]
    since: Option<Timestamp>,
    /// Replays only deliveries created before this time (RFC 3339).
    #[schema(value_type = Option<String>, format = DateTime)]
    until: Option<Timestamp>,
    /// The maximum number of new deliveries per second. Defaults to 100.
    #[schema(minimum = 1, maximum = 10000)]
    rate: Option<u32>,
    /// Whether to only count the matching deliveries. Defaults to `false`.
    dry_run: Option<bool>,
}

impl NewReplay {
    /// Parses the request, or returns all field errors.
    pub(crate) async fn parse(
        mut fields: Fields<'_>,
        app: &App,
        account: AccountId,
    ) -> Result<Self, Problem> {
        let parsed = Self {
            endpoint: fields.optional("endpoint", |field| field.parse(str::parse::<EndpointId>)),
            event_types: fields.optional("event_types", event_types),
            states: fields.optional("states", states),
            since: fields.optional("since", |field| field.parse(str::parse::<Timestamp>)),
            until: fields.optional("until", |field| field.parse(str::parse::<Timestamp>)),
            rate: fields.optional("rate", |field| field.integer(1..=MAX_RATE)),
            dry_run: fields.optional("dry_run", |field| field.boolean()),
        };
        if fields.has_errors() {
            let invalid = app.service().validate_replay_filter(account, &parsed.filter()).await?;
            fields.errors_mut().extend(invalid);
        }
        fields.finish(Some(parsed))
    }

    fn filter(&self) -> Filter {
        Filter {
            endpoint: self.endpoint,
            event_types: self.event_types.clone(),
            states: Some(self.states.clone().unwrap_or_else(|| REPLAYABLE.to_vec())),
            since: self.since,
            until: self.until,
        }
    }
}

impl From<NewReplay> for replays::NewReplay {
    fn from(new: NewReplay) -> Self {
        Self { filter: new.filter(), rate: new.rate.unwrap_or(DEFAULT_RATE) }
    }
}

/// The types need not be in the catalogue: events outlive the entries of their types.
fn event_types(field: Field<'_, '_>) -> Option<BTreeSet<EventTypeName>> {
    let names =
        field.list(1..=MAX_EVENT_TYPES_PER_ENDPOINT, |item| item.parse(EventTypeName::parse))?;
    Some(names.into_iter().map(|(_, name)| name).collect())
}

fn states(field: Field<'_, '_>) -> Option<Vec<DeliveryState>> {
    let states = field.list(1..=STATES.len(), |item| {
        item.parse(|text| {
            let state = parse_choice(text, &STATES)?;
            let is_finished = REPLAYABLE.contains(&state);
            is_finished
                .then_some(state)
                .ok_or_else(|| format!("cannot be replayed: {text} deliveries are not finished"))
        })
    })?;
    let mut states: Vec<_> = states.into_iter().map(|(_, state)| state).collect();
    states.dedup();
    Some(states)
}

/// Create a replay
///
/// Starts a durable job that redelivers past events. For each matching delivery it creates a new
/// delivery to the same endpoint, with its own retry schedule. With `dry_run`, the matching
/// deliveries are only counted and the response is 200.
#[utoipa::path(
    post, path = "/v1/accounts/{account}/replays", tag = "Replays",
    request_body = NewReplay,
    responses(
        (status = ACCEPTED, description = "The started replay", body = ReplayBody),
        (status = OK, description = "The number of matching deliveries", body = DryRunBody),
    )
)]
async fn create(
    tenant: Tenant,
    State(app): State<App>,
    JsonPost { body, request }: JsonPost,
) -> Result<Response, Problem> {
    let new = NewReplay::parse(Fields::from_json(&body)?, &app, tenant.0).await?;
    let dry_run = new.dry_run.unwrap_or(false);
    let new = replays::NewReplay::from(new);
    if dry_run {
        let count = app.service().count_replay(tenant.0, &new.filter).await?;
        let body = DryRunBody { total: count.total, exact: count.exact, dry_run };
        return request.answer(StatusCode::OK, &body).await;
    }
    let start = |once| app.service().start_replay(tenant.0, new, once);
    request.run(start, |replay| (StatusCode::ACCEPTED, ReplayBody::from(replay.clone()))).await
}

/// List replays
///
/// Returns the account's replays, newest first.
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
    Ok(Json(List::from_page(app.records().replays(tenant.0, page).await?)))
}

/// Get a replay
///
/// Returns the replay with its progress.
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
///
/// Has no effect on a paused replay.
#[utoipa::path(
    post, path = "/v1/accounts/{account}/replays/{replay}/pause", tag = "Replays",
    responses(
        (status = OK, description = "The updated replay", body = ReplayBody),
        (status = CONFLICT, description = "The replay has ended", body = Problem,
            content_type = "application/problem+json"),
    )
)]
async fn pause(
    tenant: Tenant,
    PathId(id): PathId<ReplayId>,
    State(app): State<App>,
    EmptyPost(request): EmptyPost,
) -> Result<Response, Problem> {
    command(&app, tenant, id, Command::Pause, request).await
}

/// Resume a replay
///
/// Has no effect on a running replay.
#[utoipa::path(
    post, path = "/v1/accounts/{account}/replays/{replay}/resume", tag = "Replays",
    responses(
        (status = OK, description = "The updated replay", body = ReplayBody),
        (status = CONFLICT, description = "The replay has ended", body = Problem,
            content_type = "application/problem+json"),
    )
)]
async fn resume(
    tenant: Tenant,
    PathId(id): PathId<ReplayId>,
    State(app): State<App>,
    EmptyPost(request): EmptyPost,
) -> Result<Response, Problem> {
    command(&app, tenant, id, Command::Resume, request).await
}

/// Cancel a replay
///
/// Deliveries that the replay has already created are not affected.
#[utoipa::path(
    post, path = "/v1/accounts/{account}/replays/{replay}/cancel", tag = "Replays",
    responses(
        (status = OK, description = "The updated replay", body = ReplayBody),
        (status = CONFLICT, description = "The replay has ended", body = Problem,
            content_type = "application/problem+json"),
    )
)]
async fn cancel(
    tenant: Tenant,
    PathId(id): PathId<ReplayId>,
    State(app): State<App>,
    EmptyPost(request): EmptyPost,
) -> Result<Response, Problem> {
    command(&app, tenant, id, Command::Cancel, request).await
}

async fn command(
    app: &App,
    tenant: Tenant,
    id: ReplayId,
    command: Command,
    request: Repeatable,
) -> Result<Response, Problem> {
    let run = |once| app.service().command_replay(tenant.0, id, command, once);
    request.run(run, |replay| (StatusCode::OK, ReplayBody::from(replay.clone()))).await
}
