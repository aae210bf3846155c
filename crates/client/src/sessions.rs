//! Maintains a session with every node: connects, discovers nodes, reconnects.
//!
//! The client dials the seeds only while it has no session. Afterwards it asks a connected node for
//! the advertised addresses of all nodes, and dials those without a session. A node with two
//! addresses thus gets only one session.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::time::Duration;

use futures::future::join_all;
use postrider_domain::backoff::Backoff;
use postrider_domain::node::NodeState;
use postrider_net::gateway;
use postrider_net::messages::{ClusterStatus, Reply, Request};
use postrider_net::transport::Transport;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, sleep, timeout};

/// The interval at which the list of nodes is refreshed if no session changes.
const REFRESH_INTERVAL: Duration = Duration::from_secs(2);
/// How long a gateway may take to reply with the list.
const STATUS_TIMEOUT: Duration = Duration::from_secs(3);
/// The delays before an address is dialled again.
const BACKOFF: Backoff =
    Backoff { initial: Duration::from_millis(200), max: Duration::from_secs(5) };

/// The attempts to dial an address that has no session yet.
struct DialState {
    failures: u32,
    retry_at: Instant,
}

/// Maintains the sessions of `transport` until the task is aborted.
pub(crate) async fn maintain(transport: Transport, seeds: Vec<SocketAddr>) {
    let mut events = transport.peer_events();
    let mut dials = HashMap::new();
    loop {
        let addresses = match transport.peers().is_empty() {
            true => seeds.clone(),
            false => unconnected_nodes(&transport).await,
        };
        dial(&transport, &addresses, &mut dials).await;
        let now = Instant::now();
        let next = dials.values().map(|it: &DialState| it.retry_at).min();
        let wait = next
            .map_or(REFRESH_INTERVAL, |at| REFRESH_INTERVAL.min(at.saturating_duration_since(now)));
        // Refresh at once when a session was opened or closed.
        match timeout(wait.max(BACKOFF.initial), events.recv()).await {
            Ok(Err(RecvError::Closed)) => sleep(REFRESH_INTERVAL).await,
            Ok(Ok(_) | Err(RecvError::Lagged(_))) | Err(_) => {}
        }
    }
}

/// The addresses of nodes without a session, according to the first gateway that replies.
async fn unconnected_nodes(transport: &Transport) -> Vec<SocketAddr> {
    for gateway in gateway::remote() {
        match gateway::call(&gateway, Request::ClusterStatus, STATUS_TIMEOUT).await {
            Ok(Reply::Cluster(status)) => return without_session(transport, &status),
            Ok(other) => {
                tracing::debug!(?other, "unexpected reply to a request for the cluster status")
            }
            Err(error) => tracing::debug!(%error, "cannot get the cluster status from a gateway"),
        }
    }
    Vec::new()
}

fn without_session(transport: &Transport, status: &ClusterStatus) -> Vec<SocketAddr> {
    let linked: HashSet<_> = transport.peers().into_iter().map(|peer| peer.name.boot).collect();
    let nodes = status.nodes.iter();
    nodes
        .filter(|node| node.state != NodeState::Dead && !linked.contains(&node.id))
        .filter_map(|node| node.address)
        .collect()
}

/// Dials all addresses that are due, concurrently.
async fn dial(
    transport: &Transport,
    addresses: &[SocketAddr],
    dials: &mut HashMap<SocketAddr, DialState>,
) {
    dials.retain(|address, _| addresses.contains(address));
    let now = Instant::now();
    let due = |address: &&SocketAddr| dials.get(address).is_none_or(|it| it.retry_at <= now);
    let due: Vec<_> = addresses.iter().filter(due).copied().collect();
    let dialled = join_all(due.iter().map(|address| transport.connect(*address))).await;
    for (address, dialled) in due.into_iter().zip(dialled) {
        // A connection is not a session yet: the peer may still reject this client. So the delay
        // grows until a session removes the address from the list.
        let failures = dials.get(&address).map_or(0, |it| it.failures).saturating_add(1);
        let retry_at = Instant::now() + BACKOFF.delay(failures, rand::random());
        dials.insert(address, DialState { failures, retry_at });
        if let Err(error) = dialled {
            tracing::debug!(%address, %error, "cannot connect to a node");
        }
    }
}
