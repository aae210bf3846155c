//! When a process that keeps the others from the store is to be killed: the rule alone.

use std::time::Duration;

use rustix::process::Pid;
use tokio::time::Instant;

use super::process::{Condition, Identity};

/// How long a holder may be stopped, by a signal or a debugger.
const STOPPED_FOR: Duration = Duration::from_secs(2);
/// How long a holder may do nothing at all without being stopped: it is frozen, or hangs.
const STILL_FOR: Duration = Duration::from_secs(10);
/// With a longer gap between two looks the observer was stopped itself, and knows nothing of what
/// went on in between.
const MAX_GAP: Duration = Duration::from_secs(1);

/// A process and what it keeps the others from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Suspect {
    pub(super) process: Identity,
    pub(super) obstacle: Obstacle,
}

/// What is held. When it changes, something has moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Obstacle {
    /// The write lock, for which this process waits the `wait`th time while the newest commit is
    /// that of `version`.
    Write { wait: u64, version: Option<usize> },
    /// The lock on the table of readers, held by a thread.
    Readers { thread: Pid },
}

/// Why a process must go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Stopped,
    Still,
}

/// What is known of the present suspect.
#[derive(Debug, Default)]
pub(super) struct Suspicion {
    case: Option<Case>,
}

#[derive(Debug)]
struct Case {
    suspect: Suspect,
    condition: Condition,
    since: Instant,
    seen: Instant,
}

impl Suspicion {
    /// Nobody is in the way.
    pub(super) fn clear(&mut self) {
        self.case = None;
    }

    /// `suspect` is in the way, and in this condition: is it to be killed? A verdict closes the
    /// case, so that it is not given again at once.
    pub(super) fn judge(
        &mut self,
        suspect: Suspect,
        condition: Condition,
        now: Instant,
    ) -> Option<Verdict> {
        let case = self.case.take().filter(|case| {
            case.suspect == suspect && case.condition == condition && now - case.seen <= MAX_GAP
        });
        let since = case.map_or(now, |case| case.since);
        let verdict = match condition {
            Condition::Stopped if now - since >= STOPPED_FOR => Some(Verdict::Stopped),
            Condition::Idle { .. } if now - since >= STILL_FOR => Some(Verdict::Still),
            _ => None,
        };
        if verdict.is_none() {
            self.case = Some(Case { suspect, condition, since, seen: now });
        }
        verdict
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::getpid;

    use super::*;

    const LOOK: Duration = Duration::from_millis(250);

    fn suspect(started: u64) -> Suspect {
        let process = Identity { pid: getpid(), started };
        Suspect { process, obstacle: Obstacle::Write { wait: 1, version: Some(7) } }
    }

    /// After how many looks the verdict falls, if what is seen does not change.
    fn looks_until(condition: Condition) -> Option<(u32, Verdict)> {
        let (mut suspicion, begun) = (Suspicion::default(), Instant::now());
        (0..100).find_map(|look| {
            let verdict = suspicion.judge(suspect(1), condition, begun + LOOK * look);
            verdict.map(|verdict| (look, verdict))
        })
    }

    #[test]
    fn who_is_stopped_goes_soon_and_who_is_still_goes_later() {
        assert_eq!(looks_until(Condition::Stopped), Some((8, Verdict::Stopped)));
        assert_eq!(looks_until(Condition::Idle { cpu_ticks: 3 }), Some((40, Verdict::Still)));
        assert_eq!(looks_until(Condition::AtDisk), None);
    }

    #[test]
    fn any_movement_begins_the_wait_anew() {
        let begun = Instant::now();
        let other_wait = Obstacle::Write { wait: 3, version: Some(7) };
        let other_version = Obstacle::Write { wait: 1, version: Some(8) };
        let changes = [
            (suspect(2), Condition::Stopped),
            (Suspect { obstacle: other_wait, ..suspect(1) }, Condition::Stopped),
            (Suspect { obstacle: other_version, ..suspect(1) }, Condition::Stopped),
            (suspect(1), Condition::AtDisk),
            (suspect(1), Condition::Idle { cpu_ticks: 1 }),
        ];
        for (changed, condition) in changes {
            let mut suspicion = Suspicion::default();
            for look in 0..7 {
                let verdict = suspicion.judge(suspect(1), Condition::Stopped, begun + LOOK * look);
                assert_eq!(verdict, None);
            }
            assert_eq!(suspicion.judge(changed, condition, begun + LOOK * 7), None);
            for look in 8..16 {
                let verdict = suspicion.judge(suspect(1), Condition::Stopped, begun + LOOK * look);
                assert_eq!(verdict, None, "{changed:?} {condition:?}");
            }
        }
    }

    #[test]
    fn a_process_that_works_is_never_suspect() {
        let (mut suspicion, begun) = (Suspicion::default(), Instant::now());
        for look in 0..1000 {
            let condition = Condition::Idle { cpu_ticks: u64::from(look / 30) };
            assert_eq!(suspicion.judge(suspect(1), condition, begun + LOOK * look), None);
        }
    }

    #[test]
    fn an_observer_that_was_stopped_itself_begins_anew() {
        let (mut suspicion, begun) = (Suspicion::default(), Instant::now());
        let mut judge = |at| suspicion.judge(suspect(1), Condition::Stopped, begun + at);
        assert_eq!(judge(Duration::ZERO), None);
        assert_eq!(judge(Duration::from_secs(60)), None);
        assert_eq!(judge(Duration::from_secs(61)), None);
        assert_eq!(judge(Duration::from_secs(62)), Some(Verdict::Stopped));
    }

    #[test]
    fn a_verdict_is_not_given_twice_at_once() {
        let (mut suspicion, begun) = (Suspicion::default(), Instant::now());
        let verdicts = (0..33).filter_map(|look| {
            suspicion.judge(suspect(1), Condition::Stopped, begun + LOOK * look)
        });
        assert_eq!(verdicts.count(), 3);
    }
}
