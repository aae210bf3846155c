//! Maintains this node's share of the shards: observes the store, plans, and acts.
//!
//! - The lease renewer (`lease_renewal`) renews this node's lease in a separate task.
//! - The `Reconciler` reads leases and owners a few times a second and compares them with the
//!   shards that this node works on.
//! - The pure function [`assignment::plan`](postrider_domain::assignment::plan) decides which
//!   shards to claim and which to hand over.
//! - A `handoff` revokes the shard's guard, waits until the work on the shard has ended, and only
//!   then writes the target as its owner.
//!
//! Notifications (a lost connection, a shard that was handed over) only bring the next pass
//! forward: normal operation and recovery take the same path.
//!
//! A node that cannot renew its lease revokes all its guards before any other node may consider it
//! dead, and claims its shards again, with new epochs, once it can renew. While the store is
//! unavailable every node waits in that state, and none exits.

mod handoff;
mod reconciler;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use postrider_domain::assignment::Fence;
use postrider_domain::ids::BootId;
use postrider_domain::node::NodeState;
use postrider_net::tasks::Tasks;
use postrider_store::Records;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::lease_validity::Uptime;
use crate::membership::{ExitEvidence, Identity};
use crate::shard_guard::ShardGuard;
use crate::view::View;
use reconciler::Reconciler;

/// The interval between passes in a cluster, if no notification comes sooner.
const CHECK_INTERVAL: Duration = Duration::from_millis(250);
/// The interval between passes of a single node.
const CHECK_INTERVAL_SINGLE: Duration = Duration::from_secs(5);

/// The components of this node that work on shards.
#[async_trait]
pub trait ShardWorkers: Send + Sync + 'static {
    /// Works on a shard until the guard is revoked, and keeps clones of it until all work in flight
    /// has ended. Drops the guard if it cannot begin.
    async fn begin(&self, guard: ShardGuard);
}

/// Notifies other nodes.
pub trait PeerNotifier: Send + Sync + 'static {
    /// Notifies the node in `fence` that it now owns the shard. The message is a hint and may be
    /// lost.
    fn handed_over(&self, fence: Fence);
}

/// Makes the shard manager read the store now instead of at the next interval. Clones share it.
#[derive(Clone, Default)]
pub struct CheckTrigger(Arc<Notify>);

impl CheckTrigger {
    /// Makes the shard manager read the store.
    pub fn check_now(&self) {
        self.0.notify_one();
    }

    pub(crate) async fn triggered(&self) {
        self.0.notified().await;
    }
}

/// Options for [`ShardManager::start`].
pub struct Options {
    pub records: Records,
    /// This node.
    pub me: Identity,
    pub mode: ClusterMode,
    pub shard_workers: Arc<dyn ShardWorkers>,
    /// How long work in flight on a shard may take to end after its guard is revoked.
    pub drain_timeout: Duration,
    /// Where the shard manager publishes the cluster as this node sees it.
    pub view: watch::Sender<Arc<View>>,
    pub check_trigger: CheckTrigger,
    /// The clock that measures the validity of this node's lease.
    pub uptime: Arc<dyn Uptime>,
    /// Seeds the jitter before takeovers.
    pub seed: u64,
    /// Reports tasks that end unexpectedly.
    pub tasks: Tasks,
}

/// Whether other nodes may use the store.
#[derive(Clone)]
pub enum ClusterMode {
    /// No other process uses the store. This node needs no lease and owns every shard.
    Single,
    /// Other nodes use the store, or may use it.
    Clustered(Arc<dyn PeerNotifier>),
}

/// A handle to the shard manager. Clones share it.
#[derive(Clone)]
pub struct ShardManager {
    me: BootId,
    view: watch::Receiver<Arc<View>>,
    commands: mpsc::Sender<Command>,
}

enum Command {
    /// The process of a node is reported to have exited.
    ReportExit(BootId, ExitEvidence),
    /// Leave all shards to the other nodes (`true`), or take a share again.
    Yield(bool),
    /// Hand over all shards and leave the cluster.
    Stop(oneshot::Sender<usize>),
}

/// Maximum number of queued commands.
const COMMAND_BUFFER: usize = 64;

impl ShardManager {
    /// Starts the shard manager. At first the node owns no shard.
    #[must_use]
    pub fn start(options: Options) -> Self {
        let (commands, command_receiver) = mpsc::channel(COMMAND_BUFFER);
        let (me, view) = (options.me.node, options.view.subscribe());
        let pause = match options.mode {
            ClusterMode::Single => CHECK_INTERVAL_SINGLE,
            ClusterMode::Clustered(_) => CHECK_INTERVAL,
        };
        let tasks = options.tasks.clone();
        let reconciler = Reconciler::new(options, command_receiver);
        tasks.spawn("shard manager", run(reconciler, pause));
        Self { me, view, commands }
    }

    /// The cluster as this node sees it. The receiver is notified of every change.
    #[must_use]
    pub fn view(&self) -> watch::Receiver<Arc<View>> {
        self.view.clone()
    }

    /// Reports that a node's process has exited, so that its shards are taken over soon. A wrong
    /// report only costs duplicates of the deliveries that the node had in flight.
    pub async fn report_exit(&self, node: BootId, evidence: ExitEvidence) {
        // The shard manager stops only with the node, which then no longer needs the report.
        let _ = self.commands.send(Command::ReportExit(node, evidence)).await;
    }

    /// Waits until this node has joined: it appears in its own view and has begun to claim its
    /// share of the unowned shards.
    pub async fn joined(&self) {
        let mut view = self.view();
        // The sender is dropped only when the node stops.
        let _ = view.wait_for(|view| !view.nodes.is_empty()).await;
    }

    /// Whether this node considers itself alive.
    #[must_use]
    pub fn is_member(&self) -> bool {
        let view = self.view.borrow();
        let me = view.node(self.me);
        me.is_some_and(|me| matches!(me.state, NodeState::Alive | NodeState::Draining))
    }

    /// While `yielding`, hands every shard over to nodes that do not yield, and takes none. If there
    /// are none, it keeps its shards.
    pub async fn set_yielding(&self, yielding: bool) {
        // The shard manager stops only with the node, whose shards others then take.
        let _ = self.commands.send(Command::Yield(yielding)).await;
    }

    /// Hands over every shard and leaves the cluster. Returns the number of shards whose work in
    /// flight had not ended when the drain timeout expired.
    pub async fn stop(&self) -> usize {
        let (reply, unfinished) = oneshot::channel();
        if self.commands.send(Command::Stop(reply)).await.is_err() {
            return 0;
        }
        unfinished.await.unwrap_or(0)
    }
}

async fn run(mut reconciler: Reconciler, pause: Duration) {
    loop {
        reconciler.run().await;
        let pause = if reconciler.has_more_to_claim { reconciler::CLAIM_PAUSE } else { pause };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = reconciler.check_trigger.triggered() => {}
            ended = reconciler::next_handoff(&mut reconciler.handoffs) => reconciler.finish_handoff(ended),
            command = reconciler.commands.recv() => match command {
                Some(Command::ReportExit(node, evidence)) => reconciler.report_exit(node, evidence),
                Some(Command::Yield(yielding)) => reconciler.set_yielding(yielding),
                Some(Command::Stop(reply)) => {
                    // Ignore a closed channel: the caller was cancelled.
                    let _ = reply.send(reconciler.leave().await);
                    return;
                }
                None => return,
            },
        }
    }
}
