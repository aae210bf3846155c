//! The rule for when a process that holds a lock counts as stalled and may be killed.

use std::time::Duration;

use rustix::process::Pid;
use tokio::time::Instant;

use super::process::{ProcessIdentity, ProcessState};

/// How long a lock holder may be stopped by a signal or a debugger.
const MAX_STOPPED: Duration = Duration::from_secs(2);
/// How long a lock holder may use no CPU without being stopped. Beyond that, it is frozen or hangs.
const MAX_IDLE: Duration = Duration::from_secs(10);
/// After a longer gap between two checks the observer itself was stopped, so earlier observations
/// are discarded.
const MAX_CHECK_GAP: Duration = Duration::from_secs(1);

/// A process, and the progress of the lock that it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LockHolder {
    pub(super) process: ProcessIdentity,
    pub(super) progress: LockProgress,
}

/// The progress of a held lock. Any change means that the lock is not stuck.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LockProgress {
    /// The write lock: `wait` numbers this process's waits, `version` is the latest commit.
    Write { wait: u64, version: Option<usize> },
    /// The mutex of the reader table, held by a thread.
    ReaderTable { thread: Pid },
}

/// Why a lock holder may be killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stall {
    Stopped,
    Hung,
}

/// Tracks the current lock holder.
#[derive(Debug, Default)]
pub(super) struct StallDetector {
    observation: Option<Observation>,
}

#[derive(Debug)]
struct Observation {
    holder: LockHolder,
    state: ProcessState,
    since: Instant,
    seen: Instant,
}

impl StallDetector {
    /// Call when no process holds the lock.
    pub(super) fn clear(&mut self) {
        self.observation = None;
    }

    /// Records that `holder` is in `state`, and returns a stall if it has lasted too long.
    /// Reporting a stall resets the observation, so that it is not reported again at once.
    pub(super) fn check(
        &mut self,
        holder: LockHolder,
        state: ProcessState,
        now: Instant,
    ) -> Option<Stall> {
        let observation = self.observation.take().filter(|observation| {
            observation.holder == holder
                && observation.state == state
                && now - observation.seen <= MAX_CHECK_GAP
        });
        let since = observation.map_or(now, |observation| observation.since);
        let stall = match state {
            ProcessState::Stopped if now - since >= MAX_STOPPED => Some(Stall::Stopped),
            ProcessState::Runnable { .. } if now - since >= MAX_IDLE => Some(Stall::Hung),
            _ => None,
        };
        if stall.is_none() {
            self.observation = Some(Observation { holder, state, since, seen: now });
        }
        stall
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::getpid;

    use super::*;

    const INTERVAL: Duration = Duration::from_millis(250);

    fn holder(started: u64) -> LockHolder {
        let process = ProcessIdentity { pid: getpid(), started };
        LockHolder { process, progress: LockProgress::Write { wait: 1, version: Some(7) } }
    }

    /// After how many unchanged checks a stall is reported.
    fn checks_until_stall(state: ProcessState) -> Option<(u32, Stall)> {
        let (mut detector, begun) = (StallDetector::default(), Instant::now());
        (0..100).find_map(|n| {
            let stall = detector.check(holder(1), state, begun + INTERVAL * n);
            stall.map(|stall| (n, stall))
        })
    }

    #[test]
    fn a_stopped_process_stalls_sooner_than_an_idle_one() {
        assert_eq!(checks_until_stall(ProcessState::Stopped), Some((8, Stall::Stopped)));
        assert_eq!(
            checks_until_stall(ProcessState::Runnable { cpu_ticks: 3 }),
            Some((40, Stall::Hung))
        );
        assert_eq!(checks_until_stall(ProcessState::DiskSleep), None);
    }

    #[test]
    fn any_progress_restarts_the_wait() {
        let begun = Instant::now();
        let other_wait = LockProgress::Write { wait: 3, version: Some(7) };
        let other_version = LockProgress::Write { wait: 1, version: Some(8) };
        let changes = [
            (holder(2), ProcessState::Stopped),
            (LockHolder { progress: other_wait, ..holder(1) }, ProcessState::Stopped),
            (LockHolder { progress: other_version, ..holder(1) }, ProcessState::Stopped),
            (holder(1), ProcessState::DiskSleep),
            (holder(1), ProcessState::Runnable { cpu_ticks: 1 }),
        ];
        for (changed, state) in changes {
            let mut detector = StallDetector::default();
            for n in 0..7 {
                let stall = detector.check(holder(1), ProcessState::Stopped, begun + INTERVAL * n);
                assert_eq!(stall, None);
            }
            assert_eq!(detector.check(changed, state, begun + INTERVAL * 7), None);
            for n in 8..16 {
                let stall = detector.check(holder(1), ProcessState::Stopped, begun + INTERVAL * n);
                assert_eq!(stall, None, "{changed:?} {state:?}");
            }
        }
    }

    #[test]
    fn a_process_that_uses_cpu_never_stalls() {
        let (mut detector, begun) = (StallDetector::default(), Instant::now());
        for n in 0..1000 {
            let state = ProcessState::Runnable { cpu_ticks: u64::from(n / 30) };
            assert_eq!(detector.check(holder(1), state, begun + INTERVAL * n), None);
        }
    }

    #[test]
    fn a_stopped_observer_restarts_the_wait() {
        let (mut detector, begun) = (StallDetector::default(), Instant::now());
        let mut check = |at| detector.check(holder(1), ProcessState::Stopped, begun + at);
        assert_eq!(check(Duration::ZERO), None);
        assert_eq!(check(Duration::from_secs(60)), None);
        assert_eq!(check(Duration::from_secs(61)), None);
        assert_eq!(check(Duration::from_secs(62)), Some(Stall::Stopped));
    }

    #[test]
    fn a_stall_is_not_reported_again_at_once() {
        let (mut detector, begun) = (StallDetector::default(), Instant::now());
        let stalls = (0..33)
            .filter_map(|n| detector.check(holder(1), ProcessState::Stopped, begun + INTERVAL * n));
        assert_eq!(stalls.count(), 3);
    }
}
