//! Replays.

use postrider_domain::delivery::DeliveryState;
use postrider_domain::ids::{EndpointId, ReplayId};
use postrider_domain::replay::{REPLAYABLE, Replay, ReplayState};
use postrider_domain::time::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa::openapi::schema::Object;

use super::choices;

const STATES: [ReplayState; 4] =
    [ReplayState::Running, ReplayState::Paused, ReplayState::Cancelled, ReplayState::Completed];

/// A replay: a durable job that delivers past events again.
#[derive(Serialize, ToSchema)]
#[schema(as = Replay)]
pub(crate) struct ReplayBody {
    /// Its id.
    #[schema(value_type = String, example = "rpl_06b2k1d5h3vqf8m2c9r7t4w0xg")]
    id: ReplayId,
    /// Deliveries to this endpoint; null means to all.
    #[schema(value_type = Option<String>)]
    endpoint: Option<EndpointId>,
    /// Deliveries of these types; null means of all.
    event_types: Option<Vec<String>>,
    /// Deliveries that stand so.
    #[schema(schema_with = replayable_states)]
    states: Vec<DeliveryState>,
    /// Deliveries made at this time or later.
    #[schema(value_type = Option<String>, format = DateTime)]
    since: Option<Timestamp>,
    /// Deliveries made before this time.
    #[schema(value_type = Option<String>, format = DateTime)]
    until: Option<Timestamp>,
    /// Most new deliveries a second.
    rate: u32,
    /// Where it stands.
    #[schema(schema_with = replay_state)]
    state: ReplayState,
    /// How many deliveries it takes; at least so many, when counting ended after 100,000.
    total: u64,
    /// How many it has made.
    done: u64,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// When it came to its end.
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

/// What a replay would take.
#[derive(Serialize, ToSchema)]
#[schema(as = DryRun)]
pub(crate) struct DryRunBody {
    /// How many deliveries.
    pub total: u64,
    /// Whether there are no more than that: counting ends after 100,000 deliveries.
    pub exact: bool,
    /// Always true: nothing was made.
    pub dry_run: bool,
}

pub(crate) fn replayable_states() -> utoipa::openapi::schema::Array {
    utoipa::openapi::schema::ArrayBuilder::new().items(choices(&REPLAYABLE)).build()
}

fn replay_state() -> Object {
    choices(&STATES)
}
