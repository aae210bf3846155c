//! Statistics of an endpoint's attempts.
//!
//! Each attempt is counted by its result (a [`ResultCode`]), its latency bucket (a [`Latency`];
//! buckets grow by a factor of √2) and its start time, truncated to a [`Resolution`]. A [`Chart`]
//! aggregates such counts into the [`Statistics`] of a [`TimeRange`]: a series of points, each with
//! the successes, the failures, the counts by result, and the median and 99th percentile of the
//! response time.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::ids::EndpointId;
use crate::outcome::{ErrorKind, Failure, Outcome, is_success};
use crate::time::Timestamp;

/// The result of an attempt: its HTTP status, or why there was none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ResultCode {
    Status(u16),
    /// No response, for this reason.
    NoResponse(ErrorKind),
}

/// The kinds of failure in the order of their [codes](code_of).
const KINDS: [ErrorKind; 7] = [
    ErrorKind::Timeout,
    ErrorKind::Dns,
    ErrorKind::Connect,
    ErrorKind::Tls,
    ErrorKind::Status,
    ErrorKind::Blocked,
    ErrorKind::Protocol,
];

/// The durable code of a kind; it never changes.
const fn code_of(kind: ErrorKind) -> u16 {
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

/// The first code of failures without a status. A status has three digits.
const FIRST_KIND_CODE: u16 = 1000;

impl ResultCode {
    #[must_use]
    pub fn of(outcome: &Outcome) -> Self {
        match *outcome {
            Outcome::Success { status }
            | Outcome::Failure(Failure { status: Some(status), .. }) => Self::Status(status),
            Outcome::Failure(Failure { kind, status: None, .. }) => Self::NoResponse(kind),
        }
    }

    /// The code in the store.
    #[must_use]
    pub fn code(self) -> u16 {
        match self {
            Self::Status(status) => status,
            Self::NoResponse(kind) => FIRST_KIND_CODE + code_of(kind),
        }
    }

    /// The result with this code. `None` if this version does not know the code.
    #[must_use]
    pub fn from_code(code: u16) -> Option<Self> {
        match code.checked_sub(FIRST_KIND_CODE) {
            None => Some(Self::Status(code)),
            Some(kind) => KINDS.get(usize::from(kind)).copied().map(Self::NoResponse),
        }
    }

    #[must_use]
    pub fn is_success(self) -> bool {
        matches!(self, Self::Status(status) if is_success(status))
    }

    /// Whether the latency is the endpoint's response time: it responded, or it timed out. A DNS
    /// failure after a millisecond is not a fast response.
    fn has_response_time(self) -> bool {
        matches!(self, Self::Status(_) | Self::NoResponse(ErrorKind::Timeout))
    }
}

impl fmt::Display for ResultCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => status.fmt(f),
            Self::NoResponse(kind) => f.write_str(kind.as_str()),
        }
    }
}

/// The latency bucket of an attempt. Bucket 0 is below one millisecond, and bucket i is from
/// √2^(i-1) to √2^i milliseconds, so the bucket determines the latency to within a factor of √2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Latency(u8);

/// The number of buckets for 32-bit milliseconds.
const BUCKETS: u8 = 65;

impl Latency {
    /// The bucket of a duration.
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

    #[must_use]
    pub const fn index(self) -> u8 {
        self.0
    }

    /// The bucket with this index, if there is one.
    #[must_use]
    pub fn from_index(index: u8) -> Option<Self> {
        (index < BUCKETS).then_some(Self(index))
    }

    /// The shortest and the longest duration in the bucket, in milliseconds.
    #[must_use]
    pub fn bounds(self) -> (u32, u32) {
        let first = lower_bound(self.0);
        let longest = u32::try_from(lower_bound(self.0 + 1) - 1).unwrap_or(u32::MAX);
        let shortest = u32::try_from(first).expect("the last bucket begins below 2³²");
        (shortest, longest.max(shortest))
    }
}

/// The first whole millisecond in or after bucket `index`.
fn lower_bound(index: u8) -> u64 {
    let Some(power) = index.checked_sub(1) else {
        return 0;
    };
    let square: u128 = 1 << power;
    let root = square.isqrt();
    u64::try_from(root + u128::from(root * root < square)).expect("at most 2³²")
}

/// The time step by which attempts are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Resolution {
    FiveMinutes,
    Hour,
}

impl Resolution {
    pub const ALL: [Self; 2] = [Self::FiveMinutes, Self::Hour];

    /// The length of one step.
    #[must_use]
    pub const fn step(self) -> Duration {
        match self {
            Self::FiveMinutes => MINUTE.saturating_mul(5),
            Self::Hour => HOUR,
        }
    }

    /// The start of the step that contains `time`.
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

/// The period that statistics cover, up to now. Points begin at whole steps in UTC; the last one is
/// still in progress.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TimeRange {
    /// 1 hour in steps of 5 minutes.
    Hour,
    /// 24 hours in steps of 30 minutes.
    #[default]
    Day,
    /// 7 days in steps of 6 hours.
    Week,
    /// 30 days in steps of a day.
    Month,
}

impl TimeRange {
    /// All time ranges, shortest first.
    pub const ALL: [Self; 4] = [Self::Hour, Self::Day, Self::Week, Self::Month];

    /// The name in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "1h",
            Self::Day => "24h",
            Self::Week => "7d",
            Self::Month => "30d",
        }
    }

    /// The length of one point.
    #[must_use]
    pub const fn step(self) -> Duration {
        match self {
            Self::Hour => MINUTE.saturating_mul(5),
            Self::Day => MINUTE.saturating_mul(30),
            Self::Week => HOUR.saturating_mul(6),
            Self::Month => HOUR.saturating_mul(24),
        }
    }

    #[must_use]
    pub const fn points(self) -> u32 {
        match self {
            Self::Hour => 12,
            Self::Day => 48,
            Self::Week => 28,
            Self::Month => 30,
        }
    }

    /// The resolution of the counts that the points aggregate.
    #[must_use]
    pub const fn resolution(self) -> Resolution {
        match self {
            Self::Hour | Self::Day => Resolution::FiveMinutes,
            Self::Week | Self::Month => Resolution::Hour,
        }
    }

    /// The start of the first point and the end of the last one.
    #[must_use]
    pub fn bounds(self, now: Timestamp) -> (Timestamp, Timestamp) {
        let end = floor(now, self.step()).plus(self.step());
        (end.minus(self.step() * self.points()), end)
    }
}

impl Serialize for TimeRange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// Aggregates of the attempts in some period.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    pub succeeded: u64,
    pub failed: u64,
    /// The median response time in milliseconds, accurate to a factor of √2, over the attempts that
    /// got a response or timed out. `None` if there were no such attempts.
    pub p50_ms: Option<u32>,
    /// The 99th percentile of the response time.
    pub p99_ms: Option<u32>,
    /// The count of each result: statuses first, in ascending order.
    pub results: Vec<(ResultCode, u64)>,
}

/// The attempts in one step of time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    /// The start of the step.
    pub at: Timestamp,
    pub figures: Figures,
}

/// The statistics of an endpoint over a time range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statistics {
    pub range: TimeRange,
    /// The points, oldest first, without gaps.
    pub points: Vec<Point>,
    pub total: Figures,
    /// Whether all attempts are included; if not, the oldest are missing.
    pub complete: bool,
}

/// An endpoint's attempts in the last 24 hours, by the hour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sparkline {
    pub endpoint: EndpointId,
    /// The start of the first hour.
    pub since: Timestamp,
    /// The attempts in each hour, oldest first; the last hour is still in progress.
    pub hours: [AttemptCounts; SPARKLINE_HOURS as usize],
    /// Whether all attempts are included; if not, the oldest are missing.
    pub complete: bool,
}

pub const SPARKLINE_HOURS: u32 = 24;

/// Counts of successful and failed attempts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AttemptCounts {
    pub succeeded: u64,
    pub failed: u64,
}

impl AttemptCounts {
    fn add(&mut self, result: ResultCode, count: u64) {
        let counter = if result.is_success() { &mut self.succeeded } else { &mut self.failed };
        *counter += count;
    }
}

impl Sparkline {
    /// A sparkline without attempts.
    #[must_use]
    pub fn new(endpoint: EndpointId, now: Timestamp) -> Self {
        let (since, _) = Self::bounds(now);
        Self { endpoint, since, hours: Default::default(), complete: true }
    }

    /// The start of the first hour and the end of the last one.
    #[must_use]
    pub fn bounds(now: Timestamp) -> (Timestamp, Timestamp) {
        let end = floor(now, HOUR).plus(HOUR);
        (end.minus(HOUR * SPARKLINE_HOURS), end)
    }

    /// Adds attempts in the hour that began at `at`.
    pub fn add(&mut self, at: Timestamp, result: ResultCode, count: u64) {
        if let Some(hour) = step_of(self.since, at, HOUR).and_then(|hour| self.hours.get_mut(hour))
        {
            hour.add(result, count);
        }
    }

    #[must_use]
    pub fn total(&self) -> AttemptCounts {
        self.hours.iter().fold(AttemptCounts::default(), |sum, hour| AttemptCounts {
            succeeded: sum.succeeded + hour.succeeded,
            failed: sum.failed + hour.failed,
        })
    }
}

/// The index of the step, counted from `since`, that contains `at`. `None` if `at` is earlier.
fn step_of(since: Timestamp, at: Timestamp, step: Duration) -> Option<usize> {
    let after_ms = u128::from(at.millis().checked_sub(since.millis())?);
    usize::try_from(after_ms / step.as_millis()).ok()
}

/// Aggregates counts into the points of a time range.
#[derive(Debug)]
pub struct Chart {
    range: TimeRange,
    since: Timestamp,
    points: Vec<Tally>,
}

impl Chart {
    /// An empty chart that ends at `now`.
    #[must_use]
    pub fn new(range: TimeRange, now: Timestamp) -> Self {
        let points = (0..range.points()).map(|_| Tally::default()).collect();
        Self { range, since: range.bounds(now).0, points }
    }

    /// Adds attempts in the step that began at `at`; steps outside the time range are ignored.
    pub fn add(&mut self, at: Timestamp, result: ResultCode, latency: Latency, count: u64) {
        let point = step_of(self.since, at, self.range.step());
        if let Some(tally) = point.and_then(|point| self.points.get_mut(point)) {
            tally.add(result, latency, count);
        }
    }

    /// The aggregated statistics.
    #[must_use]
    pub fn statistics(self, complete: bool) -> Statistics {
        let mut total = Tally::default();
        for tally in &self.points {
            total.merge(tally);
        }
        let starts = (0..).map(|point| self.since.plus(self.range.step() * point));
        let points = starts.zip(&self.points);
        Statistics {
            range: self.range,
            points: points.map(|(at, tally)| Point { at, figures: tally.figures() }).collect(),
            total: total.figures(),
            complete,
        }
    }
}

/// Counts of attempts by result and latency.
#[derive(Clone, Debug, Default)]
struct Tally {
    /// By the code of the result.
    results: BTreeMap<u16, (ResultCode, u64)>,
    /// Only attempts with a response time.
    responses: BTreeMap<Latency, u64>,
}

impl Tally {
    fn add(&mut self, result: ResultCode, latency: Latency, count: u64) {
        self.results.entry(result.code()).or_insert((result, 0)).1 += count;
        if result.has_response_time() {
            *self.responses.entry(latency).or_default() += count;
        }
    }

    fn merge(&mut self, other: &Self) {
        for (code, (result, count)) in &other.results {
            self.results.entry(*code).or_insert((*result, 0)).1 += count;
        }
        for (latency, count) in &other.responses {
            *self.responses.entry(*latency).or_default() += count;
        }
    }

    fn figures(&self) -> Figures {
        let results: Vec<_> = self.results.values().copied().collect();
        let mut counts = AttemptCounts::default();
        for (result, count) in &results {
            counts.add(*result, *count);
        }
        Figures {
            succeeded: counts.succeeded,
            failed: counts.failed,
            p50_ms: percentile(&self.responses, 50),
            p99_ms: percentile(&self.responses, 99),
            results,
        }
    }
}

/// A percentile by the nearest-rank method, interpolated linearly within a bucket. The estimate is
/// in the same bucket as the exact value.
fn percentile(responses: &BTreeMap<Latency, u64>, percent: u64) -> Option<u32> {
    let total: u64 = responses.values().sum();
    let rank = u128::from(total) * u128::from(percent);
    let mut before = 0;
    for (latency, count) in responses {
        let (rank, count) = (rank.div_ceil(100) - before, u128::from(*count));
        if rank <= count {
            let (shortest, longest) = latency.bounds();
            let width = u128::from(longest - shortest);
            // The middle of the bucket's slice for the attempt at `rank`.
            let offset = width * (2 * rank).saturating_sub(1) / (2 * count.max(1));
            return Some(shortest + u32::try_from(offset).expect("no wider than the bucket"));
        }
        before += count;
    }
    None
}

#[cfg(test)]
mod tests;
