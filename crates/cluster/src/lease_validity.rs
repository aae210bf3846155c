//! Whether this node may still act as the owner of its shards: it has renewed its lease so lately
//! that nobody can have taken it for dead. Looked at before every attempt, so that a process that
//! was stopped begins nothing when it is woken, before it has even noticed that it slept.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::membership::SELF_STOP;

/// How long the machine has run. Nobody can set this clock, and it goes on while the machine is
/// suspended (CLOCK_BOOTTIME on Linux), as the clocks of the nodes that watch the lease do. The
/// clock under tokio's `Instant` stands still meanwhile.
pub trait Uptime: Send + Sync + 'static {
    /// The time since some fixed moment.
    fn uptime(&self) -> Duration;
}

/// A node's validity. Clones are the same.
#[derive(Clone)]
pub struct LeaseValidity(Option<Arc<Measured>>);

struct Measured {
    clock: Arc<dyn Uptime>,
    renewals: Mutex<Renewals>,
}

/// When a renewal was begun, for [`LeaseValidity::renewals`].
#[derive(Clone, Copy, Debug)]
pub struct RenewalStart(Duration);

#[derive(Debug, Default)]
struct Renewals {
    /// When the newest renewal that succeeded was begun.
    renewed_at: Option<Duration>,
    /// It had stopped before that, and nobody has drawn the consequences.
    lapsed: bool,
}

impl LeaseValidity {
    /// The validity of a node that is alone, which nobody can take for dead.
    #[must_use]
    pub fn always() -> Self {
        Self(None)
    }

    /// A validity that has not begun to renewals.
    #[must_use]
    pub fn unconfirmed(clock: Arc<dyn Uptime>) -> Self {
        Self(Some(Arc::new(Measured { clock, renewals: Mutex::default() })))
    }

    /// A renewal begins.
    #[must_use]
    pub fn start_renewal(&self) -> RenewalStart {
        RenewalStart(self.0.as_ref().map_or(Duration::ZERO, |measured| measured.clock.uptime()))
    }

    /// Notes a renewal that has succeeded by now. One that took too long does not undo that the validity
    /// had stopped meanwhile.
    pub fn renewed(&self, RenewalStart(at): RenewalStart) {
        self.with(|renewals, now| {
            renewals.lapsed |= renewals.renewed_at.is_some() && !renewals.is_current(now);
            renewals.renewed_at = renewals.renewed_at.max(Some(at));
        });
    }

    /// Whether this node may act as an owner.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.with(|renewals, now| !renewals.lapsed && renewals.is_current(now)).unwrap_or(true)
    }

    /// Notes that everything that was begun before a lapse has been ended.
    pub fn clear_lapse(&self) {
        self.with(|renewals, _| renewals.lapsed = false);
    }

    fn with<T>(&self, act: impl FnOnce(&mut Renewals, Duration) -> T) -> Option<T> {
        let Measured { clock, renewals } = &**self.0.as_ref()?;
        let mut renewals = renewals.lock().unwrap_or_else(PoisonError::into_inner);
        Some(act(&mut renewals, clock.uptime()))
    }
}

impl Renewals {
    fn is_current(&self, now: Duration) -> bool {
        self.renewed_at.is_some_and(|last| now.saturating_sub(last) < SELF_STOP)
    }
}

impl fmt::Debug for LeaseValidity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LeaseValidity")
            .field(&self.0.as_ref().map(|measured| &measured.renewals))
            .finish()
    }
}

/// The clock of tests whose time is paused.
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

    /// The machine has been suspended: no other clock has noticed.
    pub(crate) fn suspend(&self, time: Duration) {
        *self.suspended.lock().unwrap() += time;
    }
}

#[cfg(test)]
impl Uptime for TestUptime {
    fn uptime(&self) -> Duration {
        self.started.elapsed() + *self.suspended.lock().unwrap()
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_lapse_is_not_healed_by_the_next_beat() {
        let validity = LeaseValidity::unconfirmed(TestUptime::new());
        assert!(!validity.is_valid());
        validity.renewed(validity.start_renewal());
        assert!(validity.is_valid());
        sleep(SELF_STOP - Duration::from_millis(1)).await;
        assert!(validity.is_valid());
        sleep(Duration::from_millis(1)).await;
        assert!(!validity.is_valid());
        validity.renewed(validity.start_renewal());
        assert!(!validity.is_valid(), "others may have taken over meanwhile");
        validity.clear_lapse();
        assert!(validity.is_valid());
    }

    #[tokio::test(start_paused = true)]
    async fn a_renewal_that_comes_through_too_late_does_not_heal_it() {
        let validity = LeaseValidity::unconfirmed(TestUptime::new());
        validity.renewed(validity.start_renewal());
        sleep(SELF_STOP - Duration::from_secs(1)).await;
        let began = validity.start_renewal();
        sleep(Duration::from_secs(2)).await;
        assert!(!validity.is_valid());
        validity.renewed(began);
        assert!(!validity.is_valid(), "it had stopped meanwhile, whenever the renewal was begun");
    }

    #[tokio::test(start_paused = true)]
    async fn renewals_that_end_out_of_order_do_not_set_it_back() {
        let validity = LeaseValidity::unconfirmed(TestUptime::new());
        let early = validity.start_renewal();
        sleep(Duration::from_secs(1)).await;
        validity.renewed(validity.start_renewal());
        validity.renewed(early);
        sleep(SELF_STOP - Duration::from_millis(1)).await;
        assert!(validity.is_valid(), "the later of the two counts");
    }

    #[tokio::test(start_paused = true)]
    async fn it_stops_while_the_machine_is_suspended() {
        let clock = TestUptime::new();
        let validity = LeaseValidity::unconfirmed(clock.clone());
        validity.renewed(validity.start_renewal());
        let under_way = validity.start_renewal();
        clock.suspend(SELF_STOP);
        assert!(!validity.is_valid(), "before anything else runs");
        validity.renewed(under_way);
        validity.renewed(validity.start_renewal());
        assert!(!validity.is_valid(), "a renewal does not undo it");
    }

    #[test]
    fn a_node_alone_has_nobody_to_fear() {
        assert!(LeaseValidity::always().is_valid());
    }
}
