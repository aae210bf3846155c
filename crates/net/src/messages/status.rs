//! How endpoints, deliveries and nodes fare, as it is told in messages.

use std::net::SocketAddr;

use postrider_domain::assignment::Fence;
use postrider_domain::delivery::DeliveryState;
use postrider_domain::endpoint::{Disabled, LastError};
use postrider_domain::ids::{BootId, DeliveryId, EndpointId, EventId};
use postrider_domain::node::NodeState;
use postrider_domain::outcome::AttemptError;
use postrider_domain::time::Timestamp;
use serde::{Deserialize, Serialize};

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
