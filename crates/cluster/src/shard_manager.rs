//! Keeps this node's share of the shards: observes the store, plans, and acts.
//!
//! Who takes part: [`lease_renewer`] renews this node's lease in a task of its own; the [`Reconciler`]s read
//! leases and owners a few times a second and compare them with what is held here; the plan of
//! [`assignment`] says what to take and what to give; a `handoff` ends a guard, waits until nobody
//! works on the shard, and only then writes the target as its owner. Nudges (a link that broke, a
//! shard that was handed over) only make the next round come sooner: happy case and recovery take
//! one path.
//!
//! A node that cannot renew its lease ends all its tenures before anybody may take it for dead, and
//! claims anew, with new epochs, when it can renew again. While the store is away every node waits
//! so, and none exits.
//!
//! [`assignment`]: postrider_domain::assignment

mod handoff;
mod reconciler;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use postrider_domain::assignment::Fence;
use postrider_domain::ids::BootId;
use postrider_store::Records;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::lease_validity::Uptime;
use crate::membership::{ExitEvidence, Identity};
use crate::shard_guard::ShardGuard;
use crate::view::View;
use postrider_domain::node::NodeState;
use postrider_net::tasks::Tasks;
use reconciler::Reconciler;

/// How often a node among others looks, even if nobody wakes.
const CHECK_INTERVAL: Duration = Duration::from_millis(250);
/// How often a node that is alone looks.
const CHECK_INTERVAL_SINGLE: Duration = Duration::from_secs(5);

/// Those who work on shards, on this node.
#[async_trait]
pub trait ShardWorkers: Send + Sync + 'static {
    /// Works on a shard until the guard is over, and holds clones of it until nothing is under
    /// way any more. One that cannot begin drops it.
    async fn begin(&self, guard: ShardGuard);
}

/// The other nodes.
pub trait PeerNotifier: Send + Sync + 'static {
    /// Tells a node that it was made the owner of a shard. A hint that may be lost.
    fn handed_over(&self, fence: Fence);
}

/// What a shard_manager works with.
pub struct Options {
    /// The durable records.
    pub records: Records,
    /// This node.
    pub me: Identity,
    /// Whether there are other nodes.
    pub mode: ClusterMode,
    /// Those who work.
    pub shard_workers: Arc<dyn ShardWorkers>,
    /// How long those who work on a shard have, to end what is under way.
    pub drain_timeout: Duration,
    /// What the validity of this node's lease is measured by.
    pub uptime: Arc<dyn Uptime>,
    /// Makes jitter.
    pub seed: u64,
    /// Those that the node cannot do without.
    pub tasks: Tasks,
}

/// Whether there are other nodes.
#[derive(Clone)]
pub enum ClusterMode {
    /// No other process uses the store: no lease is needed, and every shard is this node's.
    Single,
    /// There are, or may be.
    Clustered(Arc<dyn PeerNotifier>),
}

/// The handle on the shard_manager. Clones share it.
#[derive(Clone)]
pub struct ShardManager {
    me: BootId,
    view: watch::Receiver<Arc<View>>,
    look: Arc<Notify>,
    commands: mpsc::Sender<Command>,
}

/// What the shard_manager is told.
enum Command {
    /// A node's process has ended.
    Ended(BootId, ExitEvidence),
    /// Give everything away and leave.
    Stop(oneshot::Sender<usize>),
}

/// Commands that wait.
const COMMANDS: usize = 64;

impl ShardManager {
    /// Starts to keep this node's share. It owns nothing yet.
    #[must_use]
    pub fn start(options: Options) -> Self {
        let (view, watched) = watch::channel(Arc::default());
        let (commands, told) = mpsc::channel(COMMANDS);
        let look = Arc::new(Notify::new());
        let me = options.me.node;
        let pause = match options.mode {
            ClusterMode::Single => CHECK_INTERVAL_SINGLE,
            ClusterMode::Clustered(_) => CHECK_INTERVAL,
        };
        let tasks = options.tasks.clone();
        let reconciler = Reconciler::new(options, view, look.clone(), told);
        tasks.spawn("shard_manager", run(reconciler, look.clone(), pause));
        Self { me, view: watched, look, commands }
    }

    /// The cluster as this node sees it, now and as it changes.
    #[must_use]
    pub fn view(&self) -> watch::Receiver<Arc<View>> {
        self.view.clone()
    }

    /// Looks now. What others do is seen in any case, only later.
    pub fn look(&self) {
        self.look.notify_one();
    }

    /// What makes the shard_manager look.
    #[must_use]
    pub fn check_trigger(&self) -> Arc<Notify> {
        self.look.clone()
    }

    /// Tells that a node's process is said to have ended, so that its shards are taken soon. To be wrong
    /// costs duplicates of what it had in flight, no more.
    pub async fn ended(&self, node: BootId, evidence: ExitEvidence) {
        // The shard_manager ends with the node, which then needs to know nothing.
        let _ = self.commands.send(Command::Ended(node, evidence)).await;
    }

    /// Waits until this node has joined: it is in its own view, and has begun to take its share of what
    /// nobody owned.
    pub async fn joined(&self) {
        let mut view = self.view();
        // Its sender ends with the node.
        let _ = view.wait_for(|view| !view.nodes.is_empty()).await;
    }

    /// Whether this node counts as alive in its own eyes.
    #[must_use]
    pub fn is_member(&self) -> bool {
        let view = self.view.borrow();
        let me = view.node(self.me);
        me.is_some_and(|me| matches!(me.state, NodeState::Alive | NodeState::Draining))
    }

    /// Gives every shard away and leaves. Gives the number of shards on which something was still
    /// under way when the drain timeout expired.
    pub async fn stop(&self) -> usize {
        let (reply, left) = oneshot::channel();
        if self.commands.send(Command::Stop(reply)).await.is_err() {
            return 0;
        }
        left.await.unwrap_or(0)
    }
}

async fn run(mut reconciler: Reconciler, look: Arc<Notify>, pause: Duration) {
    loop {
        reconciler.run().await;
        let pause = if reconciler.has_more_to_claim { reconciler::CLAIM_PAUSE } else { pause };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = look.notified() => {}
            ended = reconciler::next_handoff(&mut reconciler.handoffs) => reconciler.finish_handoff(ended),
            command = reconciler.commands.recv() => match command {
                Some(Command::Ended(node, evidence)) => reconciler.ended(node, evidence),
                Some(Command::Stop(reply)) => {
                    // Whoever asked may have given up.
                    let _ = reply.send(reconciler.leave().await);
                    return;
                }
                None => return,
            },
        }
    }
}
