//! Acts: claims shards, starts and ends the work on them, and hands them over.

use std::time::Duration;

use postrider_domain::assignment::{Fence, Shard};
use postrider_domain::ids::BootId;
use postrider_store::Owner;
use postrider_store::kv::Error;
use rand::RngExt;
use tokio::time::Instant;

use super::{
    CLAIM_BATCH, CLAIM_PAUSE, CLAIM_TIME_LIMIT, HandoffResult, Reconciler, ShardState,
    TAKEOVER_JITTER_MS,
};
use crate::shard_guard::{ShardGrant, ShardGuard};
use crate::shard_manager::ClusterMode;
use crate::shard_manager::handoff::{self, Handoff, HandoffOutcome};

impl Reconciler {
    /// Brings the shards of this node in line with the owners in the store.
    pub(super) async fn reconcile(&mut self) -> Result<(), Error> {
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
        // This node is still the recorded owner, but its guard for that epoch was revoked: a new
        // epoch is needed.
        self.claim(&reclaims).await.map(drop)
    }

    /// Claims shards without a live owner.
    pub(super) async fn claim_unowned(&mut self, shards: &[Shard]) -> Result<(), Error> {
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
    pub(super) async fn claim(&mut self, seen: &[(Shard, Option<Owner>)]) -> Result<usize, Error> {
        let (began, mut claimed) = (Instant::now(), 0);
        for (batch, seen) in seen.chunks(CLAIM_BATCH).enumerate() {
            let is_first = batch == 0;
            if !is_first && self.lease_renewer.is_some() {
                tokio::time::sleep(CLAIM_PAUSE).await;
            }
            let must_stop = !self.commands.is_empty() || began.elapsed() >= CLAIM_TIME_LIMIT;
            if !self.validity.is_valid() || !is_first && must_stop {
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

    pub(super) async fn start_shard(&mut self, fence: Fence) {
        let (guard, grant) = ShardGuard::begin(fence, self.validity.clone());
        self.last_epochs.insert(fence.shard, fence.epoch);
        self.shards.insert(fence.shard, ShardState::Owned(grant));
        self.shard_workers.begin(guard).await;
    }

    /// Starts a handoff.
    pub(super) fn hand_off(&mut self, shard: Shard, target: BootId) {
        let Some(mut grant) = self.take_owned(shard) else { return };
        let (records, drain_timeout) = (self.records.clone(), self.drain_timeout);
        let task = self.handoffs.spawn(async move {
            handoff::hand_over(&records, &mut grant, target, drain_timeout).await
        });
        self.shards.insert(shard, ShardState::HandingOver(task.id()));
    }

    /// Processes everything that has ended since the last pass: handoffs, revoked guards and
    /// drained shards.
    pub(super) fn collect_handoffs(&mut self) {
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
    pub(in crate::shard_manager) fn finish_handoff(&mut self, ended: HandoffResult) {
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
    pub(super) fn revoke(&mut self, shard: Shard) {
        let Some(grant) = self.take_owned(shard) else { return };
        grant.revoke();
        let deadline = Instant::now() + self.drain_timeout;
        self.shards.insert(shard, ShardState::Draining { grant, deadline });
    }

    pub(super) fn revoke_all(&mut self) {
        let shards: Vec<Shard> = self.shards.keys().copied().collect();
        shards.into_iter().for_each(|shard| self.revoke(shard));
    }

    pub(super) fn take_owned(&mut self, shard: Shard) -> Option<ShardGrant> {
        match self.shards.remove(&shard)? {
            ShardState::Owned(grant) => Some(grant),
            other => {
                self.shards.insert(shard, other);
                None
            }
        }
    }

    /// Revokes all guards: other nodes may consider this node dead.
    pub(super) fn self_fence(&mut self) {
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
}
