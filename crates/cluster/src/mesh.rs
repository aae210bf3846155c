//! The mesh of connections between the nodes.
//!
//! Every node maintains a connection to every other node in the store, dialled by the younger of
//! the two. Wakes and notices of handoffs are sent over it to the other node's gateway. When a
//! connection breaks, the node probes the peer's address at once: if the peer's host refuses the
//! connection, the process has exited, and there is no need to wait for its lease to expire. Any
//! other failure of a connection proves nothing, and the leases decide.

use std::collections::HashSet;
use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use postrider_domain::assignment::{Fence, Shard};
use postrider_domain::ids::BootId;
use postrider_domain::node::NodeState;
use postrider_net::gateway::{self, GatewayMessage};
use postrider_net::messages::{OwnershipChanged, Reply, Request};
use postrider_net::tasks::Tasks;
use postrider_net::transport::{self, ConnectError, Peer, PeerEvent, Transport};
use postrider_store::Wake;
use ractor::ActorRef;
use tokio::net::lookup_host;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;

use crate::membership::ExitEvidence;
use crate::metrics::Instruments;
use crate::route::LocalShards;
use crate::shard_manager::{PeerNotifier, ShardManager};
use crate::view::{NodeView, View};
use crate::wake_forwarder::{Unreachable, WakeTransport};
use crate::wakes;

/// The interval at which missing connections are dialled.
const DIAL_INTERVAL: Duration = Duration::from_secs(1);
/// The time within which a connected node must appear in the store.
const REGISTRATION_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a node may take to reply to wakes.
const WAKE_TIMEOUT: Duration = Duration::from_secs(2);
/// How often, and how many times, a node whose connection broke is probed.
const PROBE_INTERVAL: Duration = Duration::from_millis(50);
const PROBES: u32 = 40;

/// The connections of a node. Clones share them.
#[derive(Clone)]
pub struct Mesh {
    me: BootId,
    transport: Transport,
    instruments: Instruments,
}

impl Mesh {
    /// The mesh of node `me` over `transport`.
    #[must_use]
    pub fn new(me: BootId, transport: Transport) -> Self {
        Self { me, transport, instruments: Instruments::new() }
    }

    /// Maintains connections to all nodes in the shard manager's view, and reports nodes whose
    /// process has exited to it. Dials `seeds` first, given as `host:port`.
    ///
    /// When a node is lost, this node's shards scan the store: the wakes of the lost node may never
    /// arrive.
    pub fn run(
        &self,
        shard_manager: ShardManager,
        local: Arc<dyn LocalShards>,
        seeds: Vec<String>,
        tasks: &Tasks,
    ) {
        for seed in seeds {
            let mesh = self.clone();
            tokio::spawn(async move { mesh.dial_seed(&seed).await });
        }
        tasks.spawn("peer dialling", self.clone().dial_missing(shard_manager.clone()));
        tasks.spawn("rescan after node loss", rescan_after_losses(shard_manager.view(), local));
        tasks.spawn("peer monitoring", self.clone().watch(shard_manager));
    }

    /// The id of this node.
    #[must_use]
    pub fn me(&self) -> BootId {
        self.me
    }

    /// The connected nodes.
    #[must_use]
    pub fn peers(&self) -> Vec<Peer> {
        self.transport.peers()
    }

    fn is_connected(&self, node: BootId) -> bool {
        self.transport.peers().iter().any(|peer| peer.name.boot == node)
    }

    fn gateway(&self, node: BootId) -> Option<ActorRef<GatewayMessage>> {
        let peer = self.transport.peers().into_iter().find(|peer| peer.name.boot == node)?;
        gateway::of(peer.node_id)
    }

    async fn dial_seed(&self, seed: &str) {
        let addresses = match lookup_host(seed).await {
            Ok(addresses) => addresses,
            Err(error) => return tracing::info!(seed, %error, "resolving a seed failed"),
        };
        for address in addresses.filter(|address| Some(*address) != self.transport.local_addr()) {
            match self.transport.connect(address).await {
                Ok(()) => return,
                // The seed may not have started yet. It is dialled once it appears in the store.
                Err(error) => tracing::debug!(seed, %error, "connecting to a seed failed"),
            }
        }
    }

    async fn dial_missing(self, shard_manager: ShardManager) {
        let mut view = shard_manager.view();
        // Nodes whose failure has been logged. A node that connects in between is logged again.
        let mut reported = HashSet::new();
        loop {
            let missing = self.missing(&view.borrow_and_update());
            reported.retain(|node| missing.iter().any(|(missing, _)| missing == node));
            for (node, address) in missing {
                let (transport, is_first_attempt) = (self.transport.clone(), reported.insert(node));
                tokio::spawn(async move {
                    match transport.connect(address).await.map_err(with_causes) {
                        Err(error) if is_first_attempt => {
                            tracing::warn!(%node, %address, error, "connecting to a node failed; retrying");
                        }
                        Err(error) => {
                            tracing::debug!(%node, error, "connecting to a node failed again");
                        }
                        Ok(()) => {}
                    }
                });
            }
            if let Ok(Err(_)) = tokio::time::timeout(DIAL_INTERVAL, view.changed()).await {
                return;
            }
        }
    }

    /// The nodes without a connection that this node has to dial: older ones only, so that two
    /// nodes do not dial each other.
    fn missing(&self, view: &View) -> Vec<(BootId, SocketAddr)> {
        let wanted = |node: &&NodeView| {
            node.node < self.me && node.state != NodeState::Dead && !self.is_connected(node.node)
        };
        let missing = view.nodes.iter().filter(wanted);
        missing.filter_map(|node| Some((node.node, node.address?))).collect()
    }

    /// Probes nodes whose connection breaks or whose lease is overdue.
    async fn watch(self, shard_manager: ShardManager) {
        let mut events = self.transport.peer_events();
        let mut view = shard_manager.view();
        loop {
            self.instruments.peers(self.transport.peers().len());
            tokio::select! {
                event = events.recv() => match event {
                    Ok(PeerEvent::Down(peer)) => {
                        tokio::spawn(self.clone().probe_liveness(peer.name.boot, shard_manager.clone()));
                    }
                    Ok(PeerEvent::Up(peer)) => {
                        tokio::spawn(self.clone().verify_same_cluster(peer, shard_manager.clone()));
                    }
                    // A missed event is made up for when the node's lease becomes overdue.
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return,
                },
                changed = view.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let suspects = suspect_nodes(&view.borrow_and_update());
                    for node in suspects.into_iter().filter(|node| *node != self.me) {
                        tokio::spawn(self.clone().probe_liveness(node, shard_manager.clone()));
                    }
                }
            }
        }
    }

    /// Logs an error if a connected node does not appear in this node's store. Two clusters with
    /// the same cookie and common seeds connect to each other, but do not form one cluster.
    async fn verify_same_cluster(self, peer: Peer, shard_manager: ShardManager) {
        tokio::time::sleep(REGISTRATION_TIMEOUT).await;
        let is_node = gateway::of(peer.node_id).is_some();
        if is_node && shard_manager.view().borrow().node(peer.name.boot).is_none() {
            tracing::error!(
                peer = %peer.name, address = %peer.address,
                "a connected node does not appear in this node's store, so it uses a different one and \
                 belongs to another cluster; all nodes of a cluster must use the same store, and the \
                 embedded store works on one host only"
            );
        }
    }

    /// What kind of evidence a refused connection to this address is.
    fn evidence(&self, address: SocketAddr) -> ExitEvidence {
        let mine = self.transport.local_addr().map(|mine| mine.ip());
        let is_here = address.ip().to_canonical().is_loopback() || mine == Some(address.ip());
        if is_here { ExitEvidence::ThisHost } else { ExitEvidence::Network }
    }

    /// Probes a node, and reports its exit to the shard manager if its host refuses the connection.
    async fn probe_liveness(self, node: BootId, shard_manager: ShardManager) {
        for _ in 0..PROBES {
            let known = shard_manager.view().borrow().node(node).cloned();
            let live = known.filter(|node| node.state != NodeState::Dead);
            let Some(address) = live.and_then(|node| node.address) else { return };
            if transport::is_refused(address).await {
                return shard_manager.report_exit(node, self.evidence(address)).await;
            }
            if self.is_connected(node) {
                return;
            }
            tokio::time::sleep(PROBE_INTERVAL).await;
        }
    }
}

/// The error with its chain of causes.
fn with_causes(error: ConnectError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// Has this node's shards scan the store whenever a node is lost: the events that it accepted are
/// durable, but their wakes may be lost.
async fn rescan_after_losses(mut view: watch::Receiver<Arc<View>>, local: Arc<dyn LocalShards>) {
    let mut live_nodes = live_nodes(&view.borrow_and_update());
    while view.changed().await.is_ok() {
        let now = self::live_nodes(&view.borrow_and_update());
        if live_nodes.iter().any(|node| !now.contains(node)) {
            local.scan_now();
        }
        live_nodes = now;
    }
}

fn live_nodes(view: &View) -> HashSet<BootId> {
    let live_nodes = view.nodes.iter().filter(|node| node.state != NodeState::Dead);
    live_nodes.map(|node| node.node).collect()
}

fn suspect_nodes(view: &View) -> Vec<BootId> {
    let suspects = view.nodes.iter().filter(|node| node.state == NodeState::Suspect);
    suspects.map(|node| node.node).collect()
}

#[async_trait]
impl WakeTransport for Mesh {
    async fn send(&self, to: BootId, wakes: &[Wake]) -> Result<Vec<Shard>, Unreachable> {
        let gateway = self.gateway(to).ok_or(Unreachable)?;
        self.instruments.wakes_sent(wakes.len());
        let mut not_owned = Vec::new();
        for batch in wakes::pack(wakes.iter().cloned()) {
            match gateway::call(&gateway, Request::WakeMany(batch), WAKE_TIMEOUT).await {
                Ok(Reply::Woken(woken)) => not_owned.extend(woken.not_owned),
                Ok(other) => {
                    tracing::warn!(node = %to, ?other, "a node sent an unexpected reply to wakes");
                    return Err(Unreachable);
                }
                Err(error) => {
                    tracing::debug!(node = %to, %error, "sending wakes to a node failed");
                    return Err(Unreachable);
                }
            }
        }
        Ok(not_owned)
    }
}

impl PeerNotifier for Mesh {
    fn handed_over(&self, fence: Fence) {
        let reported = self.gateway(fence.node).is_some_and(|gateway| {
            let message = OwnershipChanged { shards: vec![fence.shard] };
            gateway::cast(&gateway, Request::OwnershipChanged(message)).is_ok()
        });
        if !reported {
            tracing::debug!(
                shard = fence.shard,
                "the new owner of a shard is not connected; it will read the store later"
            );
        }
    }
}
