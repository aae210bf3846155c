//! The mesh: which links a node keeps, and what it says over them.
//!
//! Who takes part: every node keeps a link to every other one that the store knows, dialled by the
//! younger of the two; wakes and handoffs travel over them, to the other node's gateway. A link that
//! breaks is looked into at once: a host that says itself that nobody listens there any more has
//! proved that the process ended, and need not be waited for. Everything else that can be wrong with
//! a link proves nothing, and the leases decide.

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
use postrider_net::transport::{self, ConnectError, Event, Link, Peer};
use postrider_store::Wake;
use ractor::ActorRef;
use tokio::net::lookup_host;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;

use crate::membership::ExitEvidence;
use crate::metrics::Instruments;
use crate::route::Router;
use crate::shard_manager::{PeerNotifier, ShardManager};
use crate::view::{NodeView, View};
use crate::wake_forwarder::{Unreachable, WakeTransport};
use crate::wakes;

/// How often links that are missing are dialled.
const DIAL_INTERVAL: Duration = Duration::from_secs(1);
/// By when a linked node is seen in the store.
const REGISTRATION_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a node may take to answer that it was woken.
const WAKE_TIMEOUT: Duration = Duration::from_secs(2);
/// How often, and how many times, a node whose link broke is asked whether it still listens.
const PROBE_INTERVAL: Duration = Duration::from_millis(50);
const PROBES: u32 = 40;

/// The links of a node. Clones share them.
#[derive(Clone)]
pub struct Mesh {
    me: BootId,
    link: Link,
    instruments: Instruments,
}

impl Mesh {
    /// The mesh over `link`, of node `me`.
    #[must_use]
    pub fn new(me: BootId, link: Link) -> Self {
        Self { me, link, instruments: Instruments::new() }
    }

    /// Keeps links to all nodes that the shard_manager sees, and tells it of those that have ended. Dials
    /// `seeds` first, given as `host:port`.
    ///
    /// When one is lost, the owners here look for work that it could not tell of any more.
    pub fn run(
        &self,
        shard_manager: ShardManager,
        router: Router,
        seeds: Vec<String>,
        tasks: &Tasks,
    ) {
        for seed in seeds {
            let mesh = self.clone();
            tokio::spawn(async move { mesh.dial_seed(&seed).await });
        }
        tasks.spawn("dialling", self.clone().dial_missing(shard_manager.clone()));
        tasks.spawn("looking after losses", rescan_after_losses(shard_manager.view(), router));
        tasks.spawn("watching links", self.clone().watch(shard_manager));
    }

    /// This node.
    #[must_use]
    pub fn me(&self) -> BootId {
        self.me
    }

    /// The nodes that are linked.
    #[must_use]
    pub fn peers(&self) -> Vec<Peer> {
        self.link.peers()
    }

    fn is_linked(&self, node: BootId) -> bool {
        self.link.peers().iter().any(|peer| peer.name.boot == node)
    }

    fn gateway(&self, node: BootId) -> Option<ActorRef<GatewayMessage>> {
        let peer = self.link.peers().into_iter().find(|peer| peer.name.boot == node)?;
        gateway::of(peer.node_id)
    }

    async fn dial_seed(&self, seed: &str) {
        let addresses = match lookup_host(seed).await {
            Ok(addresses) => addresses,
            Err(error) => return tracing::info!(seed, %error, "a seed cannot be resolved"),
        };
        for address in addresses.filter(|address| Some(*address) != self.link.local_addr()) {
            match self.link.connect(address).await {
                Ok(()) => return,
                // It may not have started yet; the store will tell of it.
                Err(error) => tracing::debug!(seed, %error, "a seed cannot be connected to"),
            }
        }
    }

    async fn dial_missing(self, shard_manager: ShardManager) {
        let mut view = shard_manager.view();
        // Those whose trouble was told of; again when they have been linked meanwhile.
        let mut told = HashSet::new();
        loop {
            let missing = self.missing(&view.borrow_and_update());
            told.retain(|node| missing.iter().any(|(missing, _)| missing == node));
            for (node, address) in missing {
                let (link, first) = (self.link.clone(), told.insert(node));
                tokio::spawn(async move {
                    match link.connect(address).await.map_err(with_causes) {
                        Err(error) if first => {
                            tracing::warn!(%node, %address, error, "a node cannot be connected to");
                        }
                        Err(error) => {
                            tracing::debug!(%node, error, "a node still cannot be connected to");
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

    /// Those that this node has to dial: the older ones, so that two nodes do not dial each other.
    fn missing(&self, view: &View) -> Vec<(BootId, SocketAddr)> {
        let wanted = |node: &&NodeView| {
            node.node < self.me && node.state != NodeState::Dead && !self.is_linked(node.node)
        };
        let missing = view.nodes.iter().filter(wanted);
        missing.filter_map(|node| Some((node.node, node.address?))).collect()
    }

    /// Looks into every link that breaks, and into nodes that do not renew their lease.
    async fn watch(self, shard_manager: ShardManager) {
        let mut events = self.link.events();
        let mut view = shard_manager.view();
        loop {
            self.instruments.peers(self.link.peers().len());
            tokio::select! {
                event = events.recv() => match event {
                    Ok(Event::Down(peer)) => {
                        tokio::spawn(self.clone().probe_liveness(peer.name.boot, shard_manager.clone()));
                    }
                    Ok(Event::Up(peer)) => {
                        tokio::spawn(self.clone().verify_same_cluster(peer, shard_manager.clone()));
                    }
                    // A node that was missed is seen when it does not renew its lease.
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return,
                },
                changed = view.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let suspects = suspects(&view.borrow_and_update());
                    for node in suspects.into_iter().filter(|node| *node != self.me) {
                        tokio::spawn(self.clone().probe_liveness(node, shard_manager.clone()));
                    }
                }
            }
        }
    }

    /// Says so when a node is linked that is none of this store's: two clusters that share a cookie
    /// and have seeds in common are not one.
    async fn verify_same_cluster(self, peer: Peer, shard_manager: ShardManager) {
        tokio::time::sleep(REGISTRATION_TIMEOUT).await;
        let is_node = gateway::of(peer.node_id).is_some();
        if is_node && shard_manager.view().borrow().node(peer.name.boot).is_none() {
            tracing::error!(
                peer = %peer.name, address = %peer.address,
                "a linked node is not in this node's store: it has another one, and so is of another \
                 cluster. The nodes of a cluster share a store; the embedded one is for one host"
            );
        }
    }

    /// How reliable a refused connection to this address is.
    fn evidence(&self, address: SocketAddr) -> ExitEvidence {
        let mine = self.link.local_addr().map(|mine| mine.ip());
        let is_here = address.ip().to_canonical().is_loopback() || mine == Some(address.ip());
        if is_here { ExitEvidence::ThisHost } else { ExitEvidence::Network }
    }

    /// Tells the shard_manager when a node's host says that nobody listens there any more.
    async fn probe_liveness(self, node: BootId, shard_manager: ShardManager) {
        for _ in 0..PROBES {
            let known = shard_manager.view().borrow().node(node).cloned();
            let gone = known.filter(|node| node.state != NodeState::Dead);
            let Some(address) = gone.and_then(|node| node.address) else { return };
            if transport::is_refused(address).await {
                return shard_manager.ended(node, self.evidence(address)).await;
            }
            if self.is_linked(node) {
                return;
            }
            tokio::time::sleep(PROBE_INTERVAL).await;
        }
    }
}

/// An error with what led to it.
fn with_causes(error: ConnectError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// Has the owners here look whenever a node is lost: what it accepted is durable, and its wakes may
/// be lost with it.
async fn rescan_after_losses(mut view: watch::Receiver<Arc<View>>, router: Router) {
    let mut living = living(&view.borrow_and_update());
    while view.changed().await.is_ok() {
        let now = self::living(&view.borrow_and_update());
        if living.iter().any(|node| !now.contains(node)) {
            router.look_here();
        }
        living = now;
    }
}

fn living(view: &View) -> HashSet<BootId> {
    let living = view.nodes.iter().filter(|node| node.state != NodeState::Dead);
    living.map(|node| node.node).collect()
}

fn suspects(view: &View) -> Vec<BootId> {
    let suspects = view.nodes.iter().filter(|node| node.state == NodeState::Suspect);
    suspects.map(|node| node.node).collect()
}

#[async_trait]
impl WakeTransport for Mesh {
    async fn send(&self, to: BootId, wakes: &[Wake]) -> Result<Vec<Shard>, Unreachable> {
        let gateway = self.gateway(to).ok_or(Unreachable)?;
        self.instruments.wakes_sent(wakes.len());
        let mut elsewhere = Vec::new();
        for many in wakes::pack(wakes.iter().cloned()) {
            match gateway::call(&gateway, Request::WakeMany(many), WAKE_TIMEOUT).await {
                Ok(Reply::Woken(woken)) => elsewhere.extend(woken.not_owned),
                Ok(other) => {
                    tracing::warn!(node = %to, ?other, "a node does not say whom it woke");
                    return Err(Unreachable);
                }
                Err(error) => {
                    tracing::debug!(node = %to, %error, "a node cannot be told of work");
                    return Err(Unreachable);
                }
            }
        }
        Ok(elsewhere)
    }
}

impl PeerNotifier for Mesh {
    fn handed_over(&self, fence: Fence) {
        let told = self.gateway(fence.node).is_some_and(|gateway| {
            let handed = OwnershipChanged { shards: vec![fence.shard] };
            gateway::cast(&gateway, Request::OwnershipChanged(handed)).is_ok()
        });
        if !told {
            tracing::debug!(shard = fence.shard, "the heir is not linked; it will see for itself");
        }
    }
}
