//! Replays.

use postrider_domain::delivery::DeliveryState;
use postrider_domain::ids::{EndpointId, ReplayId};
use postrider_domain::replay::{REPLAYABLE, Replay, ReplayState};
use postrider_domain::time::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa::openapi::schema::Object;

use super::string_enum;

const STATES: [ReplayState; 4] =
    [ReplayState::Running, ReplayState::Paused, ReplayState::Cancelled, ReplayState::Completed];

/// A replay: a durable job that redelivers past events.
#[derive(Serialize, ToSchema)]
#[schema(as = Replay)]
pub(crate) struct ReplayBody {
    /// The replay's ID.
    #[schema(value_type = String, example = "rpl_06b2k1d5h3vqf8m2c9r7t4w0xg")]
    id: ReplayId,
    /// The endpoint whose deliveries are replayed; null means all endpoints.
    #[schema(value_type = Option<String>)]
    endpoint: Option<EndpointId>,
    /// The event types that are replayed; null means all types.
    event_types: Option<Vec<String>>,
    /// The states of the deliveries that are replayed.
    #[schema(schema_with = replayable_states)]
    states: Vec<DeliveryState>,
    /// Only deliveries created at or after this time are replayed; null means no limit.
    #[schema(value_type = Option<String>, format = DateTime)]
    since: Option<Timestamp>,
    /// Only deliveries created before this time are replayed; null means no limit.
    #[schema(value_type = Option<String>, format = DateTime)]
    until: Option<Timestamp>,
    /// The maximum number of new deliveries per second.
    rate: u32,
    /// The replay's state.
    #[schema(schema_with = replay_state)]
    state: ReplayState,
    /// The number of matching deliveries when the replay was created. A lower bound if more than
    /// 100,000 deliveries had to be scanned.
    total: u64,
    /// The number of deliveries created so far.
    done: u64,
    /// When the replay was created.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// When the replay was completed or cancelled; null if it is running or paused.
    #[schema(value_type = Option<String>, format = DateTime)]
    finished_at: Option<Timestamp>,
}

impl From<Replay> for ReplayBody {
    fn from(replay: Replay) -> Self {
        let filter = replay.filter;
        let names = filter.event_types;
        Self {
            id: replay.id,
            endpoint: filter.endpoint,
            event_types: names.map(|names| names.iter().map(ToString::to_string).collect()),
            states: filter.states.unwrap_or_else(|| REPLAYABLE.to_vec()),
            since: filter.since,
            until: filter.until,
            rate: replay.rate,
            state: replay.state,
            total: replay.total,
            done: replay.done,
            created_at: replay.created_at,
            finished_at: replay.finished_at,
        }
    }
}

/// The result of a dry run.
#[derive(Serialize, ToSchema)]
#[schema(as = DryRun)]
pub(crate) struct DryRunBody {
    /// The number of matching deliveries.
    pub total: u64,
    /// Whether `total` is exact. It is a lower bound if more than 100,000 deliveries had to be
    /// scanned.
    pub exact: bool,
    /// Always `true`: no replay was created.
    pub dry_run: bool,
}

pub(crate) fn replayable_states() -> utoipa::openapi::schema::Array {
    utoipa::openapi::schema::ArrayBuilder::new().items(string_enum(&REPLAYABLE)).build()
}

fn replay_state() -> Object {
    string_enum(&STATES)
}
