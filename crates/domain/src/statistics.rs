//! How an endpoint's attempts went, in numbers.
//!
//! Each attempt is counted by what it met with (an [`Answer`]), by how long it took (a [`Latency`]:
//! one of a few buckets, each √2 times as long as the one before), and by when it began, cut to a
//! [`Resolution`]. From such counts a [`Chart`] draws the [`Statistics`] of a [`Span`]: points in
//! time, each with what succeeded and failed, the statuses, and the response time that half and
//! that 99 of 100 attempts stayed under.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::ids::EndpointId;
use crate::outcome::{ErrorKind, Failure, Outcome, is_success};
use crate::time::Timestamp;

/// What an attempt met with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// This HTTP status.
    Status(u16),
    /// No status, for this reason.
    Nothing(ErrorKind),
}

/// The kinds of failure in the order of their [numbers](number_of).
const KINDS: [ErrorKind; 7] = [
    ErrorKind::Timeout,
    ErrorKind::Dns,
    ErrorKind::Connect,
    ErrorKind::Tls,
    ErrorKind::Status,
    ErrorKind::Blocked,
    ErrorKind::Protocol,
];

/// The number of a kind, which is for ever.
const fn number_of(kind: ErrorKind) -> u16 {
    match kind {
        ErrorKind::Timeout => 0,
        ErrorKind::Dns => 1,
        ErrorKind::Connect => 2,
        ErrorKind::Tls => 3,
        ErrorKind::Status => 4,
        ErrorKind::Blocked => 5,
        ErrorKind::Protocol => 6,
    }
}

/// Where the numbers of failures without a status begin. A status has three digits.
const FIRST_KIND: u16 = 1000;

impl Answer {
    /// What an attempt that ended so met with.
    #[must_use]
    pub fn of(outcome: &Outcome) -> Self {
        match *outcome {
            Outcome::Success { status }
            | Outcome::Failure(Failure { status: Some(status), .. }) => Self::Status(status),
            Outcome::Failure(Failure { kind, status: None, .. }) => Self::Nothing(kind),
        }
    }

    /// The number that stands for it in the store.
    #[must_use]
    pub fn code(self) -> u16 {
        match self {
            Self::Status(status) => status,
            Self::Nothing(kind) => FIRST_KIND + number_of(kind),
        }
    }

    /// What a number stands for; none for one that this version does not know.
    #[must_use]
    pub fn from_code(code: u16) -> Option<Self> {
        match code.checked_sub(FIRST_KIND) {
            None => Some(Self::Status(code)),
            Some(kind) => KINDS.get(usize::from(kind)).copied().map(Self::Nothing),
        }
    }

    /// Whether it is success.
    #[must_use]
    pub fn is_success(self) -> bool {
        matches!(self, Self::Status(status) if is_success(status))
    }

    /// Whether the time that it took is the endpoint's: it answered, or kept the sender waiting
    /// to the end. A name that is not found within a millisecond is no quick response.
    fn tells_response_time(self) -> bool {
        matches!(self, Self::Status(_) | Self::Nothing(ErrorKind::Timeout))
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => status.fmt(f),
            Self::Nothing(kind) => f.write_str(kind.as_str()),
        }
    }
}

/// How long an attempt took: the number of a bucket. Bucket 0 is less than a millisecond, and
/// bucket i is from √2^(i-1) to √2^i of them, so that a time that is known by its bucket is known
/// to less than a factor of √2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Latency(u8);

/// How many buckets there are for milliseconds of 32 bits.
const BUCKETS: u8 = 65;

impl Latency {
    /// The bucket of so many milliseconds.
    #[must_use]
    pub fn of(duration_ms: u32) -> Self {
        let Some(doublings) = duration_ms.checked_ilog2() else {
            return Self(0);
        };
        let square = u64::from(duration_ms) * u64::from(duration_ms);
        let upper_half = square >= 1 << (2 * doublings + 1);
        let bucket = 1 + 2 * doublings + u32::from(upper_half);
        Self(u8::try_from(bucket).expect("at most 64"))
    }

    /// Its number.
    #[must_use]
    pub const fn index(self) -> u8 {
        self.0
    }

    /// The bucket of this number, if there is one.
    #[must_use]
    pub fn from_index(index: u8) -> Option<Self> {
        (index < BUCKETS).then_some(Self(index))
    }

    /// The shortest and the longest time in it, in milliseconds.
    #[must_use]
    pub fn bounds(self) -> (u32, u32) {
        let first = first_of(self.0);
        let longest = u32::try_from(first_of(self.0 + 1) - 1).unwrap_or(u32::MAX);
        let shortest = u32::try_from(first).expect("the last bucket begins below 2³²");
        (shortest, longest.max(shortest))
    }
}

/// The first whole millisecond that is not before bucket `index`.
fn first_of(index: u8) -> u64 {
    let Some(power) = index.checked_sub(1) else {
        return 0;
    };
    let square: u128 = 1 << power;
    let root = square.isqrt();
    u64::try_from(root + u128::from(root * root < square)).expect("at most 2³²")
}

/// How finely attempts are counted in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Resolution {
    /// By five minutes.
    FiveMinutes,
    /// By the hour.
    Hour,
}

impl Resolution {
    /// Both.
    pub const ALL: [Self; 2] = [Self::FiveMinutes, Self::Hour];

    /// How long each count goes on.
    #[must_use]
    pub const fn step(self) -> Duration {
        match self {
            Self::FiveMinutes => MINUTE.saturating_mul(5),
            Self::Hour => HOUR,
        }
    }

    /// When the count began that `time` falls in.
    #[must_use]
    pub fn floor(self, time: Timestamp) -> Timestamp {
        floor(time, self.step())
    }
}

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

fn floor(time: Timestamp, step: Duration) -> Timestamp {
    let step_ms = u64::try_from(step.as_millis()).expect("a day at most");
    Timestamp::from_millis(time.millis() - time.millis() % step_ms)
}

/// How far back to look. Points begin at whole steps in UTC; the last one is not over yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Span {
    /// 1 hour by 5 minutes.
    Hour,
    /// 24 hours by 30 minutes.
    #[default]
    Day,
    /// 7 days by 6 hours.
    Week,
    /// 30 days by the day.
    Month,
}

impl Span {
    /// All of them, the shortest first.
    pub const ALL: [Self; 4] = [Self::Hour, Self::Day, Self::Week, Self::Month];

    /// The span as the interface writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "1h",
            Self::Day => "24h",
            Self::Week => "7d",
            Self::Month => "30d",
        }
    }

    /// How long each point goes on.
    #[must_use]
    pub const fn step(self) -> Duration {
        match self {
            Self::Hour => MINUTE.saturating_mul(5),
            Self::Day => MINUTE.saturating_mul(30),
            Self::Week => HOUR.saturating_mul(6),
            Self::Month => HOUR.saturating_mul(24),
        }
    }

    /// How many points there are.
    #[must_use]
    pub const fn points(self) -> u32 {
        match self {
            Self::Hour => 12,
            Self::Day => 48,
            Self::Week => 28,
            Self::Month => 30,
        }
    }

    /// Which counts its points are made of.
    #[must_use]
    pub const fn resolution(self) -> Resolution {
        match self {
            Self::Hour | Self::Day => Resolution::FiveMinutes,
            Self::Week | Self::Month => Resolution::Hour,
        }
    }

    /// When the first point begins and the last one ends.
    #[must_use]
    pub fn bounds(self, now: Timestamp) -> (Timestamp, Timestamp) {
        let end = floor(now, self.step()).plus(self.step());
        (end.minus(self.step() * self.points()), end)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// What the attempts of some time came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Attempts that succeeded.
    pub succeeded: u64,
    /// Attempts that failed.
    pub failed: u64,
    /// The response time that half of the attempts stayed within, in milliseconds, to a factor of
    /// √2. Counted are those that were answered or timed out; none when there are none.
    pub p50_ms: Option<u32>,
    /// The one that 99 of 100 stayed within.
    pub p99_ms: Option<u32>,
    /// How often each answer came: statuses first, in their order.
    pub answers: Vec<(Answer, u64)>,
}

/// The attempts of one step of time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    /// When it began.
    pub at: Timestamp,
    /// What its attempts came to.
    pub figures: Figures,
}

/// How an endpoint's attempts went over a span.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statistics {
    /// The span.
    pub span: Span,
    /// Its points, the oldest first, without a gap.
    pub points: Vec<Point>,
    /// What all of its attempts came to.
    pub total: Figures,
    /// Whether all of them were counted; if not, the oldest are missing.
    pub complete: bool,
}

/// How an endpoint's attempts went in the last 24 hours, by the hour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sparkline {
    /// The endpoint.
    pub endpoint: EndpointId,
    /// When the first hour began.
    pub since: Timestamp,
    /// How many succeeded and failed in each hour, the oldest first; the last is not over yet.
    pub hours: [Tries; SPARKLINE_HOURS as usize],
    /// Whether all of them are counted; otherwise the oldest ones are missing.
    pub complete: bool,
}

/// How many hours a sparkline has.
pub const SPARKLINE_HOURS: u32 = 24;

/// Attempts, told apart by how they ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tries {
    /// Those that succeeded.
    pub succeeded: u64,
    /// Those that failed.
    pub failed: u64,
}

impl Tries {
    fn add(&mut self, answer: Answer, count: u64) {
        let counter = if answer.is_success() { &mut self.succeeded } else { &mut self.failed };
        *counter += count;
    }
}

impl Sparkline {
    /// One without attempts.
    #[must_use]
    pub fn new(endpoint: EndpointId, now: Timestamp) -> Self {
        let (since, _) = Self::bounds(now);
        Self { endpoint, since, hours: Default::default(), complete: true }
    }

    /// When the first hour begins and the last one ends.
    #[must_use]
    pub fn bounds(now: Timestamp) -> (Timestamp, Timestamp) {
        let end = floor(now, HOUR).plus(HOUR);
        (end.minus(HOUR * SPARKLINE_HOURS), end)
    }

    /// Counts attempts of the hour that began at `at`.
    pub fn add(&mut self, at: Timestamp, answer: Answer, count: u64) {
        if let Some(hour) = step_of(self.since, at, HOUR).and_then(|hour| self.hours.get_mut(hour))
        {
            hour.add(answer, count);
        }
    }

    /// All of them together.
    #[must_use]
    pub fn total(&self) -> Tries {
        self.hours.iter().fold(Tries::default(), |sum, hour| Tries {
            succeeded: sum.succeeded + hour.succeeded,
            failed: sum.failed + hour.failed,
        })
    }
}

/// Which step after `since` the time `at` falls in; none before it.
fn step_of(since: Timestamp, at: Timestamp, step: Duration) -> Option<usize> {
    let after_ms = u128::from(at.millis().checked_sub(since.millis())?);
    usize::try_from(after_ms / step.as_millis()).ok()
}

/// Gathers counts into the points of a span.
#[derive(Debug)]
pub struct Chart {
    span: Span,
    since: Timestamp,
    points: Vec<Tally>,
}

impl Chart {
    /// An empty one, up to `now`.
    #[must_use]
    pub fn new(span: Span, now: Timestamp) -> Self {
        let points = (0..span.points()).map(|_| Tally::default()).collect();
        Self { span, since: span.bounds(now).0, points }
    }

    /// Counts attempts of the time that began at `at`; what lies outside the span is left out.
    pub fn add(&mut self, at: Timestamp, answer: Answer, latency: Latency, count: u64) {
        let point = step_of(self.since, at, self.span.step());
        if let Some(tally) = point.and_then(|point| self.points.get_mut(point)) {
            tally.add(answer, latency, count);
        }
    }

    /// What was gathered.
    #[must_use]
    pub fn statistics(self, complete: bool) -> Statistics {
        let mut total = Tally::default();
        for tally in &self.points {
            total.merge(tally);
        }
        let starts = (0..).map(|point| self.since.plus(self.span.step() * point));
        let points = starts.zip(&self.points);
        Statistics {
            span: self.span,
            points: points.map(|(at, tally)| Point { at, figures: tally.figures() }).collect(),
            total: total.figures(),
            complete,
        }
    }
}

/// Counts of attempts by what they met with and how long they took.
#[derive(Clone, Debug, Default)]
struct Tally {
    /// By the code of the answer.
    answers: BTreeMap<u16, (Answer, u64)>,
    /// Of those that tell the endpoint's response time.
    responses: BTreeMap<Latency, u64>,
}

impl Tally {
    fn add(&mut self, answer: Answer, latency: Latency, count: u64) {
        self.answers.entry(answer.code()).or_insert((answer, 0)).1 += count;
        if answer.tells_response_time() {
            *self.responses.entry(latency).or_default() += count;
        }
    }

    fn merge(&mut self, other: &Self) {
        for (code, (answer, count)) in &other.answers {
            self.answers.entry(*code).or_insert((*answer, 0)).1 += count;
        }
        for (latency, count) in &other.responses {
            *self.responses.entry(*latency).or_default() += count;
        }
    }

    fn figures(&self) -> Figures {
        let answers: Vec<_> = self.answers.values().copied().collect();
        let mut tries = Tries::default();
        for (answer, count) in &answers {
            tries.add(*answer, *count);
        }
        Figures {
            succeeded: tries.succeeded,
            failed: tries.failed,
            p50_ms: percentile(&self.responses, 50),
            p99_ms: percentile(&self.responses, 99),
            answers,
        }
    }
}

/// The time that `percent` of 100 stayed within (the nearest rank), as if those of a bucket lay in
/// it at even distances: it lies in the same bucket as the true one.
fn percentile(responses: &BTreeMap<Latency, u64>, percent: u64) -> Option<u32> {
    let all: u64 = responses.values().sum();
    let rank = u128::from(all) * u128::from(percent);
    let mut before = 0;
    for (latency, count) in responses {
        let (rank, count) = (rank.div_ceil(100) - before, u128::from(*count));
        if rank <= count {
            let (shortest, longest) = latency.bounds();
            let width = u128::from(longest - shortest);
            // The middle of the share that the one at `rank` has of the bucket.
            let into = width * (2 * rank).saturating_sub(1) / (2 * count.max(1));
            return Some(shortest + u32::try_from(into).expect("no wider than the bucket"));
        }
        before += count;
    }
    None
}

#[cfg(test)]
mod tests;
