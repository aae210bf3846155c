//! Whether this node may still act as the owner of its shards: it has renewed its lease recently
//! enough that no other node can consider it dead. Checked before every attempt, so that a process
//! that was paused starts no attempt when it resumes, before it has even noticed the pause.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::membership::SELF_FENCE_AFTER;

/// How long the machine has been running. This clock cannot be set, and it advances while the
/// machine is suspended (CLOCK_BOOTTIME on Linux), as do the clocks of the nodes that watch the
/// lease. The clock behind tokio's `Instant` stops meanwhile.
pub trait Uptime: Send + Sync + 'static {
    /// The time since a fixed moment.
    fn uptime(&self) -> Duration;
}

/// The validity of a node's lease. Clones share it.
#[derive(Clone)]
pub struct LeaseValidity(Option<Arc<Tracked>>);

struct Tracked {
    clock: Arc<dyn Uptime>,
    renewals: Mutex<Renewals>,
}

/// When a renewal was started, for [`LeaseValidity::renewed`].
#[derive(Clone, Copy, Debug)]
pub struct RenewalStart(Duration);

#[derive(Debug, Default)]
struct Renewals {
    /// When the latest successful renewal was started.
    renewed_at: Option<Duration>,
    /// The lease had expired before that, and the guards from before have not all been revoked yet.
    lapsed: bool,
}

impl LeaseValidity {
    /// The validity of a single node, which needs no lease.
    #[must_use]
    pub fn always() -> Self {
        Self(None)
    }

    /// The validity of a lease that has not been written yet.
    #[must_use]
    pub fn unconfirmed(clock: Arc<dyn Uptime>) -> Self {
        Self(Some(Arc::new(Tracked { clock, renewals: Mutex::default() })))
    }

    /// Marks the start of a renewal.
    #[must_use]
    pub fn start_renewal(&self) -> RenewalStart {
        RenewalStart(self.0.as_ref().map_or(Duration::ZERO, |tracked| tracked.clock.uptime()))
    }

    /// Records a successful renewal. If the lease expired while the renewal was in flight, it stays
    /// invalid until [`clear_lapse`](Self::clear_lapse).
    pub fn renewed(&self, RenewalStart(at): RenewalStart) {
        self.with(|renewals, now| {
            renewals.lapsed |= renewals.renewed_at.is_some() && !renewals.is_current(now);
            renewals.renewed_at = renewals.renewed_at.max(Some(at));
        });
    }

    /// Whether this node may act as an owner of shards.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.with(|renewals, now| !renewals.lapsed && renewals.is_current(now)).unwrap_or(true)
    }

    /// Declares that every guard from before the lapse has been revoked.
    pub fn clear_lapse(&self) {
        self.with(|renewals, _| renewals.lapsed = false);
    }

    fn with<T>(&self, act: impl FnOnce(&mut Renewals, Duration) -> T) -> Option<T> {
        let Tracked { clock, renewals } = &**self.0.as_ref()?;
        let mut renewals = renewals.lock();
        Some(act(&mut renewals, clock.uptime()))
    }
}

impl Renewals {
    fn is_current(&self, now: Duration) -> bool {
        self.renewed_at.is_some_and(|last| now.saturating_sub(last) < SELF_FENCE_AFTER)
    }
}

impl fmt::Debug for LeaseValidity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LeaseValidity")
            .field(&self.0.as_ref().map(|tracked| &tracked.renewals))
            .finish()
    }
}

/// The clock of tests with paused time.
#[cfg(test)]
pub(crate) struct TestUptime {
    started: tokio::time::Instant,
    suspended: Mutex<Duration>,
}

#[cfg(test)]
impl TestUptime {
    pub(crate) fn new() -> Arc<Self> {
        let started = tokio::time::Instant::now();
        Arc::new(Self { started, suspended: Mutex::default() })
    }

    /// Simulates a suspended machine: no other clock advances.
    pub(crate) fn suspend(&self, time: Duration) {
        *self.suspended.lock() += time;
    }
}

#[cfg(test)]
impl Uptime for TestUptime {
    fn uptime(&self) -> Duration {
        self.started.elapsed() + *self.suspended.lock()
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_lapse_outlasts_the_next_renewal() {
        let validity = LeaseValidity::unconfirmed(TestUptime::new());
        assert!(!validity.is_valid());
        validity.renewed(validity.start_renewal());
        assert!(validity.is_valid());
        sleep(SELF_FENCE_AFTER - Duration::from_millis(1)).await;
        assert!(validity.is_valid());
        sleep(Duration::from_millis(1)).await;
        assert!(!validity.is_valid());
        validity.renewed(validity.start_renewal());
        assert!(!validity.is_valid(), "other nodes may have taken over meanwhile");
        validity.clear_lapse();
        assert!(validity.is_valid());
    }

    #[tokio::test(start_paused = true)]
    async fn a_renewal_that_completes_after_the_lapse_does_not_clear_it() {
        let validity = LeaseValidity::unconfirmed(TestUptime::new());
        validity.renewed(validity.start_renewal());
        sleep(SELF_FENCE_AFTER - Duration::from_secs(1)).await;
        let began = validity.start_renewal();
        sleep(Duration::from_secs(2)).await;
        assert!(!validity.is_valid());
        validity.renewed(began);
        assert!(
            !validity.is_valid(),
            "the lease expired meanwhile, whenever the renewal was started"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn renewals_that_complete_out_of_order_do_not_shorten_it() {
        let validity = LeaseValidity::unconfirmed(TestUptime::new());
        let early = validity.start_renewal();
        sleep(Duration::from_secs(1)).await;
        validity.renewed(validity.start_renewal());
        validity.renewed(early);
        sleep(SELF_FENCE_AFTER - Duration::from_millis(1)).await;
        assert!(validity.is_valid(), "the later of the two counts");
    }

    #[tokio::test(start_paused = true)]
    async fn a_suspended_machine_loses_its_lease() {
        let clock = TestUptime::new();
        let validity = LeaseValidity::unconfirmed(clock.clone());
        validity.renewed(validity.start_renewal());
        let under_way = validity.start_renewal();
        clock.suspend(SELF_FENCE_AFTER);
        assert!(!validity.is_valid(), "the lease is invalid before anything else runs");
        validity.renewed(under_way);
        validity.renewed(validity.start_renewal());
        assert!(!validity.is_valid(), "a renewal does not clear the lapse");
    }

    #[test]
    fn the_validity_of_a_single_node_never_ends() {
        assert!(LeaseValidity::always().is_valid());
    }
}
