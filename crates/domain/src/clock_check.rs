//! Whether this node's clock is right, judged by the times in the store and by the other nodes'
//! clocks.
//!
//! Every node records its time in the store at short intervals, and reads the times of the others.
//! [`ClockCheck`] compares them with its own clock:
//!
//! - *The newest time.* A time that was in the store before this node started, or that this node
//!   had itself, has passed. A clock that shows an earlier one is wrong, or has been corrected:
//!   nothing in the store tells which. The node counts as wrong for [`ACCEPT_AFTER`], in which a
//!   time daemon corrects a wrong clock, and trusts its clock after that: a clock that was ahead
//!   once must not stop an installation until its times have passed.
//! - *The other nodes.* The clocks of live nodes show the same time. If most nodes agree and this
//!   one differs from them, it is wrong. If no majority agrees, as with two nodes, no node can tell
//!   which clock is wrong.
//!
//! It judges clocks, not nodes: whether a node is alive depends only on its lease. The clocks of
//! the endpoints are compared in [`crate::own_outage`].

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use crate::duration;
use crate::ids::BootId;
use crate::time::Timestamp;

/// A larger change of a clock, relative to the monotonic clock, is a step.
pub const STEP: Duration = Duration::from_secs(2);
/// How often a node records its time.
pub const RECORD_INTERVAL: Duration = Duration::from_secs(30);
/// How often a node reads the times of the others.
pub const OBSERVE_INTERVAL: Duration = Duration::from_secs(5);
/// Clocks that differ by no more than this count as equal. It includes the time until a recorded
/// time is read.
pub const TOLERANCE: Duration = Duration::from_secs(30);
/// How far a clock may be behind the newest time in the store.
pub const MAX_BEHIND: Duration = Duration::from_secs(5 * 60);
/// How long a clock that is further behind counts as wrong.
pub const ACCEPT_AFTER: Duration = Duration::from_secs(15 * 60);
/// A node that has not recorded its time for this long is no longer compared with.
const LIVE_FOR: Duration = Duration::from_secs(90);
/// Times read after a longer gap may be old; they are not compared.
const MAX_OBSERVE_GAP: Duration = Duration::from_secs(15);

/// A time on a monotonic clock, since any origin.
type Uptime = Duration;

/// What a node knows about its own clock.
#[derive(Clone, Debug)]
pub struct ClockCheck {
    me: BootId,
    /// The other runs of nodes that have recorded a time.
    others: HashMap<BootId, Recorded>,
    /// The latest time that this node's clock has shown.
    latest: Timestamp,
    behind_since: Option<Uptime>,
    /// Whether this node's clock was ahead of the others'.
    was_ahead: bool,
    observed_at: Option<Uptime>,
}

#[derive(Clone, Copy, Debug)]
struct Recorded {
    time: Timestamp,
    seen: Seen,
}

#[derive(Clone, Copy, Debug)]
enum Seen {
    /// It has been there since this node started, and has not changed.
    BeforeStart,
    /// The node is running. `offset_ms` is its time minus this node's uptime, which no step of this
    /// node's clock changes.
    Live { offset_ms: i64, at: Uptime },
    /// This node trusts its own clock instead.
    Ignored,
}

/// What is known about this node's clock at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// How far it is behind the newest time in the store.
    pub behind: Duration,
    /// How far it is ahead of the other nodes' clocks, in milliseconds. `None` if there are none.
    pub ahead_of_others_ms: Option<i64>,
    pub problem: Option<Problem>,
}

/// What is wrong with a clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// It is far behind the newest time in the store.
    Behind(Duration),
    /// Most nodes agree on another time. Positive if this clock is ahead.
    Apart { ahead_ms: i64 },
    /// Clocks differ, and no majority agrees. Positive if this clock is ahead of the others'.
    Disputed { ahead_ms: i64 },
}

impl Problem {
    /// Whether this node's clock is wrong, rather than perhaps another node's.
    #[must_use]
    pub const fn is_ours(self) -> bool {
        matches!(self, Self::Behind(_) | Self::Apart { .. })
    }

    /// Whether both are the same problem, whatever its extent.
    #[must_use]
    pub fn is_same_kind(self, other: Self) -> bool {
        std::mem::discriminant(&self) == std::mem::discriminant(&other)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Behind(by) => {
                let by = seconds(by);
                write!(f, "this node's clock is {by} behind the newest time in the store")
            }
            Self::Apart { ahead_ms } => {
                write!(f, "this node's clock is {} most other nodes' clocks", difference(ahead_ms))
            }
            Self::Disputed { ahead_ms } => {
                let difference = difference(ahead_ms);
                write!(
                    f,
                    "this node's clock is {difference} other nodes' clocks, and no majority agrees"
                )
            }
        }
    }
}

fn difference(ahead_ms: i64) -> String {
    let by = seconds(Duration::from_millis(ahead_ms.unsigned_abs()));
    if ahead_ms < 0 { format!("{by} behind") } else { format!("{by} ahead of") }
}

/// The duration in whole seconds, as text.
fn seconds(time: Duration) -> String {
    duration::format(Duration::from_secs(time.as_secs()))
}

impl ClockCheck {
    /// The check of the clock of node `me`, before any observation.
    #[must_use]
    pub fn new(me: BootId) -> Self {
        Self {
            me,
            others: HashMap::new(),
            latest: Timestamp::EPOCH,
            behind_since: None,
            was_ahead: false,
            observed_at: None,
        }
    }

    /// Notes the `times` that all nodes had recorded when this node's clock showed `now`, and judges
    /// the clock.
    pub fn observe(
        &mut self,
        times: &[(BootId, Timestamp)],
        now: Timestamp,
        uptime: Uptime,
    ) -> Verdict {
        let gap = self.observed_at.replace(uptime).map(|before| uptime.saturating_sub(before));
        let before = std::mem::take(&mut self.others);
        for (node, time) in times.iter().filter(|(node, _)| *node != self.me) {
            let known = before.get(node).copied();
            self.others.insert(*node, record(known, *time, uptime, gap));
        }
        let (ahead_of_others_ms, apart) = self.judge_others(now, uptime);
        if self.was_ahead && ahead_of_others_ms.is_some() && apart.is_none() {
            // It has been corrected.
            self.latest = now;
        }
        self.was_ahead = apart.is_some() && ahead_of_others_ms > Some(0);
        self.latest = self.latest.max(now);
        let behind = self.judge_behind(now, uptime);
        let is_ours = apart.filter(|problem| problem.is_ours());
        let problem =
            is_ours.or_else(|| (behind > MAX_BEHIND).then_some(Problem::Behind(behind))).or(apart);
        Verdict { behind, ahead_of_others_ms, problem }
    }

    /// The runs whose recorded times are no longer needed, once this node has recorded `now`.
    #[must_use]
    pub fn obsolete(&self, now: Timestamp, uptime: Uptime) -> Vec<BootId> {
        let is_obsolete = |other: &Recorded| match other.seen {
            Seen::BeforeStart => other.time <= now,
            Seen::Live { at, .. } => uptime.saturating_sub(at) >= LIVE_FOR,
            Seen::Ignored => true,
        };
        let others = self.others.iter().filter(|(_, other)| is_obsolete(other));
        others.map(|(node, _)| *node).collect()
    }

    fn judge_behind(&mut self, now: Timestamp, uptime: Uptime) -> Duration {
        let is_past = |other: &&Recorded| matches!(other.seen, Seen::BeforeStart);
        let past = self.others.values().filter(is_past).map(|other| other.time);
        let behind = past.fold(self.latest, Timestamp::max).since(now);
        if behind <= MAX_BEHIND {
            self.behind_since = None;
            return behind;
        }
        let since = *self.behind_since.get_or_insert(uptime);
        if uptime.saturating_sub(since) < ACCEPT_AFTER {
            return behind;
        }
        self.latest = now;
        self.behind_since = None;
        for other in self.others.values_mut() {
            if matches!(other.seen, Seen::BeforeStart) {
                other.seen = Seen::Ignored;
            }
        }
        Duration::ZERO
    }

    fn judge_others(&self, now: Timestamp, uptime: Uptime) -> (Option<i64>, Option<Problem>) {
        let live = self.others.values().filter_map(|other| match other.seen {
            Seen::Live { offset_ms, at } if uptime.saturating_sub(at) < LIVE_FOR => Some(offset_ms),
            _ => None,
        });
        let mut offsets: Vec<_> = live.collect();
        if offsets.is_empty() {
            return (None, None);
        }
        let own = offset_ms(now, uptime);
        let ahead_ms = own.saturating_sub(median(&mut offsets));
        offsets.push(own);
        let middle = median(&mut offsets);
        let agree = |offset: i64| Duration::from_millis(offset.abs_diff(middle)) <= TOLERANCE;
        let agreeing = offsets.iter().filter(|offset| agree(**offset)).count();
        let problem = match (2 * agreeing > offsets.len(), agree(own)) {
            (true, true) => None,
            (true, false) => Some(Problem::Apart { ahead_ms }),
            (false, _) => Some(Problem::Disputed { ahead_ms }),
        };
        (Some(ahead_ms), problem)
    }
}

/// The recorded time of another node, as read at `uptime`, `gap` after the previous observation.
fn record(
    known: Option<Recorded>,
    time: Timestamp,
    uptime: Uptime,
    gap: Option<Duration>,
) -> Recorded {
    let new = Seen::Live { offset_ms: offset_ms(time, uptime), at: uptime };
    let seen = match (known, gap) {
        (_, None) => Seen::BeforeStart,
        (Some(known), _) if known.time == time => known.seen,
        (_, Some(gap)) if gap <= MAX_OBSERVE_GAP => new,
        // It is alive, but when it recorded this time is unknown.
        (Some(Recorded { seen: Seen::Live { offset_ms, .. }, .. }), _) => {
            Seen::Live { offset_ms, at: uptime }
        }
        (Some(known), _) => known.seen,
        (None, _) => Seen::Ignored,
    };
    Recorded { time, seen }
}

fn median(offsets: &mut [i64]) -> i64 {
    offsets.sort_unstable();
    offsets[offsets.len() / 2]
}

fn offset_ms(time: Timestamp, uptime: Uptime) -> i64 {
    let millis = |millis: u128| i64::try_from(millis).unwrap_or(i64::MAX / 4);
    millis(time.millis().into()) - millis(uptime.as_millis())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ids::Id;

    const START: Timestamp = Timestamp::from_millis(1_700_000_000_000);
    const HOUR: Duration = Duration::from_secs(3600);

    fn node(byte: u8) -> BootId {
        BootId::from_bytes([byte; 16])
    }

    fn shifted(time: Timestamp, ms: i64) -> Timestamp {
        let by = Duration::from_millis(ms.unsigned_abs());
        if ms < 0 { time.minus(by) } else { time.plus(by) }
    }

    /// The verdict of node 0 on its own clock, in a cluster whose clocks are off by these numbers of
    /// milliseconds, after all have recorded their times a few times.
    fn in_cluster(off_ms: &[i64]) -> Verdict {
        let mut check = ClockCheck::new(node(0));
        let mut verdict = Verdict::default();
        for step in 0..20 {
            let uptime = OBSERVE_INTERVAL * step;
            let recorded = RECORD_INTERVAL * u32::try_from(uptime.as_secs() / 30).expect("small");
            let times: Vec<_> = (0..)
                .zip(off_ms)
                .map(|(number, off)| (node(number), shifted(START.plus(recorded), *off)))
                .collect();
            verdict = check.observe(&times, shifted(START.plus(uptime), off_ms[0]), uptime);
        }
        verdict
    }

    /// Observes the same recorded times from `from` on, every five seconds.
    fn observe_for(
        check: &mut ClockCheck,
        times: &[(BootId, Timestamp)],
        now: Timestamp,
        (from, until): (Uptime, Uptime),
    ) -> Verdict {
        let (mut uptime, mut verdict) = (from, Verdict::default());
        while uptime <= until {
            verdict = check.observe(times, now.plus(uptime - from), uptime);
            uptime += OBSERVE_INTERVAL;
        }
        verdict
    }

    proptest! {
        /// A majority that agrees is never called wrong, and a node apart from it always is.
        #[test]
        fn the_majority_is_right(
            agreeing in prop::collection::vec(-2_000_i64..2_000, 2..6),
            others in prop::collection::vec(prop_oneof![-90_000_000_i64..-60_000, 60_000_i64..90_000_000], 1..6),
        ) {
            prop_assume!(agreeing.len() > others.len());
            let mut clocks = [agreeing.as_slice(), &others].concat();
            for index in 0..clocks.len() {
                clocks.swap(0, index);
                let problem = in_cluster(&clocks).problem;
                let is_apart = clocks[0].unsigned_abs() >= 60_000;
                prop_assert_eq!(problem.is_some_and(Problem::is_ours), is_apart, "{:?}", problem);
                prop_assert_eq!(problem.is_some(), is_apart);
                clocks.swap(0, index);
            }
        }

        #[test]
        fn without_a_majority_no_node_knows(off in 60_000_i64..90_000_000, ahead: bool) {
            let off = if ahead { off } else { -off };
            for clocks in [[0, off].as_slice(), &[off, 0], &[0, off, 3 * off, 5 * off]] {
                let problem = in_cluster(clocks).problem;
                prop_assert!(matches!(problem, Some(Problem::Disputed { .. })), "{:?}", problem);
            }
        }

        /// However the clock is off at the start, the node works after a while, and the old times
        /// are removed.
        #[test]
        fn a_clock_behind_the_store_is_wrong_for_a_while(behind_s in 0_u64..100_000_000) {
            let behind = Duration::from_secs(behind_s);
            let now = START.minus(behind);
            let times = [(node(9), START), (node(8), START.minus(behind * 2))];
            let mut check = ClockCheck::new(node(0));
            let first = check.observe(&times, now, Duration::ZERO);
            prop_assert_eq!(first.behind, behind);
            let far = behind > MAX_BEHIND;
            prop_assert_eq!(first.problem.is_some_and(Problem::is_ours), far);
            let later = observe_for(&mut check, &times, now, (Duration::ZERO, ACCEPT_AFTER));
            prop_assert_eq!(later.problem, None);
            let obsolete = check.obsolete(now.plus(ACCEPT_AFTER), ACCEPT_AFTER);
            prop_assert_eq!(obsolete.len(), 2, "{:?}", obsolete);
        }
    }

    #[test]
    fn a_clock_that_is_corrected_is_right_at_once() {
        let mut check = ClockCheck::new(node(0));
        let times = [(node(9), START)];
        let wrong = check.observe(&times, START.minus(HOUR), Duration::ZERO);
        assert_eq!(wrong.problem, Some(Problem::Behind(HOUR)));
        let text = "this node's clock is 1h behind the newest time in the store";
        assert_eq!(Problem::Behind(HOUR).to_string(), text);
        assert!(check.obsolete(START.minus(HOUR), Duration::ZERO).is_empty());
        let right = check.observe(&times, START, OBSERVE_INTERVAL);
        assert_eq!(right, Verdict::default());
        assert_eq!(check.obsolete(START, OBSERVE_INTERVAL), [node(9)]);
    }

    #[test]
    fn a_clock_set_back_while_the_node_runs_is_behind_its_own_times() {
        let mut check = ClockCheck::new(node(0));
        check.observe(&[], START, Duration::ZERO);
        let set_back = check.observe(&[], START.minus(HOUR), OBSERVE_INTERVAL);
        assert_eq!(set_back.problem, Some(Problem::Behind(HOUR)));
        let until = OBSERVE_INTERVAL + ACCEPT_AFTER;
        let later = observe_for(&mut check, &[], START.minus(HOUR), (OBSERVE_INTERVAL, until));
        assert_eq!(later, Verdict::default());
    }

    #[test]
    fn a_clock_that_was_ahead_of_the_others_is_right_once_it_agrees() {
        let mut check = ClockCheck::new(node(0));
        check.observe(&[], START, Duration::ZERO);
        let others = |at: Uptime| [1, 2].map(|number| (node(number), START.plus(at)));
        check.observe(&others(Duration::ZERO), START.plus(HOUR), Duration::ZERO);
        let at = OBSERVE_INTERVAL;
        let wrong = check.observe(&others(at), START.plus(at + HOUR), at).problem;
        assert!(matches!(wrong, Some(Problem::Apart { ahead_ms: 3_600_000 })), "{wrong:?}");
        let at = 2 * OBSERVE_INTERVAL;
        let right = check.observe(&others(at), START.plus(at), at);
        assert_eq!((right.problem, right.behind), (None, Duration::ZERO));
    }

    /// Otherwise one node whose clock was ahead would make all others wrong when it ends.
    #[test]
    fn the_time_of_a_node_that_was_seen_running_is_no_evidence() {
        let mut check = ClockCheck::new(node(0));
        check.observe(&[], START, Duration::ZERO);
        let ahead = [(node(1), START.plus(HOUR))];
        let disputed = check.observe(&ahead, START, Duration::ZERO);
        let text = "this node's clock is 1h behind other nodes' clocks, and no majority agrees";
        assert_eq!(disputed.problem.expect("they differ").to_string(), text);
        assert_eq!(disputed.behind, Duration::ZERO);
        let later = observe_for(&mut check, &ahead, START, (OBSERVE_INTERVAL, LIVE_FOR));
        assert_eq!(later, Verdict::default(), "it has ended");
        assert_eq!(check.obsolete(START, LIVE_FOR), [node(1)]);
    }

    #[test]
    fn times_read_after_a_gap_are_not_compared() {
        let mut check = ClockCheck::new(node(0));
        check.observe(&[], START, Duration::ZERO);
        check.observe(&[(node(1), START)], START, Duration::ZERO);
        // The store was away for two minutes; the other node recorded this just before.
        let (gap, recorded) = (Duration::from_secs(120), START.plus(Duration::from_secs(30)));
        let verdict = check.observe(&[(node(1), recorded)], START.plus(gap), gap);
        assert_eq!((verdict.problem, verdict.ahead_of_others_ms), (None, Some(0)));
    }
}
