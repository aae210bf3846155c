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

/// A node's pulse. Clones are the same.
#[derive(Clone)]
pub struct Pulse(Option<Arc<Counted>>);

struct Counted {
    clock: Arc<dyn Uptime>,
    beat: Mutex<Beat>,
}

/// When a renewal was begun, for [`Pulse::beat`].
#[derive(Clone, Copy, Debug)]
pub struct Began(Duration);

#[derive(Debug, Default)]
struct Beat {
    /// When the newest renewal that succeeded was begun.
    last: Option<Duration>,
    /// It had stopped before that, and nobody has drawn the consequences.
    lapsed: bool,
}

impl Pulse {
    /// The pulse of a node that is alone, which nobody can take for dead.
    #[must_use]
    pub fn steady() -> Self {
        Self(None)
    }

    /// A pulse that has not begun to beat.
    #[must_use]
    pub fn waiting(clock: Arc<dyn Uptime>) -> Self {
        Self(Some(Arc::new(Counted { clock, beat: Mutex::default() })))
    }

    /// A renewal begins.
    #[must_use]
    pub fn begin(&self) -> Began {
        Began(self.0.as_ref().map_or(Duration::ZERO, |counted| counted.clock.uptime()))
    }

    /// Notes a renewal that has succeeded by now. One that took too long does not undo that the pulse
    /// had stopped meanwhile.
    pub fn beat(&self, Began(at): Began) {
        self.with(|beat, now| {
            beat.lapsed |= beat.last.is_some() && !beat.is_fresh(now);
            beat.last = beat.last.max(Some(at));
        });
    }

    /// Whether this node may act as an owner.
    #[must_use]
    pub fn beats(&self) -> bool {
        self.with(|beat, now| !beat.lapsed && beat.is_fresh(now)).unwrap_or(true)
    }

    /// Notes that everything that was begun before a lapse has been ended.
    pub fn recover(&self) {
        self.with(|beat, _| beat.lapsed = false);
    }

    fn with<T>(&self, act: impl FnOnce(&mut Beat, Duration) -> T) -> Option<T> {
        let Counted { clock, beat } = &**self.0.as_ref()?;
        let mut beat = beat.lock().unwrap_or_else(PoisonError::into_inner);
        Some(act(&mut beat, clock.uptime()))
    }
}

impl Beat {
    fn is_fresh(&self, now: Duration) -> bool {
        self.last.is_some_and(|last| now.saturating_sub(last) < SELF_STOP)
    }
}

impl fmt::Debug for Pulse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pulse").field(&self.0.as_ref().map(|counted| &counted.beat)).finish()
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
        let pulse = Pulse::waiting(TestUptime::new());
        assert!(!pulse.beats());
        pulse.beat(pulse.begin());
        assert!(pulse.beats());
        sleep(SELF_STOP - Duration::from_millis(1)).await;
        assert!(pulse.beats());
        sleep(Duration::from_millis(1)).await;
        assert!(!pulse.beats());
        pulse.beat(pulse.begin());
        assert!(!pulse.beats(), "others may have taken over meanwhile");
        pulse.recover();
        assert!(pulse.beats());
    }

    #[tokio::test(start_paused = true)]
    async fn a_renewal_that_comes_through_too_late_does_not_heal_it() {
        let pulse = Pulse::waiting(TestUptime::new());
        pulse.beat(pulse.begin());
        sleep(SELF_STOP - Duration::from_secs(1)).await;
        let began = pulse.begin();
        sleep(Duration::from_secs(2)).await;
        assert!(!pulse.beats());
        pulse.beat(began);
        assert!(!pulse.beats(), "it had stopped meanwhile, whenever the renewal was begun");
    }

    #[tokio::test(start_paused = true)]
    async fn renewals_that_end_out_of_order_do_not_set_it_back() {
        let pulse = Pulse::waiting(TestUptime::new());
        let early = pulse.begin();
        sleep(Duration::from_secs(1)).await;
        pulse.beat(pulse.begin());
        pulse.beat(early);
        sleep(SELF_STOP - Duration::from_millis(1)).await;
        assert!(pulse.beats(), "the later of the two counts");
    }

    #[tokio::test(start_paused = true)]
    async fn it_stops_while_the_machine_is_suspended() {
        let clock = TestUptime::new();
        let pulse = Pulse::waiting(clock.clone());
        pulse.beat(pulse.begin());
        let under_way = pulse.begin();
        clock.suspend(SELF_STOP);
        assert!(!pulse.beats(), "before anything else runs");
        pulse.beat(under_way);
        pulse.beat(pulse.begin());
        assert!(!pulse.beats(), "a renewal does not undo it");
    }

    #[test]
    fn a_node_alone_has_nobody_to_fear() {
        assert!(Pulse::steady().beats());
    }
}
