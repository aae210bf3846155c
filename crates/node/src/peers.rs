//! Connections to the other nodes of the cluster: the transport, the gateway and the forwarder of
//! wakes. A single node starts none of these.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use postrider_cluster::membership::Identity;
use postrider_cluster::mesh::Mesh;
use postrider_cluster::route::LocalShards;
use postrider_cluster::shard_manager::{CheckTrigger, ClusterMode, PeerNotifier, ShardManager};
use postrider_cluster::view::View;
use postrider_cluster::wake_forwarder::WakeForwarder;
use postrider_domain::assignment::Fence;
use postrider_domain::time::Timestamp;
use postrider_net::gateway::{Gateway, Handler};
use postrider_net::tasks::Tasks;
use postrider_net::transport::{self, Cookie, PeerName, Tls, Transport};
use postrider_store::{COOKIE_CHANGE_WINDOW, CookieCheck, Records};
use tokio::sync::watch;

use crate::config;
use crate::data_dir::DataDir;

/// The connections to the other nodes. The node does not serve their calls yet.
pub struct PeerTransport {
    transport: Transport,
    mesh: Mesh,
    seeds: Vec<String>,
    tasks: Tasks,
}

/// The transport to the other nodes, and the gateway that serves their calls.
pub struct Peers {
    transport: Transport,
    gateway: Gateway,
}

/// Whether this node is alone. The locks of an embedded store keep other nodes away if `[cluster]
/// listen` is not set. FoundationDB has no such locks: other nodes may use the same subspace, and
/// leases divide the shards between them.
pub fn cluster_mode(peer_transport: Option<&PeerTransport>, store: &config::Store) -> ClusterMode {
    match (peer_transport, store) {
        (Some(peers), _) => ClusterMode::Clustered(Arc::new(peers.mesh.clone())),
        (None, config::Store::FoundationDb(_)) => ClusterMode::Clustered(Arc::new(NoPeers)),
        (None, config::Store::Embedded) => ClusterMode::Single,
    }
}

/// Sends no notifications: other nodes may exist, but this node has no transport.
struct NoPeers;

impl PeerNotifier for NoPeers {
    fn handed_over(&self, _: Fence) {}
}

/// Refuses a cookie that is not the cluster's: the node would own shards that no other node could
/// wake.
///
/// # Errors
/// If the cookie differs from that of the store, or one of the two cannot be read.
pub async fn verify_cookie(
    records: &Records,
    peering: &config::Peering,
    dir: &DataDir,
    now: Timestamp,
) -> Result<()> {
    let fingerprint = cookie(peering, dir)?.fingerprint();
    let previous = match &peering.previous_cookie_file {
        Some(path) => Some(Cookie::read(path).context("[cluster] previous_cookie_file")?),
        None => None,
    };
    let previous = previous.map(|cookie| cookie.fingerprint());
    match records.check_cookie(fingerprint, previous, now).await.context("cannot use the store")? {
        CookieCheck::Accepted => Ok(()),
        CookieCheck::Changed => {
            tracing::warn!(window = ?COOKIE_CHANGE_WINDOW, "changed the cluster's cookie; the previous one is still accepted for a while");
            Ok(())
        }
        CookieCheck::Rejected => bail!(OTHER_COOKIE),
    }
}

const OTHER_COOKIE: &str = "[cluster] cookie_file: the nodes that use this store have a different cookie, so \
    this node cannot connect to them. Use the same cookie. To change the cookie of a running cluster, \
    set previous_cookie_file to the file with their cookie and restart the nodes one by one, within 24 hours";

impl PeerTransport {
    /// Starts the transport.
    ///
    /// # Errors
    /// If the cookie or the certificates cannot be read, or the address cannot be bound.
    pub async fn start(
        peering: &config::Peering,
        dir: &DataDir,
        me: &Identity,
        tasks: Tasks,
    ) -> Result<Self> {
        let options = transport::Options {
            name: PeerName { name: me.name.clone(), boot: me.node },
            listen: Some(peering.listen),
            cookie: cookie(peering, dir)?,
            tls: tls(peering)?,
            tasks: tasks.clone(),
        };
        let transport =
            Transport::start(options).await.context("cannot start the cluster transport")?;
        let mesh = Mesh::new(me.node, transport.clone());
        Ok(Self { transport, mesh, seeds: peering.seeds.clone(), tasks })
    }

    /// Starts the forwarder of wakes for shards that other nodes own.
    pub fn start_forwarder(
        &self,
        view: watch::Receiver<Arc<View>>,
        check_trigger: CheckTrigger,
        local: Arc<dyn LocalShards>,
    ) -> WakeForwarder {
        let transport = Arc::new(self.mesh.clone());
        WakeForwarder::start(self.mesh.me(), view, transport, check_trigger, local, &self.tasks)
    }

    /// Starts the gateway, which serves the calls of other nodes and clients with `handler`, and
    /// connects to the seeds.
    ///
    /// # Errors
    /// If the gateway cannot start.
    pub async fn join(
        self,
        handler: Arc<dyn Handler>,
        shard_manager: &ShardManager,
        local: Arc<dyn LocalShards>,
    ) -> Result<Peers> {
        let gateway =
            Gateway::start(handler, &self.tasks).await.context("cannot start the gateway")?;
        self.mesh.run(shard_manager.clone(), local, self.seeds, &self.tasks);
        Ok(Peers { transport: self.transport, gateway })
    }
}

impl Peers {
    /// Stops the gateway, then closes the transport.
    pub async fn leave(self) {
        self.gateway.stop().await;
        self.transport.stop().await;
    }
}

fn cookie(peering: &config::Peering, dir: &DataDir) -> Result<Cookie> {
    match &peering.cookie_file {
        Some(path) => Cookie::read(path).context("[cluster] cookie_file"),
        None => Ok(Cookie::read(&dir.cookie()?.path)?),
    }
}

fn tls(peering: &config::Peering) -> Result<Option<Tls>> {
    let Some(files) = &peering.tls else { return Ok(None) };
    let tls = Tls::load(&files.ca, &files.cert, &files.key)
        .context("[cluster] tls_ca, tls_cert, tls_key")?;
    Ok(Some(tls))
}
