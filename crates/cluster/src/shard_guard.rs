//! A shard that is held, as a value. Whoever works on the shard holds a clone of its [`ShardGuard`];
//! the shard_manager holds the [`ShardGrant`]. When the guard is over nobody begins anything new, and when
//! the last clone is dropped the shard_manager learns it: only then is the shard given away. So the end
//! of the work cannot be forgotten, and nobody can work without having been given the right.

use std::sync::Arc;

use postrider_domain::assignment::Fence;
use tokio::sync::oneshot;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::lease_validity::LeaseValidity;

/// The right to work on a shard. Clones are the same right.
#[derive(Clone, Debug)]
pub struct ShardGuard(Arc<Held>);

#[derive(Debug)]
struct Held {
    fence: Fence,
    validity: LeaseValidity,
    revoked: CancellationToken,
    /// Its end tells the grant that the last clone is gone.
    _last: oneshot::Sender<()>,
}

/// The shard_manager's side of a guard, which is over when this is dropped.
#[derive(Debug)]
pub struct ShardGrant {
    fence: Fence,
    revoked: DropGuard,
    released: oneshot::Receiver<()>,
}

/// Tells when a guard is over, without being part of it.
#[derive(Clone, Debug)]
pub struct ShardRevoked(CancellationToken);

impl ShardGuard {
    /// Begins a guard under `fence`, which is over as well when the node's `validity` stops.
    #[must_use]
    pub fn begin(fence: Fence, validity: LeaseValidity) -> (Self, ShardGrant) {
        let revoked = CancellationToken::new();
        let (last, released) = oneshot::channel();
        let held = Held { fence, validity, revoked: revoked.clone(), _last: last };
        (Self(Arc::new(held)), ShardGrant { fence, revoked: revoked.drop_guard(), released })
    }

    /// What every write of the shard's owner presents.
    #[must_use]
    pub fn fence(&self) -> Fence {
        self.0.fence
    }

    /// Whether nothing new may begin.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.0.revoked.is_cancelled() || !self.0.validity.is_valid()
    }

    /// Ends it: the store has refused its fence.
    pub fn give_up(&self) {
        self.0.revoked.cancel();
    }

    /// For those who wait for its end and must not keep it from being released.
    #[must_use]
    pub fn revoked(&self) -> ShardRevoked {
        ShardRevoked(self.0.revoked.clone())
    }
}

impl ShardGrant {
    /// The fence that the guard began under.
    #[must_use]
    pub fn fence(&self) -> Fence {
        self.fence
    }

    /// Ends the guard: nothing new begins.
    pub fn end(&self) {
        self.revoked.token().cancel();
    }

    /// Whether it was ended, by either side.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.revoked.token().is_cancelled()
    }

    /// Whether nobody works on the shard any more.
    #[must_use]
    pub fn is_released(&mut self) -> bool {
        self.released.is_terminated()
            || !matches!(self.released.try_recv(), Err(oneshot::error::TryRecvError::Empty))
    }

    /// Waits until nobody works on the shard any more.
    pub async fn released(&mut self) {
        if !self.released.is_terminated() {
            // The sender sends nothing; it is dropped.
            let _ = (&mut self.released).await;
        }
    }
}

impl ShardRevoked {
    /// Whether the guard was ended.
    #[must_use]
    pub fn is_revoked(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Waits for the end of the guard.
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
    async fn it_is_released_with_its_last_clone() {
        let (guard, mut grant) = ShardGuard::begin(FENCE, LeaseValidity::always());
        let clone = guard.clone();
        grant.end();
        assert!(clone.is_over() && grant.is_over());
        clone.revoked().wait().await;
        drop(guard);
        assert!(!grant.is_released());
        drop(clone);
        assert!(grant.is_released());
        grant.released().await;
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_over_when_the_pulse_stops() {
        let validity = LeaseValidity::unconfirmed(TestUptime::new());
        let (guard, grant) = ShardGuard::begin(FENCE, validity.clone());
        assert!(guard.is_over(), "it has not begun to renewals");
        validity.renewed(validity.start_renewal());
        assert!(!guard.is_over());
        tokio::time::sleep(crate::membership::SELF_STOP).await;
        assert!(guard.is_over() && !grant.is_over(), "before anybody has noticed");
    }

    /// A shard_manager that panicked, or was dropped, can no longer see to it that a shard is released.
    #[tokio::test]
    async fn it_is_over_when_the_tenancy_is_gone() {
        let (guard, grant) = ShardGuard::begin(FENCE, LeaseValidity::always());
        assert!(!guard.is_over());
        drop(grant);
        assert!(guard.is_over());
    }

    #[tokio::test]
    async fn those_who_work_can_give_it_up() {
        let (guard, mut grant) = ShardGuard::begin(FENCE, LeaseValidity::always());
        let revoked = guard.revoked();
        guard.give_up();
        revoked.wait().await;
        assert!(grant.is_over() && !grant.is_released());
        drop(guard);
        grant.released().await;
    }
}
