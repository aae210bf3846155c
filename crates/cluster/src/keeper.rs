//! Keeps this node's share of the shards: observes the store, plans, and acts.
//!
//! Who takes part: [`lifeline`] renews this node's lease in a task of its own; the [`Round`]s read
//! leases and owners a few times a second and compare them with what is held here; the plan of
//! [`ownership`] says what to take and what to give; a `handoff` ends a tenure, waits until nobody
//! works on the shard, and only then writes the heir as its owner. Nudges (a link that broke, a
//! shard that was handed over) only make the next round come sooner: happy case and recovery take
//! one path.
//!
//! A node that cannot renew its lease ends all its tenures before anybody may take it for dead, and
//! claims anew, with new epochs, when it can renew again. While the store is away every node waits
//! so, and none exits.
//!
//! [`ownership`]: postrider_domain::ownership

mod handoff;
mod lifeline;
mod round;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use postrider_domain::ids::BootId;
use postrider_domain::ownership::Fence;
use postrider_store::Records;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::membership::Witness;
use crate::pulse::Uptime;
use crate::tenure::Tenure;
use crate::view::View;
use postrider_domain::node::NodeState;
use postrider_net::tasks::Tasks;
use round::Round;

/// How often a node among others looks, even if nobody nudges.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How often a node that is alone looks.
const LOOK_ALONE: Duration = Duration::from_secs(5);

/// Those who work on shards, on this node.
#[async_trait]
pub trait Tenants: Send + Sync + 'static {
    /// Works on a shard until the tenure is over, and holds clones of it until nothing is under
    /// way any more. One that cannot begin drops it.
    async fn begin(&self, tenure: Tenure);
}

/// The other nodes.
pub trait Neighbours: Send + Sync + 'static {
    /// Tells a node that it was made the owner of a shard. A hint that may be lost.
    fn handed_over(&self, fence: Fence);
}

/// What a keeper works with.
pub struct Options {
    /// The durable records.
    pub records: Records,
    /// This node.
    pub me: Identity,
    /// Whether there are other nodes.
    pub company: Company,
    /// Those who work.
    pub tenants: Arc<dyn Tenants>,
    /// How long those who work on a shard have, to end what is under way.
    pub patience: Duration,
    /// What the validity of this node's lease is measured by.
    pub uptime: Arc<dyn Uptime>,
    /// Makes jitter.
    pub seed: u64,
    /// Those that the node cannot do without.
    pub tasks: Tasks,
}

/// Who this node is.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Its id, new at each start.
    pub node: BootId,
    /// Its name.
    pub name: String,
    /// Where other nodes reach it.
    pub address: Option<SocketAddr>,
    /// The version of Postrider that it runs.
    pub version: String,
}

/// Whether there are other nodes.
#[derive(Clone)]
pub enum Company {
    /// No other process uses the store: no lease is needed, and every shard is this node's.
    Alone,
    /// There are, or may be.
    Others(Arc<dyn Neighbours>),
}

/// The handle on the keeper. Clones share it.
#[derive(Clone)]
pub struct Keeper {
    me: BootId,
    view: watch::Receiver<Arc<View>>,
    look: Arc<Notify>,
    commands: mpsc::Sender<Command>,
}

/// What the keeper is told.
enum Command {
    /// A node's process has ended.
    Ended(BootId, Witness),
    /// Give everything away and leave.
    Stop(oneshot::Sender<usize>),
}

/// Commands that wait.
const COMMANDS: usize = 64;

impl Keeper {
    /// Starts to keep this node's share. It owns nothing yet.
    #[must_use]
    pub fn start(options: Options) -> Self {
        let (view, watched) = watch::channel(Arc::default());
        let (commands, told) = mpsc::channel(COMMANDS);
        let look = Arc::new(Notify::new());
        let me = options.me.node;
        let pause = match options.company {
            Company::Alone => LOOK_ALONE,
            Company::Others(_) => LOOK_EVERY,
        };
        let tasks = options.tasks.clone();
        let round = Round::new(options, view, look.clone(), told);
        tasks.spawn("keeper", run(round, look.clone(), pause));
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

    /// What makes the keeper look.
    #[must_use]
    pub fn nudge(&self) -> Arc<Notify> {
        self.look.clone()
    }

    /// Tells that a node's process is said to have ended, so that its shards are taken soon. To be wrong
    /// costs duplicates of what it had in flight, no more.
    pub async fn ended(&self, node: BootId, witness: Witness) {
        // The keeper ends with the node, which then needs to know nothing.
        let _ = self.commands.send(Command::Ended(node, witness)).await;
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
    pub fn is_in(&self) -> bool {
        let view = self.view.borrow();
        let me = view.node(self.me);
        me.is_some_and(|me| matches!(me.state, NodeState::Alive | NodeState::Draining))
    }

    /// Gives every shard away and leaves. Gives the number of shards on which something was still
    /// under way when the patience was over.
    pub async fn stop(&self) -> usize {
        let (reply, left) = oneshot::channel();
        if self.commands.send(Command::Stop(reply)).await.is_err() {
            return 0;
        }
        left.await.unwrap_or(0)
    }
}

async fn run(mut round: Round, look: Arc<Notify>, pause: Duration) {
    loop {
        round.run().await;
        let pause = if round.has_more_to_claim { round::BREATH } else { pause };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = look.notified() => {}
            ended = round::next_handoff(&mut round.handoffs) => round.conclude(ended),
            command = round.commands.recv() => match command {
                Some(Command::Ended(node, witness)) => round.ended(node, witness),
                Some(Command::Stop(reply)) => {
                    // Whoever asked may have given up.
                    let _ = reply.send(round.leave().await);
                    return;
                }
                None => return,
            },
        }
    }
}
