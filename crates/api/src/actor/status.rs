//! Converts endpoints, deliveries and the cluster view into status messages.

use postrider_cluster::view::{NodeView, View};
use postrider_domain::delivery::DeliveryState;
use postrider_domain::endpoint::State;
use postrider_net::messages::{
    AttemptStatus, ClusterStatus, DeliveryStatus, EndpointState, EndpointStatus, NodeStatus,
};
use postrider_store::{DeliveryView, EndpointView, RecordedAttempt};

pub(super) fn endpoint(view: EndpointView) -> EndpointStatus {
    let EndpointView { endpoint, state, health, backlog, oldest_pending_at } = view;
    EndpointStatus {
        id: endpoint.id,
        name: endpoint.name.as_str().to_owned(),
        url: endpoint.url.as_str().to_owned(),
        state: match state {
            State::Disabled(disabled) => EndpointState::Disabled(disabled),
            // The store returns no views of deleted endpoints.
            State::Enabled | State::Deleted => EndpointState::Enabled,
        },
        failure_count: health.failure_count,
        last_error: health.last_error,
        pending: backlog.pending(),
        held: backlog.held(),
        oldest_pending_at,
    }
}

pub(super) fn delivery(view: DeliveryView, attempts: Vec<RecordedAttempt>) -> DeliveryStatus {
    let DeliveryView { delivery, state } = view;
    DeliveryStatus {
        id: delivery.id,
        event: delivery.event,
        event_type: delivery.event_type.as_str().to_owned(),
        endpoint: delivery.endpoint,
        state,
        next_attempt_at: delivery.due().filter(|_| state == DeliveryState::Pending),
        created_at: delivery.created_at,
        finished_at: delivery.finished_at(),
        attempts: attempts.into_iter().map(attempt).collect(),
    }
}

fn attempt(RecordedAttempt { attempt, fence }: RecordedAttempt) -> AttemptStatus {
    AttemptStatus {
        number: attempt.number,
        at: attempt.at,
        duration_ms: attempt.duration_ms,
        status: attempt.response.map(|response| response.status),
        error: attempt.error,
        fence,
    }
}

pub(super) fn cluster(view: &View) -> ClusterStatus {
    let counts = view.counts();
    let node = |node: &NodeView| NodeStatus {
        id: node.node,
        name: node.name.clone(),
        version: node.version.clone(),
        state: node.state,
        shards: count(counts.get(&node.node).copied().unwrap_or(0)),
        address: node.address,
    };
    ClusterStatus {
        shards: count(view.owners.len()),
        unowned: count(view.unowned()),
        nodes: view.nodes.iter().map(node).collect(),
    }
}

fn count(shards: usize) -> u32 {
    u32::try_from(shards).expect("shards are numbered by a u16")
}
