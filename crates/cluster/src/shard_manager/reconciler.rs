//! One pass of the shard manager: observe, plan, act.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use postrider_domain::assignment::{Fence, Holding, Member, MemberState, Plan, Shard, plan};
use postrider_domain::ids::BootId;
use postrider_store::kv::Error;
use postrider_store::{Lease, Owner, Ownership, Records};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::{self, JoinError, JoinSet};
use tokio::time::Instant;

use super::handoff::{self, Handoff, HandoffOutcome};
use super::{ClusterMode, Command, Identity, Options, ShardWorkers};
use crate::lease_renewal::LeaseRenewer;
use crate::lease_validity::LeaseValidity;
use crate::membership::{ExitEvidence, Membership};
use crate::metrics::Instruments;
use crate::shard_guard::{ShardGrant, ShardGuard};
use crate::view::{NodeView, View};
use postrider_domain::node::NodeState;

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
    check_now: Arc<Notify>,
    pub(super) commands: mpsc::Receiver<Command>,
    /// None for a single node.
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
    /// The last pass ended before all planned shards were claimed.
    pub(super) has_more_to_claim: bool,
    instruments: Instruments,
    /// Whether the store failed in the last pass. The failure has been logged.
    store_failing: bool,
}

enum ShardState {
    /// This node works on the shard.
    Owned(ShardGrant),
    /// The guard is revoked, and work is still in flight. The shard is released at `deadline` even so:
    /// the fence rejects late writes.
    Draining { grant: ShardGrant, deadline: Instant },
    /// This task hands the shard over. It takes at most the drain timeout and one transaction.
    HandingOver(task::Id),
}

/// The task of a handoff with its result, or the panic of the task.
pub(super) type HandoffResult = Result<(task::Id, Handoff), JoinError>;

impl Reconciler {
    pub(super) fn new(
        options: Options,
        view: watch::Sender<Arc<View>>,
        check_now: Arc<Notify>,
        commands: mpsc::Receiver<Command>,
    ) -> Self {
        let Options { records, me, mode, shard_workers, drain_timeout, uptime, seed, tasks } =
            options;
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
            check_now,
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
            has_more_to_claim: false,
            instruments: Instruments::new(),
            store_failing: false,
        }
    }

    /// Records a report that a node's process has exited. The report takes effect when the leases are
    /// next read: only then is the last revision that the process wrote known, which might otherwise be
    /// mistaken for a sign of life.
    pub(super) fn report_exit(&mut self, node: BootId, evidence: ExitEvidence) {
        tracing::info!(%node, ?evidence, "a node's process is reported to have exited");
        let known = self.reported_exits.entry(node).or_insert(evidence);
        if evidence == ExitEvidence::ThisHost {
            *known = evidence;
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

    /// Processes everything that has ended since the last pass: handoffs, revoked guards and drained
    /// shards.
    fn collect_handoffs(&mut self) {
        while let Some(ended) = self.handoffs.try_join_next_with_id() {
            self.finish_handoff(ended);
        }
        let revoked = self.shards.iter_mut().filter_map(|(shard, state)| match state {
            ShardState::Owned(grant) => {
                (grant.is_revoked() || grant.is_released()).then_some(*shard)
            }
            ShardState::Draining { .. } | ShardState::HandingOver(_) => None,
        });
        for shard in revoked.collect::<Vec<_>>() {
            self.revoke(shard);
        }
        let now = Instant::now();
        let drain_timeouts = &mut self.drain_timeouts;
        self.shards.retain(|shard, state| {
            let ShardState::Draining { grant, deadline } = state else { return true };
            let (is_released, is_late) = (grant.is_released(), now >= *deadline);
            if is_late && !is_released {
                tracing::warn!(shard, "releasing a shard with work still in flight");
                *drain_timeouts += 1;
            }
            !is_released && !is_late
        });
    }

    /// Processes the result of a handoff.
    pub(super) fn finish_handoff(&mut self, ended: HandoffResult) {
        let (task, handoff) = match ended {
            Ok((task, handoff)) => (task, Some(handoff)),
            Err(error) => {
                tracing::error!(%error, "a handoff task panicked");
                (error.id(), None)
            }
        };
        // After a failure, the next read of the store shows who owns the shard.
        self.shards.retain(|_, state| !matches!(state, ShardState::HandingOver(by) if *by == task));
        let Some(Handoff { outcome, drain_timed_out }) = handoff else { return };
        self.drain_timeouts += usize::from(drain_timed_out);
        if let (HandoffOutcome::HandedOver(fence), ClusterMode::Clustered(peers)) =
            (outcome, &self.mode)
        {
            peers.handed_over(fence);
        }
    }

    /// Revokes the guard of a shard, if it has one, so that no new work starts.
    fn revoke(&mut self, shard: Shard) {
        let Some(grant) = self.take_owned(shard) else { return };
        grant.revoke();
        let deadline = Instant::now() + self.drain_timeout;
        self.shards.insert(shard, ShardState::Draining { grant, deadline });
    }

    fn revoke_all(&mut self) {
        let shards: Vec<Shard> = self.shards.keys().copied().collect();
        shards.into_iter().for_each(|shard| self.revoke(shard));
    }

    fn take_owned(&mut self, shard: Shard) -> Option<ShardGrant> {
        match self.shards.remove(&shard)? {
            ShardState::Owned(grant) => Some(grant),
            other => {
                self.shards.insert(shard, other);
                None
            }
        }
    }

    /// Revokes all guards: other nodes may consider this node dead.
    fn self_fence(&mut self) {
        let working =
            self.shards.values().filter(|state| matches!(state, ShardState::Owned(_))).count();
        if working > 0 {
            tracing::warn!(
                shards = working,
                "this node's lease was not renewed in time; releasing its shards"
            );
        }
        self.revoke_all();
    }

    async fn observe(&mut self) -> Result<(), Error> {
        self.observations += 1;
        let leases = match self.lease_renewer {
            Some(_) => self.records.leases().await?,
            None => vec![self.synthetic_lease()],
        };
        let now = Instant::now();
        for lease in leases.iter().filter(|lease| !lease.is_readable) {
            if self.membership.state(lease.node, now).is_none() {
                tracing::warn!(node = %lease.node, "a node's lease cannot be decoded; it may be of a later version");
            }
        }
        self.membership.observe(leases, now);
        for (node, evidence) in self.reported_exits.drain() {
            self.membership.report_exit(node, evidence);
        }
        let since = self.ownership.as_ref().map(|ownership| ownership.version);
        if let Some(new) = self.records.ownership(since).await? {
            self.note_moves(&new, now);
            self.ownership = Some(new);
        }
        Ok(())
    }

    /// The lease that a single node would read if it renewed one before every observation.
    fn synthetic_lease(&self) -> Lease {
        let Identity { node, name, address, version } = self.me.clone();
        Lease {
            node,
            name,
            address,
            version,
            draining: self.leaving,
            revision: self.observations,
            is_readable: true,
        }
    }

    fn note_moves(&mut self, new: &Ownership, now: Instant) {
        let Some(old) = &self.ownership else { return };
        for (shard, (before, after)) in (0..).zip(old.owners.iter().zip(&new.owners)) {
            let (Some(before), Some(after)) = (before, after) else { continue };
            let previous_owner_alive = self.membership.state(before.node, now);
            let previous_owner_alive =
                previous_owner_alive.is_some_and(|state| state != NodeState::Dead);
            if before.node != after.node && previous_owner_alive {
                self.moved_at.insert(shard, now);
            }
        }
    }

    /// Brings the shards of this node in line with the owners in the store.
    async fn reconcile(&mut self) -> Result<(), Error> {
        let owners = self.ownership.as_ref().map(|ownership| ownership.owners.clone());
        let mut reclaims = Vec::new();
        for (shard, owner) in (0..).zip(owners.unwrap_or_default()) {
            let mine = owner.filter(|owner| owner.node == self.me.node);
            match (self.shards.get(&shard), mine) {
                (Some(state), _) => {
                    let differs = |grant: &ShardGrant| {
                        mine.is_none_or(|owner| owner.epoch != grant.fence().epoch)
                    };
                    if matches!(state, ShardState::Owned(grant) if differs(grant)) {
                        tracing::warn!(shard, "releasing a shard that has a later owner");
                        self.revoke(shard);
                    }
                }
                (None, None) => {}
                (None, Some(_)) if self.leaving => {}
                (None, Some(owner)) if self.last_epochs.get(&shard) == Some(&owner.epoch) => {
                    reclaims.push((shard, Some(owner)));
                }
                (None, Some(Owner { epoch, node })) => {
                    self.start_shard(Fence { shard, epoch, node }).await;
                }
            }
        }
        // This node is still the recorded owner, but its guard for that epoch has ended: a new epoch
        // is needed.
        self.claim(&reclaims).await.map(drop)
    }

    fn plan(&self) -> Plan {
        let Some(ownership) = &self.ownership else { return Plan::default() };
        let now = Instant::now();
        let nodes = self.membership.nodes(now);
        let members: Vec<Member<'_>> =
            nodes.iter().filter_map(|(lease, state)| self.member(lease, *state)).collect();
        if !members.iter().any(|member| member.node == self.me.node) {
            return Plan::default();
        }
        let holdings: Vec<Holding> = (0..)
            .zip(&ownership.owners)
            .map(|(shard, owner)| Holding {
                owner: owner.map(|owner| owner.node),
                movable: self.moved_at.get(&shard).is_none_or(|at| now - *at >= MIN_RESIDENCE),
            })
            .collect();
        plan(&members, &holdings, self.me.node)
    }

    fn member<'a>(&self, lease: &'a Lease, state: NodeState) -> Option<Member<'a>> {
        // A leaving node must not receive shards even before its lease says that it drains.
        let leaves = self.leaving && lease.node == self.me.node;
        let member_state = match state {
            NodeState::Dead => return None,
            _ if leaves => MemberState::Draining,
            NodeState::Alive if lease.is_readable => MemberState::Alive,
            // Keeps its shards: a node whose lease cannot be decoded may be a healthy later version.
            NodeState::Alive | NodeState::Suspect => MemberState::Suspect,
            NodeState::Draining => MemberState::Draining,
        };
        Some(Member { node: lease.node, name: &lease.name, state: member_state })
    }

    /// Claims shards without a live owner.
    async fn claim_unowned(&mut self, shards: &[Shard]) -> Result<(), Error> {
        let Some(ownership) = &self.ownership else { return Ok(()) };
        let seen: Vec<(Shard, Option<Owner>)> = shards
            .iter()
            .filter(|shard| !self.shards.contains_key(shard))
            .map(|&shard| (shard, ownership.owners[usize::from(shard)]))
            .collect();
        let from_dead_owners = seen.iter().filter(|(_, owner)| owner.is_some()).count();
        if from_dead_owners > 0 && self.lease_renewer.is_some() {
            tracing::info!(shards = from_dead_owners, "claiming the shards of a dead node");
            let jitter = self.rng.random_range(0..TAKEOVER_JITTER_MS);
            tokio::time::sleep(Duration::from_millis(jitter)).await;
        }
        let claimed = self.claim(&seen).await?;
        if self.lease_renewer.is_some() {
            self.instruments.taken_over(claimed.min(from_dead_owners));
        }
        Ok(())
    }

    /// Claims the shards whose owners are still the given ones, and returns how many were claimed.
    /// Shards that this pass does not reach are left to the next one.
    async fn claim(&mut self, seen: &[(Shard, Option<Owner>)]) -> Result<usize, Error> {
        let (began, mut claimed) = (Instant::now(), 0);
        for (batch, seen) in seen.chunks(CLAIM_BATCH).enumerate() {
            let is_first = batch == 0;
            if !is_first && self.lease_renewer.is_some() {
                tokio::time::sleep(CLAIM_PAUSE).await;
            }
            let is_due = !self.commands.is_empty() || began.elapsed() >= CLAIM_TIME_LIMIT;
            if !self.validity.is_valid() || !is_first && is_due {
                self.has_more_to_claim = true;
                break;
            }
            for fence in self.records.take_over(seen, self.me.node).await? {
                self.note_owner(fence);
                self.start_shard(fence).await;
                claimed += 1;
            }
        }
        Ok(claimed)
    }

    /// Applies a claim of this node to the owners last read. The next pass reads them again anyway.
    fn note_owner(&mut self, Fence { shard, epoch, node }: Fence) {
        if let Some(ownership) = &mut self.ownership {
            ownership.owners[usize::from(shard)] = Some(Owner { epoch, node });
        }
    }

    async fn start_shard(&mut self, fence: Fence) {
        let (guard, grant) = ShardGuard::begin(fence, self.validity.clone());
        self.last_epochs.insert(fence.shard, fence.epoch);
        self.shards.insert(fence.shard, ShardState::Owned(grant));
        self.shard_workers.begin(guard).await;
    }

    /// Starts a handoff.
    fn hand_off(&mut self, shard: Shard, target: BootId) {
        let Some(mut grant) = self.take_owned(shard) else { return };
        let (records, drain_timeout) = (self.records.clone(), self.drain_timeout);
        let task = self.handoffs.spawn(async move {
            handoff::hand_over(&records, &mut grant, target, drain_timeout).await
        });
        self.shards.insert(shard, ShardState::HandingOver(task.id()));
    }

    fn publish(&self) {
        let now = Instant::now();
        let nodes = self.membership.nodes(now);
        let view = View {
            nodes: nodes.into_iter().map(|(lease, state)| node_view(lease, state)).collect(),
            owners: self.ownership.as_ref().map(|o| o.owners.clone()).unwrap_or_default(),
        };
        self.view.send_if_modified(|current| {
            let differs = **current != view;
            if differs {
                *current = Arc::new(view);
            }
            differs
        });
    }

    /// Removes the leases of nodes that have been dead for a long time.
    async fn remove_dead_leases(&self) -> Result<(), Error> {
        for (node, revision) in self.membership.long_dead(Instant::now()) {
            if node != self.me.node {
                self.records.remove_lease(node, revision).await?;
            }
        }
        Ok(())
    }

    /// Hands over every shard and leaves the cluster. Returns the number of shards whose work in flight
    /// had not ended when the drain timeout expired.
    pub(super) async fn leave(mut self) -> usize {
        self.leaving = true;
        self.drain_timeouts = 0;
        if let Some(lease_renewer) = &self.lease_renewer {
            lease_renewer.drain();
        }
        let deadline = Instant::now() + self.drain_timeout;
        while !self.shards.is_empty() && Instant::now() < deadline {
            self.run().await;
            if !self.has_targets() {
                self.revoke_all();
            }
            tokio::select! {
                () = tokio::time::sleep(LEAVE_POLL_INTERVAL) => {}
                () = self.check_now.notified() => {}
                ended = next_handoff(&mut self.handoffs) => self.finish_handoff(ended),
            }
            self.collect_handoffs();
        }
        // Unfinished handoffs continue in the background. The other nodes claim the remaining shards
        // once the lease is removed.
        self.handoffs.detach_all();
        self.revoke_all();
        self.collect_handoffs();
        if let Some(lease_renewer) = &mut self.lease_renewer {
            lease_renewer.release().await;
        }
        self.shards.len() + self.drain_timeouts
    }

    fn has_targets(&self) -> bool {
        let nodes = self.membership.nodes(Instant::now());
        let can_take = |state| matches!(state, NodeState::Alive | NodeState::Suspect);
        nodes.iter().any(|(lease, state)| lease.node != self.me.node && can_take(*state))
    }
}

/// Waits until a handoff has finished. Never returns while none is in progress.
pub(super) async fn next_handoff(handoffs: &mut JoinSet<Handoff>) -> HandoffResult {
    match handoffs.join_next_with_id().await {
        Some(ended) => ended,
        None => std::future::pending().await,
    }
}

fn node_view(lease: &Lease, state: NodeState) -> NodeView {
    NodeView {
        node: lease.node,
        name: lease.name.clone(),
        version: lease.version.clone(),
        address: lease.address,
        state,
    }
}
