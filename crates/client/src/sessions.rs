//! Keeps a session with every node: dials, learns, dials again.
//!
//! Seeds are dialled only while no node is up. Once one is, it tells of all the others by the
//! addresses that they go by, and those are dialled that have no session yet. So a node that has two
//! addresses has one session.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::time::Duration;

use futures::future::join_all;
use postrider_domain::node::NodeState;
use postrider_net::gateway;
use postrider_net::messages::{ClusterStatus, Reply, Request};
use postrider_net::transport::Link;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, sleep, timeout};

/// How often the nodes are asked for, when nothing happens.
const LOOK: Duration = Duration::from_secs(2);
/// How long a gateway may take to tell of them.
const STATUS_TIMEOUT: Duration = Duration::from_secs(3);
/// After a first failure to dial, and how long the pause grows.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// When an address may be dialled again.
struct Failed {
    again: Instant,
    pause: Duration,
}

/// Keeps the sessions of `link` until it is aborted.
pub(crate) async fn keep(link: Link, seeds: Vec<SocketAddr>) {
    let mut events = link.events();
    let mut failed = HashMap::new();
    loop {
        let addresses = match link.peers().is_empty() {
            true => seeds.clone(),
            false => missing(&link).await,
        };
        dial(&link, &addresses, &mut failed).await;
        let now = Instant::now();
        let next = failed.values().map(|failed: &Failed| failed.again).min();
        let wait = next.map_or(LOOK, |at| LOOK.min(at.saturating_duration_since(now)));
        // A session that came or went is a reason to look at once.
        match timeout(wait.max(FIRST_PAUSE), events.recv()).await {
            Ok(Err(RecvError::Closed)) => sleep(LOOK).await,
            Ok(Ok(_) | Err(RecvError::Lagged(_))) | Err(_) => {}
        }
    }
}

/// The addresses of nodes that there is no session with, as a gateway tells.
async fn missing(link: &Link) -> Vec<SocketAddr> {
    for gateway in gateway::remote() {
        match gateway::call(&gateway, Request::ClusterStatus, STATUS_TIMEOUT).await {
            Ok(Reply::Cluster(status)) => return unlinked(link, &status),
            Ok(other) => tracing::debug!(?other, "a gateway tells strange things of the nodes"),
            Err(error) => tracing::debug!(%error, "a gateway does not tell of the nodes"),
        }
    }
    Vec::new()
}

fn unlinked(link: &Link, status: &ClusterStatus) -> Vec<SocketAddr> {
    let linked: HashSet<_> = link.peers().into_iter().map(|peer| peer.name.boot).collect();
    let nodes = status.nodes.iter();
    nodes
        .filter(|node| node.state != NodeState::Dead && !linked.contains(&node.id))
        .filter_map(|node| node.address)
        .collect()
}

/// Dials those whose time has come, all at once.
async fn dial(link: &Link, addresses: &[SocketAddr], failed: &mut HashMap<SocketAddr, Failed>) {
    failed.retain(|address, _| addresses.contains(address));
    let now = Instant::now();
    let due = |address: &&SocketAddr| failed.get(address).is_none_or(|it| it.again <= now);
    let due: Vec<_> = addresses.iter().filter(due).copied().collect();
    let dialled = join_all(due.iter().map(|address| link.connect(*address))).await;
    for (address, dialled) in due.into_iter().zip(dialled) {
        // A connection is no session yet; the peer may think this client unworthy. So the pause
        // grows until the address is no longer missed.
        let pause = failed.get(&address).map_or(FIRST_PAUSE, |it| LONGEST_PAUSE.min(it.pause * 2));
        failed.insert(address, Failed { again: Instant::now() + pause, pause });
        if let Err(error) = dialled {
            tracing::debug!(%address, %error, "a node cannot be reached");
        }
    }
}
