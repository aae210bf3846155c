//! Whether this node may still act as the owner of its shards: it has renewed its lease so lately
//! that nobody can have taken it for dead. Looked at before every attempt, so that a process that
//! was stopped begins nothing when it is woken, before it has even noticed that it slept.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;

use crate::membership::SELF_STOP;

/// A node's pulse. Clones are the same.
#[derive(Clone, Debug)]
pub struct Pulse(Option<Arc<Mutex<Beat>>>);

#[derive(Debug, Default)]
struct Beat {
    /// When the newest renewal that succeeded was begun.
    last: Option<Instant>,
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
    pub fn waiting() -> Self {
        Self(Some(Arc::default()))
    }

    /// Notes a renewal that was begun at `at` and has succeeded by now. One that took too long does
    /// not undo that the pulse had stopped meanwhile.
    pub fn beat(&self, at: Instant) {
        self.with(|beat| {
            beat.lapsed |= beat.last.is_some_and(|last| last.elapsed() >= SELF_STOP);
            beat.last = Some(at);
        });
    }

    /// Whether this node may act as an owner.
    #[must_use]
    pub fn beats(&self) -> bool {
        let beats = |beat: &mut Beat| {
            !beat.lapsed && beat.last.is_some_and(|last| last.elapsed() < SELF_STOP)
        };
        self.with(beats).unwrap_or(true)
    }

    /// Notes that everything that was begun before a lapse has been ended.
    pub fn recover(&self) {
        self.with(|beat| beat.lapsed = false);
    }

    fn with<T>(&self, act: impl FnOnce(&mut Beat) -> T) -> Option<T> {
        let beat = self.0.as_ref()?;
        Some(act(&mut beat.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_lapse_is_not_healed_by_the_next_beat() {
        let pulse = Pulse::waiting();
        assert!(!pulse.beats());
        pulse.beat(Instant::now());
        assert!(pulse.beats());
        tokio::time::sleep(SELF_STOP - Duration::from_millis(1)).await;
        assert!(pulse.beats());
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(!pulse.beats());
        pulse.beat(Instant::now());
        assert!(!pulse.beats(), "others may have taken over meanwhile");
        pulse.recover();
        assert!(pulse.beats());
    }

    #[tokio::test(start_paused = true)]
    async fn a_renewal_that_comes_through_too_late_does_not_heal_it() {
        let pulse = Pulse::waiting();
        pulse.beat(Instant::now());
        tokio::time::sleep(SELF_STOP - Duration::from_secs(1)).await;
        let began = Instant::now();
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(!pulse.beats());
        pulse.beat(began);
        assert!(!pulse.beats(), "it had stopped meanwhile, whenever the renewal was begun");
    }

    #[test]
    fn a_node_alone_has_nobody_to_fear() {
        assert!(Pulse::steady().beats());
    }
}
