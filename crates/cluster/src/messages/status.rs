//! How endpoints, deliveries and nodes fare, as it is told in messages.

use std::net::SocketAddr;

use postrider_domain::delivery::{AttemptError, DeliveryState};
use postrider_domain::endpoint::{Disabled, LastError, State};
use postrider_domain::ids::{BootId, DeliveryId, EndpointId, EventId};
use postrider_domain::ownership::Fence;
use postrider_domain::time::Timestamp;
use postrider_store::{DeliveryView, EndpointView, RecordedAttempt};
use serde::{Deserialize, Serialize};

use crate::view::{NodeState, NodeView, View};

/// How an endpoint fares. Times are milliseconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointStatus {
    /// Its id.
    pub id: EndpointId,
    /// What people call it.
    pub name: String,
    /// Where its webhooks go.
    pub url: String,
    /// Whether it is sent to.
    pub state: EndpointState,
    /// Failed attempts in a row; 0 after a success.
    pub failure_count: u32,
    /// The newest failure, kept also after a success.
    pub last_error: Option<LastError>,
    /// Deliveries that wait to be sent.
    pub pending: u64,
    /// Deliveries that are kept while it is disabled.
    pub held: u64,
    /// Since when the oldest of them waits.
    pub oldest_pending_at: Option<Timestamp>,
}

/// Whether an endpoint is sent to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EndpointState {
    /// It is.
    Enabled,
    /// It is not: how and when that came about.
    Disabled(Disabled),
}

/// What became of a delivery. Times are milliseconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveryStatus {
    /// Its id.
    pub id: DeliveryId,
    /// The event.
    pub event: EventId,
    /// The event's type.
    pub event_type: String,
    /// The endpoint.
    pub endpoint: EndpointId,
    /// Where it stands.
    pub state: DeliveryState,
    /// When the next attempt is due; none when none is to come or it is held.
    pub next_attempt_at: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it came to its end.
    pub finished_at: Option<Timestamp>,
    /// Its attempts, at most 11, the first one first.
    pub attempts: Vec<AttemptStatus>,
}

/// One HTTP request and what came of it, without what was sent and received: that is read over
/// HTTP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptStatus {
    /// 1 for the first.
    pub number: u8,
    /// When it began.
    pub at: Timestamp,
    /// How long it took, in milliseconds.
    pub duration_ms: u32,
    /// The HTTP status, if an answer came.
    pub status: Option<u16>,
    /// What went wrong; none on success.
    pub error: Option<AttemptError>,
    /// The shard, its epoch and the node under which it was recorded.
    pub fence: Option<Fence>,
}

/// Which nodes there are, as one of them sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterStatus {
    /// How many shards there are.
    pub shards: u32,
    /// How many of them no living node owns.
    pub unowned: u32,
    /// The nodes.
    pub nodes: Vec<NodeStatus>,
}

/// A node, as another one sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// The node, in its present run.
    pub id: BootId,
    /// What its operator calls it.
    pub name: String,
    /// The version that it runs.
    pub version: String,
    /// How it is.
    pub state: NodeState,
    /// How many shards it owns.
    pub shards: u32,
    /// Where nodes and clients reach it; none when it is alone.
    pub address: Option<SocketAddr>,
}

impl From<EndpointView> for EndpointStatus {
    fn from(view: EndpointView) -> Self {
        let EndpointView { endpoint, state, health, unfinished, oldest_pending_at } = view;
        let enabled = state == State::Enabled;
        Self {
            id: endpoint.id,
            name: endpoint.name.as_str().to_owned(),
            url: endpoint.url.as_str().to_owned(),
            state: match state {
                State::Disabled(disabled) => EndpointState::Disabled(disabled),
                // The store gives no view of one that was deleted.
                State::Enabled | State::Deleted => EndpointState::Enabled,
            },
            failure_count: health.failure_count,
            last_error: health.last_error,
            pending: if enabled { unfinished } else { 0 },
            held: if enabled { 0 } else { unfinished },
            oldest_pending_at,
        }
    }
}

impl DeliveryStatus {
    /// What a delivery and its attempts tell.
    #[must_use]
    pub fn new(view: DeliveryView, attempts: Vec<RecordedAttempt>) -> Self {
        let DeliveryView { delivery, state } = view;
        Self {
            id: delivery.id,
            event: delivery.event,
            event_type: delivery.event_type.as_str().to_owned(),
            endpoint: delivery.endpoint,
            state,
            next_attempt_at: delivery.due().filter(|_| state == DeliveryState::Pending),
            created_at: delivery.created_at,
            finished_at: delivery.finished_at(),
            attempts: attempts.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<RecordedAttempt> for AttemptStatus {
    fn from(RecordedAttempt { attempt, fence }: RecordedAttempt) -> Self {
        Self {
            number: attempt.number,
            at: attempt.at,
            duration_ms: attempt.duration_ms,
            status: attempt.response.map(|response| response.status),
            error: attempt.error,
            fence,
        }
    }
}

impl From<&View> for ClusterStatus {
    fn from(view: &View) -> Self {
        let counts = view.counts();
        let node = |node: &NodeView| NodeStatus {
            id: node.node,
            name: node.name.clone(),
            version: node.version.clone(),
            state: node.state,
            shards: count(counts.get(&node.node).copied().unwrap_or(0)),
            address: node.address,
        };
        Self {
            shards: count(view.owners.len()),
            unowned: count(view.unowned()),
            nodes: view.nodes.iter().map(node).collect(),
        }
    }
}

fn count(shards: usize) -> u32 {
    u32::try_from(shards).expect("shards are numbered by a u16")
}
