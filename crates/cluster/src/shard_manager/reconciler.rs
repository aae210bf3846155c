//! One pass of the shard manager: observe, plan, act.

mod act;
mod observe;
mod plan;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use postrider_domain::assignment::Shard;
use postrider_domain::ids::BootId;
use postrider_store::kv::Error;
use postrider_store::{Ownership, Records};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use tokio::sync::{mpsc, watch};
use tokio::task::{self, JoinError, JoinSet};
use tokio::time::Instant;

use super::handoff::Handoff;
use super::{CheckTrigger, ClusterMode, Command, Identity, Options, ShardWorkers};
use crate::lease_renewal::LeaseRenewer;
use crate::lease_validity::LeaseValidity;
use crate::membership::{ExitEvidence, Membership};
use crate::metrics::Instruments;
use crate::shard_guard::ShardGrant;
use crate::view::View;

/// After a shard has moved between live nodes, it does not move again for this long.
const MIN_RESIDENCE: Duration = Duration::from_secs(60);
/// Maximum number of shards claimed per transaction, so that a takeover causes no thundering herd.
const CLAIM_BATCH: usize = 32;
/// The pause between two batches of claims.
pub(super) const CLAIM_PAUSE: Duration = Duration::from_millis(20);
/// The maximum time that one pass spends on claims. Publishing the view and starting work on shards
/// that other nodes have handed over wait meanwhile.
const CLAIM_TIME_LIMIT: Duration = Duration::from_secs(1);
/// The maximum jitter before the shards of a dead node are claimed.
const TAKEOVER_JITTER_MS: u64 = 150;
/// How often a leaving node checks whether its handoffs have finished.
const LEAVE_POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The shard manager's state between passes.
pub(super) struct Reconciler {
    records: Records,
    me: Identity,
    mode: ClusterMode,
    shard_workers: Arc<dyn ShardWorkers>,
    drain_timeout: Duration,
    rng: SmallRng,
    view: watch::Sender<Arc<View>>,
    pub(super) check_trigger: CheckTrigger,
    pub(super) commands: mpsc::Receiver<Command>,
    /// `None` for a single node.
    lease_renewer: Option<LeaseRenewer>,
    validity: LeaseValidity,
    membership: Membership,
    /// Reports of exited nodes since the leases were last read.
    reported_exits: HashMap<BootId, ExitEvidence>,
    /// The number of observations, used as the lease revision of a single node.
    observations: u64,
    ownership: Option<Ownership>,
    /// When a shard was last observed to move from one live node to another.
    moved_at: HashMap<Shard, Instant>,
    /// The shards that this node works on, drains or hands over.
    shards: HashMap<Shard, ShardState>,
    /// The epoch under which this node last worked on a shard.
    last_epochs: HashMap<Shard, u64>,
    /// At most one for each shard.
    pub(super) handoffs: JoinSet<Handoff>,
    /// Shards that were given up before all their work in flight had ended.
    drain_timeouts: usize,
    leaving: bool,
    /// This node cannot work on its shards, and leaves them to the other nodes until it can.
    yielding: bool,
    /// The last pass ended before all planned shards were claimed.
    pub(super) has_more_to_claim: bool,
    instruments: Instruments,
    /// Whether the store failed in the last pass. The failure has been logged.
    store_failing: bool,
}

enum ShardState {
    /// This node works on the shard.
    Owned(ShardGrant),
    /// The guard is revoked, and work is still in flight. The shard is released at `deadline` even
    /// so: the fence rejects late writes.
    Draining { grant: ShardGrant, deadline: Instant },
    /// This task hands the shard over. It takes at most the drain timeout and one transaction.
    HandingOver(task::Id),
}

/// The task of a handoff with its result, or the panic of the task.
pub(super) type HandoffResult = Result<(task::Id, Handoff), JoinError>;

impl Reconciler {
    pub(super) fn new(options: Options, commands: mpsc::Receiver<Command>) -> Self {
        let Options {
            records,
            me,
            mode,
            shard_workers,
            drain_timeout,
            view,
            check_trigger,
            uptime,
            seed,
            tasks,
        } = options;
        let validity = match mode {
            ClusterMode::Single => LeaseValidity::always(),
            ClusterMode::Clustered(_) => LeaseValidity::unconfirmed(uptime),
        };
        let lease_renewer = match mode {
            ClusterMode::Single => None,
            ClusterMode::Clustered(_) => {
                Some(LeaseRenewer::start(records.clone(), &me, validity.clone(), &tasks))
            }
        };
        Self {
            records,
            me,
            mode,
            shard_workers,
            drain_timeout,
            rng: SmallRng::seed_from_u64(seed),
            view,
            check_trigger,
            commands,
            lease_renewer,
            validity,
            membership: Membership::default(),
            reported_exits: HashMap::new(),
            observations: 0,
            ownership: None,
            moved_at: HashMap::new(),
            shards: HashMap::new(),
            last_epochs: HashMap::new(),
            handoffs: JoinSet::new(),
            drain_timeouts: 0,
            leaving: false,
            yielding: false,
            has_more_to_claim: false,
            instruments: Instruments::new(),
            store_failing: false,
        }
    }

    /// Records a report that a node's process has exited. The report takes effect when the leases
    /// are next read: only then is the last revision that the process wrote known, which might
    /// otherwise be mistaken for a sign of life.
    pub(super) fn report_exit(&mut self, node: BootId, evidence: ExitEvidence) {
        tracing::info!(%node, ?evidence, "a node's process is reported to have exited");
        let known = self.reported_exits.entry(node).or_insert(evidence);
        if evidence == ExitEvidence::ThisHost {
            *known = evidence;
        }
    }

    /// Leaves this node's shards to the other nodes, or takes its share again.
    pub(super) fn set_yielding(&mut self, yielding: bool) {
        self.yielding = yielding;
        if let Some(lease_renewer) = &self.lease_renewer {
            lease_renewer.set_draining(yielding);
        }
    }

    /// Runs one pass.
    pub(super) async fn run(&mut self) {
        self.has_more_to_claim = false;
        self.collect_handoffs();
        if !self.validity.is_valid() {
            self.self_fence();
            // Renewals since the lapse count from here on: every guard from before it is revoked.
            self.validity.clear_lapse();
        }
        if !self.validity.is_valid() {
            return self.publish();
        }
        match self.reconcile_once().await {
            Ok(()) => self.store_failing = false,
            Err(error) if self.store_failing => {
                tracing::debug!(%error, "reading the cluster's state failed again")
            }
            Err(error) => {
                tracing::warn!(%error, "reading the cluster's state failed; retrying");
                self.store_failing = true;
            }
        }
        self.publish();
    }

    async fn reconcile_once(&mut self) -> Result<(), Error> {
        self.observe().await?;
        self.reconcile().await?;
        let plan = self.plan();
        for (shard, target) in plan.moves {
            self.hand_off(shard, target);
        }
        self.claim_unowned(&plan.claims).await?;
        self.remove_dead_leases().await
    }

    /// Hands over every shard and leaves the cluster. Returns the number of shards whose work in
    /// flight had not ended when the drain timeout expired.
    pub(super) async fn leave(mut self) -> usize {
        self.leaving = true;
        self.drain_timeouts = 0;
        if let Some(lease_renewer) = &self.lease_renewer {
            lease_renewer.set_draining(true);
        }
        let deadline = Instant::now() + self.drain_timeout;
        while !self.shards.is_empty() && Instant::now() < deadline {
            self.run().await;
            if !self.has_targets() {
                self.revoke_all();
            }
            tokio::select! {
                () = tokio::time::sleep(LEAVE_POLL_INTERVAL) => {}
                () = self.check_trigger.triggered() => {}
                ended = next_handoff(&mut self.handoffs) => self.finish_handoff(ended),
            }
            self.collect_handoffs();
        }
        // Unfinished handoffs continue in the background. The other nodes claim the remaining
        // shards once the lease is removed.
        self.handoffs.detach_all();
        self.revoke_all();
        self.collect_handoffs();
        if let Some(lease_renewer) = &mut self.lease_renewer {
            lease_renewer.release().await;
        }
        self.shards.len() + self.drain_timeouts
    }
}

/// Waits until a handoff has finished. Never returns while none is in progress.
pub(super) async fn next_handoff(handoffs: &mut JoinSet<Handoff>) -> HandoffResult {
    match handoffs.join_next_with_id().await {
        Some(ended) => ended,
        None => std::future::pending().await,
    }
}
