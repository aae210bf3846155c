//! The right to work on a shard, as a value. Every task that works on the shard holds a clone of
//! its [`ShardGuard`]; the shard manager holds the [`ShardGrant`]. Once the guard is revoked no new
//! work starts, and when the last clone is dropped the shard manager is notified: only then may the
//! shard move. The end of the work cannot go unnoticed, and no task can work on a shard without
//! that right.

use std::sync::Arc;

use postrider_domain::assignment::Fence;
use tokio::sync::oneshot;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::lease_validity::LeaseValidity;

/// The right to work on a shard. Clones share it.
#[derive(Clone, Debug)]
pub struct ShardGuard(Arc<GuardState>);

#[derive(Debug)]
struct GuardState {
    fence: Fence,
    validity: LeaseValidity,
    revoked: CancellationToken,
    /// Dropped with the last clone, which notifies the grant.
    _last_clone: oneshot::Sender<()>,
}

/// The shard manager's side of a guard. Dropping it revokes the guard.
#[derive(Debug)]
pub struct ShardGrant {
    fence: Fence,
    revoked: DropGuard,
    released: oneshot::Receiver<()>,
}

/// Waits for a guard to be revoked without keeping it from being released.
#[derive(Clone, Debug)]
pub struct ShardRevoked(CancellationToken);

impl ShardGuard {
    /// Issues a guard under `fence`. The guard also counts as revoked while the node's lease is not
    /// valid.
    #[must_use]
    pub fn begin(fence: Fence, validity: LeaseValidity) -> (Self, ShardGrant) {
        let revoked = CancellationToken::new();
        let (last_clone, released) = oneshot::channel();
        let state =
            GuardState { fence, validity, revoked: revoked.clone(), _last_clone: last_clone };
        (Self(Arc::new(state)), ShardGrant { fence, revoked: revoked.drop_guard(), released })
    }

    /// The fence that every write by the shard's owner presents.
    #[must_use]
    pub fn fence(&self) -> Fence {
        self.0.fence
    }

    /// Whether no new work may start.
    #[must_use]
    pub fn is_revoked(&self) -> bool {
        self.0.revoked.is_cancelled() || !self.0.validity.is_valid()
    }

    /// Revokes the guard, because the store has rejected its fence.
    pub fn revoke(&self) {
        self.0.revoked.cancel();
    }

    /// For tasks that wait for the revocation but must not delay the release.
    #[must_use]
    pub fn revoked(&self) -> ShardRevoked {
        ShardRevoked(self.0.revoked.clone())
    }
}

impl ShardGrant {
    /// The fence that the guard was issued under.
    #[must_use]
    pub fn fence(&self) -> Fence {
        self.fence
    }

    /// Revokes the guard, so that no new work starts.
    pub fn revoke(&self) {
        self.revoked.token().cancel();
    }

    /// Whether the guard was revoked, by either side.
    #[must_use]
    pub fn is_revoked(&self) -> bool {
        self.revoked.token().is_cancelled()
    }

    /// Whether all clones of the guard have been dropped.
    #[must_use]
    pub fn is_released(&mut self) -> bool {
        self.released.is_terminated()
            || !matches!(self.released.try_recv(), Err(oneshot::error::TryRecvError::Empty))
    }

    /// Waits until all clones of the guard have been dropped.
    pub async fn released(&mut self) {
        if !self.released.is_terminated() {
            // The sender never sends a value; it is only dropped.
            let _ = (&mut self.released).await;
        }
    }
}

impl ShardRevoked {
    /// Whether the guard is revoked.
    #[must_use]
    pub fn is_revoked(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Waits until the guard is revoked.
    pub async fn wait(&self) {
        self.0.cancelled().await;
    }
}

#[cfg(test)]
mod tests {
    use postrider_domain::ids::BootId;

    use super::*;
    use crate::lease_validity::TestUptime;

    const FENCE: Fence = Fence { shard: 1, epoch: 2, node: BootId::MIN };

    #[tokio::test]
    async fn a_guard_is_released_with_its_last_clone() {
        let (guard, mut grant) = ShardGuard::begin(FENCE, LeaseValidity::always());
        let clone = guard.clone();
        grant.revoke();
        assert!(clone.is_revoked() && grant.is_revoked());
        clone.revoked().wait().await;
        drop(guard);
        assert!(!grant.is_released());
        drop(clone);
        assert!(grant.is_released());
        grant.released().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_guard_is_revoked_when_the_lease_expires() {
        let validity = LeaseValidity::unconfirmed(TestUptime::new());
        let (guard, grant) = ShardGuard::begin(FENCE, validity.clone());
        assert!(guard.is_revoked(), "the lease has not been renewed yet");
        validity.renewed(validity.start_renewal());
        assert!(!guard.is_revoked());
        tokio::time::sleep(crate::membership::SELF_FENCE_AFTER).await;
        assert!(
            guard.is_revoked() && !grant.is_revoked(),
            "the guard is revoked before the shard manager has reacted"
        );
    }

    /// A shard manager that panicked or was dropped can no longer track the release of a shard.
    #[tokio::test]
    async fn a_guard_is_revoked_when_its_grant_is_dropped() {
        let (guard, grant) = ShardGuard::begin(FENCE, LeaseValidity::always());
        assert!(!guard.is_revoked());
        drop(grant);
        assert!(guard.is_revoked());
    }

    #[tokio::test]
    async fn a_worker_can_revoke_its_guard() {
        let (guard, mut grant) = ShardGuard::begin(FENCE, LeaseValidity::always());
        let revoked = guard.revoked();
        guard.revoke();
        revoked.wait().await;
        assert!(grant.is_revoked() && !grant.is_released());
        drop(guard);
        grant.released().await;
    }
}
