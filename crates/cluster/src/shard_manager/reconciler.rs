//! One round of the shard_manager: observe, plan, act.

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

use super::handoff::{self, Ended, Handoff};
use super::{ClusterMode, Command, Identity, Options, ShardWorkers};
use crate::lease_renewal::LeaseRenewer;
use crate::lease_validity::LeaseValidity;
use crate::membership::{ExitEvidence, Membership};
use crate::metrics::Instruments;
use crate::shard_guard::{ShardGrant, ShardGuard};
use crate::view::{NodeView, View};
use postrider_domain::node::NodeState;

/// Between live nodes, a shard does not move again for so long.
const MIN_RESIDENCE: Duration = Duration::from_secs(60);
/// Shards that are taken at once, so that a takeover does not come as a herd.
const CLAIM_BATCH: usize = 32;
/// The pause between two such handfuls.
pub(super) const CLAIM_PAUSE: Duration = Duration::from_millis(20);
/// How long one round claims at most. The view and what others have handed over wait meanwhile.
const CLAIM_TIME_LIMIT: Duration = Duration::from_secs(1);
/// Most jitter before the shards of a dead node are taken.
const TAKEOVER_JITTER_MS: u64 = 150;
/// How often a leaving node looks whether its handoffs have ended.
const LEAVE_POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The shard_manager's state between rounds.
pub(super) struct Reconciler {
    records: Records,
    me: Identity,
    mode: ClusterMode,
    shard_workers: Arc<dyn ShardWorkers>,
    drain_timeout: Duration,
    rng: SmallRng,
    view: watch::Sender<Arc<View>>,
    look: Arc<Notify>,
    pub(super) commands: mpsc::Receiver<Command>,
    /// None for a node that is alone.
    lease_renewer: Option<LeaseRenewer>,
    validity: LeaseValidity,
    membership: Membership,
    /// Nodes whose processes have ended since the leases were last read.
    ended: HashMap<BootId, ExitEvidence>,
    /// How often this node has observed; what moves the lease of one that is alone.
    observations: u64,
    ownership: Option<Ownership>,
    /// When a shard was last seen to move from one live node to another.
    moved: HashMap<Shard, Instant>,
    /// What this node does about shards.
    held: HashMap<Shard, ShardState>,
    /// The epoch under which this node last worked on a shard.
    used: HashMap<Shard, u64>,
    /// At most one for each shard.
    pub(super) handoffs: JoinSet<Handoff>,
    /// Handoffs that did not wait for the end of everything.
    overruns: usize,
    leaving: bool,
    /// The last round did not come to the end of its claims.
    pub(super) has_more_to_claim: bool,
    instruments: Instruments,
    /// Whether the store failed in the last reconciler, which was said then.
    store_failing: bool,
}

/// What this node does about a shard.
enum ShardState {
    /// It works on it.
    Owned(ShardGrant),
    /// The guard is over, and something is still under way. At `deadline` the shard is let go all
    /// the same: the fence refuses what comes later.
    Draining { grant: ShardGrant, deadline: Instant },
    /// It is being handed over, by this task, which takes no longer than the drain timeout and one
    /// transaction.
    HandingOver(task::Id),
}

/// A handoff's task and what came of it, or that it panicked.
pub(super) type EndedHandoff = Result<(task::Id, Handoff), JoinError>;

impl Reconciler {
    pub(super) fn new(
        options: Options,
        view: watch::Sender<Arc<View>>,
        look: Arc<Notify>,
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
            look,
            commands,
            lease_renewer,
            validity,
            membership: Membership::default(),
            ended: HashMap::new(),
            observations: 0,
            ownership: None,
            moved: HashMap::new(),
            held: HashMap::new(),
            used: HashMap::new(),
            handoffs: JoinSet::new(),
            overruns: 0,
            leaving: false,
            has_more_to_claim: false,
            instruments: Instruments::new(),
            store_failing: false,
        }
    }

    /// Notes that a node's process has ended. It counts from when the leases are read next: then the
    /// last revision that it wrote is known, and cannot be taken for a sign of life.
    pub(super) fn ended(&mut self, node: BootId, evidence: ExitEvidence) {
        tracing::info!(%node, ?evidence, "a node is reported to have ended");
        let known = self.ended.entry(node).or_insert(evidence);
        if evidence == ExitEvidence::ThisHost {
            *known = evidence;
        }
    }

    /// Observes, plans and acts once.
    pub(super) async fn run(&mut self) {
        self.has_more_to_claim = false;
        self.collect_handoffs();
        if !self.validity.is_valid() {
            self.suspend();
            // If it beats again, it is from here on.
            self.validity.clear_lapse();
        }
        if !self.validity.is_valid() {
            return self.publish();
        }
        match self.reconcile_once().await {
            Ok(()) => self.store_failing = false,
            Err(error) if self.store_failing => {
                tracing::debug!(%error, "the cluster cannot be observed")
            }
            Err(error) => {
                tracing::warn!(%error, "the cluster cannot be observed; trying again");
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
        self.forget().await
    }

    /// Takes in what has come to an end since the last reconciler.
    fn collect_handoffs(&mut self) {
        while let Some(ended) = self.handoffs.try_join_next_with_id() {
            self.finish_handoff(ended);
        }
        let over = self.held.iter_mut().filter_map(|(shard, held)| match held {
            ShardState::Owned(grant) => (grant.is_over() || grant.is_released()).then_some(*shard),
            ShardState::Draining { .. } | ShardState::HandingOver(_) => None,
        });
        for shard in over.collect::<Vec<_>>() {
            self.end(shard);
        }
        let now = Instant::now();
        let overruns = &mut self.overruns;
        self.held.retain(|shard, held| {
            let ShardState::Draining { grant, deadline } = held else { return true };
            let (is_released, is_late) = (grant.is_released(), now >= *deadline);
            if is_late && !is_released {
                tracing::warn!(shard, "a shard is let go while something on it is still under way");
                *overruns += 1;
            }
            !is_released && !is_late
        });
    }

    /// Takes in what came of a handoff.
    pub(super) fn finish_handoff(&mut self, ended: EndedHandoff) {
        let (task, handoff) = match ended {
            Ok((task, handoff)) => (task, Some(handoff)),
            Err(error) => {
                tracing::error!(%error, "handing a shard over failed");
                (error.id(), None)
            }
        };
        // If it failed, the store tells who owns the shard now.
        self.held.retain(|_, held| !matches!(held, ShardState::HandingOver(by) if *by == task));
        let Some(Handoff { ended, overrun }) = handoff else { return };
        self.overruns += usize::from(overrun);
        if let (Ended::HandedOver(fence), ClusterMode::Clustered(others)) = (ended, &self.mode) {
            others.handed_over(fence);
        }
    }

    /// Ends the guard of a shard, if there is one: nothing more begins on it.
    fn end(&mut self, shard: Shard) {
        let Some(grant) = self.take_working(shard) else { return };
        grant.end();
        let deadline = Instant::now() + self.drain_timeout;
        self.held.insert(shard, ShardState::Draining { grant, deadline });
    }

    fn end_all(&mut self) {
        let held: Vec<Shard> = self.held.keys().copied().collect();
        held.into_iter().for_each(|shard| self.end(shard));
    }

    fn take_working(&mut self, shard: Shard) -> Option<ShardGrant> {
        match self.held.remove(&shard)? {
            ShardState::Owned(grant) => Some(grant),
            other => {
                self.held.insert(shard, other);
                None
            }
        }
    }

    /// This node may be taken for dead: it begins nothing more.
    fn suspend(&mut self) {
        let working =
            self.held.values().filter(|held| matches!(held, ShardState::Owned(_))).count();
        if working > 0 {
            tracing::warn!(
                shards = working,
                "this node's lease is not renewed; it gives its shards up"
            );
        }
        self.end_all();
    }

    async fn observe(&mut self) -> Result<(), Error> {
        self.observations += 1;
        let leases = match self.lease_renewer {
            Some(_) => self.records.leases().await?,
            None => vec![self.imagined_lease()],
        };
        let now = Instant::now();
        for lease in leases.iter().filter(|lease| !lease.is_readable) {
            if self.membership.state(lease.node, now).is_none() {
                tracing::warn!(node = %lease.node, "a node's lease cannot be read; a later version's?");
            }
        }
        self.membership.observe(leases, now);
        for (node, evidence) in self.ended.drain() {
            self.membership.ended(node, evidence);
        }
        let since = self.ownership.as_ref().map(|ownership| ownership.version);
        if let Some(new) = self.records.ownership(since).await? {
            self.note_moves(&new, now);
            self.ownership = Some(new);
        }
        Ok(())
    }

    /// What a node that is alone would find, if it renewed a lease at every look.
    fn imagined_lease(&self) -> Lease {
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
            let was_there = self.membership.state(before.node, now);
            let was_there = was_there.is_some_and(|state| state != NodeState::Dead);
            if before.node != after.node && was_there {
                self.moved.insert(shard, now);
            }
        }
    }

    /// Makes what is held here what the store says.
    async fn reconcile(&mut self) -> Result<(), Error> {
        let owners = self.ownership.as_ref().map(|ownership| ownership.owners.clone());
        let mut again = Vec::new();
        for (shard, owner) in (0..).zip(owners.unwrap_or_default()) {
            let mine = owner.filter(|owner| owner.node == self.me.node);
            match (self.held.get(&shard), mine) {
                (Some(held), _) => {
                    let differs = |grant: &ShardGrant| {
                        mine.is_none_or(|owner| owner.epoch != grant.fence().epoch)
                    };
                    if matches!(held, ShardState::Owned(grant) if differs(grant)) {
                        tracing::warn!(shard, "the shard has a later owner");
                        self.end(shard);
                    }
                }
                (None, None) => {}
                (None, Some(_)) if self.leaving => {}
                (None, Some(owner)) if self.used.get(&shard) == Some(&owner.epoch) => {
                    again.push((shard, Some(owner)));
                }
                (None, Some(Owner { epoch, node })) => {
                    self.begin(Fence { shard, epoch, node }).await;
                }
            }
        }
        // It was this node's before, and its guard ended without a later owner.
        self.claim(&again).await.map(drop)
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
                movable: self.moved.get(&shard).is_none_or(|at| now - *at >= MIN_RESIDENCE),
            })
            .collect();
        plan(&members, &holdings, self.me.node)
    }

    fn member<'a>(&self, lease: &'a Lease, state: NodeState) -> Option<Member<'a>> {
        // A node that leaves knows it before its lease says so, and takes nothing any more.
        let leaves = self.leaving && lease.node == self.me.node;
        let standing = match state {
            NodeState::Dead => return None,
            _ if leaves => MemberState::Draining,
            NodeState::Alive if lease.is_readable => MemberState::Alive,
            // It keeps what it has: whoever cannot be read may be well, of a later version.
            NodeState::Alive | NodeState::Suspect => MemberState::Suspect,
            NodeState::Draining => MemberState::Draining,
        };
        Some(Member { node: lease.node, name: &lease.name, state: standing })
    }

    /// Takes shards that nobody alive owns.
    async fn claim_unowned(&mut self, shards: &[Shard]) -> Result<(), Error> {
        let Some(ownership) = &self.ownership else { return Ok(()) };
        let seen: Vec<(Shard, Option<Owner>)> = shards
            .iter()
            .filter(|shard| !self.held.contains_key(shard))
            .map(|&shard| (shard, ownership.owners[usize::from(shard)]))
            .collect();
        let from_the_dead = seen.iter().filter(|(_, owner)| owner.is_some()).count();
        if from_the_dead > 0 && self.lease_renewer.is_some() {
            tracing::info!(shards = from_the_dead, "taking the shards of a node that is gone");
            let jitter = self.rng.random_range(0..TAKEOVER_JITTER_MS);
            tokio::time::sleep(Duration::from_millis(jitter)).await;
        }
        let taken = self.claim(&seen).await?;
        if self.lease_renewer.is_some() {
            self.instruments.taken_over(taken.min(from_the_dead));
        }
        Ok(())
    }

    /// Claims shards whose owners are still the given ones, and gives the number of those it got.
    /// What this round does not come to is left to the next one.
    async fn claim(&mut self, seen: &[(Shard, Option<Owner>)]) -> Result<usize, Error> {
        let (began, mut got) = (Instant::now(), 0);
        for (handful, seen) in seen.chunks(CLAIM_BATCH).enumerate() {
            let is_first = handful == 0;
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
                self.begin(fence).await;
                got += 1;
            }
        }
        Ok(got)
    }

    /// Keeps the picture of the owners up to date with what this node did; the next round reads it
    /// anew in any case.
    fn note_owner(&mut self, Fence { shard, epoch, node }: Fence) {
        if let Some(ownership) = &mut self.ownership {
            ownership.owners[usize::from(shard)] = Some(Owner { epoch, node });
        }
    }

    async fn begin(&mut self, fence: Fence) {
        let (guard, grant) = ShardGuard::begin(fence, self.validity.clone());
        self.used.insert(fence.shard, fence.epoch);
        self.held.insert(fence.shard, ShardState::Owned(grant));
        self.shard_workers.begin(guard).await;
    }

    /// Starts to hand a shard over.
    fn hand_off(&mut self, shard: Shard, target: BootId) {
        let Some(mut grant) = self.take_working(shard) else { return };
        let (records, drain_timeout) = (self.records.clone(), self.drain_timeout);
        let task = self.handoffs.spawn(async move {
            handoff::hand_over(&records, &mut grant, target, drain_timeout).await
        });
        self.held.insert(shard, ShardState::HandingOver(task.id()));
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

    /// Removes the leases of nodes that have been dead for long.
    async fn forget(&self) -> Result<(), Error> {
        for (node, revision) in self.membership.forgotten(Instant::now()) {
            if node != self.me.node {
                self.records.remove_lease(node, revision).await?;
            }
        }
        Ok(())
    }

    /// Gives every shard away and leaves. Gives the number of shards on which something was still
    /// under way when the drain timeout expired.
    pub(super) async fn leave(mut self) -> usize {
        self.leaving = true;
        self.overruns = 0;
        if let Some(lease_renewer) = &self.lease_renewer {
            lease_renewer.drain();
        }
        let deadline = Instant::now() + self.drain_timeout;
        while !self.held.is_empty() && Instant::now() < deadline {
            self.run().await;
            if !self.has_heirs() {
                self.end_all();
            }
            tokio::select! {
                () = tokio::time::sleep(LEAVE_POLL_INTERVAL) => {}
                () = self.look.notified() => {}
                ended = next_handoff(&mut self.handoffs) => self.finish_handoff(ended),
            }
            self.collect_handoffs();
        }
        // What is still being handed over goes on for a moment; the others take the rest when the
        // lease is gone.
        self.handoffs.detach_all();
        self.end_all();
        self.collect_handoffs();
        if let Some(lease_renewer) = &mut self.lease_renewer {
            lease_renewer.end().await;
        }
        self.held.len() + self.overruns
    }

    fn has_heirs(&self) -> bool {
        let nodes = self.membership.nodes(Instant::now());
        let can_take = |state| matches!(state, NodeState::Alive | NodeState::Suspect);
        nodes.iter().any(|(lease, state)| lease.node != self.me.node && can_take(*state))
    }
}

/// Waits until a handoff has ended; for ever when none is under way.
pub(super) async fn next_handoff(handoffs: &mut JoinSet<Handoff>) -> EndedHandoff {
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
