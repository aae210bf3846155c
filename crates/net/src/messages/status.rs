//! The status of endpoints, deliveries and nodes.

use std::net::SocketAddr;

use postrider_domain::assignment::Fence;
use postrider_domain::delivery::DeliveryState;
use postrider_domain::endpoint::{Disabled, LastError};
use postrider_domain::ids::{BootId, DeliveryId, EndpointId, EventId};
use postrider_domain::node::NodeState;
use postrider_domain::outcome::AttemptError;
use postrider_domain::time::Timestamp;
use serde::{Deserialize, Serialize};

/// The status of an endpoint. Times are milliseconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointStatus {
    /// The id of the endpoint.
    pub id: EndpointId,
    /// The display name.
    pub name: String,
    /// The URL that webhooks are sent to.
    pub url: String,
    /// Whether the endpoint is enabled.
    pub state: EndpointState,
    /// The number of consecutive failed attempts; 0 after a success.
    pub failure_count: u32,
    /// The latest failed attempt. It is kept after a success.
    pub last_error: Option<LastError>,
    /// The number of pending deliveries.
    pub pending: u64,
    /// The number of deliveries held while the endpoint is disabled.
    pub held: u64,
    /// When the oldest pending or held delivery was created.
    pub oldest_pending_at: Option<Timestamp>,
}

/// Whether an endpoint is enabled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EndpointState {
    /// Webhooks are sent.
    Enabled,
    /// Deliveries are held. Contains when and why the endpoint was disabled.
    Disabled(Disabled),
}

/// The status of a delivery. Times are milliseconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveryStatus {
    /// The id of the delivery.
    pub id: DeliveryId,
    /// The id of the event.
    pub event: EventId,
    /// The name of the event's type.
    pub event_type: String,
    /// The id of the endpoint.
    pub endpoint: EndpointId,
    /// The state of the delivery.
    pub state: DeliveryState,
    /// When the next attempt is due; `None` if the delivery is held or finished.
    pub next_attempt_at: Option<Timestamp>,
    /// When the delivery was created.
    pub created_at: Timestamp,
    /// When the delivery was finished.
    pub finished_at: Option<Timestamp>,
    /// The attempts, in order: at most one more than `[retry] max_retries`, which is 10 by default
    /// and 100 at most.
    pub attempts: Vec<AttemptStatus>,
}

/// An attempt: one HTTP request and its result. Times are milliseconds since the Unix epoch. The
/// content of request and response is available through the HTTP API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptStatus {
    /// The number of the attempt; the first is 1.
    pub number: u8,
    /// When the attempt started.
    pub at: Timestamp,
    /// The duration in milliseconds.
    pub duration_ms: u32,
    /// The HTTP status code, if a response was received.
    pub status: Option<u16>,
    /// The error; `None` on success.
    pub error: Option<AttemptError>,
    /// The fence under which the attempt was recorded: the shard, its epoch and the node.
    pub fence: Option<Fence>,
}

/// The nodes of a cluster, as one of them sees them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterStatus {
    /// The number of shards.
    pub shards: u32,
    /// The number of shards without a live owner.
    pub unowned: u32,
    /// The nodes that have a lease.
    pub nodes: Vec<NodeStatus>,
}

/// A node, as another node sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// The id of the node's current run.
    pub id: BootId,
    /// The configured name.
    pub name: String,
    /// The version of Postrider.
    pub version: String,
    /// Whether the node is alive.
    pub state: NodeState,
    /// The number of shards that the node owns.
    pub shards: u32,
    /// The address that nodes and clients connect to; `None` for a single node.
    pub address: Option<SocketAddr>,
}
