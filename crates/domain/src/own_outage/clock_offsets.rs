//! Whether this node's clock is wrong, judged by the `Date` headers of responses.

use std::time::Duration;

use super::{MIN_UNRELATED, unrelated};
use crate::ids::AccountId;
use crate::time::Timestamp;

/// How far a clock may be off before receivers reject signatures: the tolerance of Standard
/// Webhooks.
pub const TOLERANCE: Duration = Duration::from_secs(5 * 60);
/// How long an endpoint's date is used.
const MAX_AGE: Duration = Duration::from_secs(10 * 60);
/// How many accounts' dates are kept.
const MAX_ACCOUNTS: usize = 64;

/// The clocks of the endpoints, one for each account: the latest seen.
#[derive(Clone, Debug, Default)]
pub struct ClockOffsets(Vec<Sample>);

#[derive(Clone, Debug)]
struct Sample {
    account: AccountId,
    site: String,
    /// The endpoint's time minus this node's uptime, which no step of this node's clock changes.
    offset_ms: i64,
    at: Duration,
}

impl ClockOffsets {
    /// A response had this `Date`.
    pub fn observe(&mut self, account: AccountId, site: String, date: Timestamp, now: Duration) {
        self.0
            .retain(|sample| sample.account != account && now.saturating_sub(sample.at) < MAX_AGE);
        if self.0.len() >= MAX_ACCOUNTS {
            let oldest = (0..self.0.len()).min_by_key(|index| self.0[*index].at);
            self.0.swap_remove(oldest.expect("there are samples"));
        }
        self.0.push(Sample { account, site, offset_ms: millis(date) - uptime_ms(now), at: now });
    }

    /// Whether the clock, which shows `wall`, differs by more than [`TOLERANCE`] from the median of
    /// the endpoints' clocks. Endpoints that are related do not suffice.
    #[must_use]
    pub fn is_wrong(&self, wall: Timestamp, now: Duration) -> bool {
        let recent = self.0.iter().filter(|sample| now.saturating_sub(sample.at) < MAX_AGE);
        let (mut offsets, targets): (Vec<_>, Vec<_>) =
            recent.map(|sample| (sample.offset_ms, (sample.account, sample.site.as_str()))).unzip();
        if unrelated(&targets) < MIN_UNRELATED {
            return false;
        }
        offsets.sort_unstable();
        let median = offsets[offsets.len() / 2];
        let own = millis(wall) - uptime_ms(now);
        Duration::from_millis(own.abs_diff(median)) > TOLERANCE
    }
}

fn millis(time: Timestamp) -> i64 {
    i64::try_from(time.millis()).unwrap_or(i64::MAX / 4)
}

fn uptime_ms(uptime: Duration) -> i64 {
    i64::try_from(uptime.as_millis()).unwrap_or(i64::MAX / 4)
}

/// Whether a receiver that found the signature's time wrong may have responded with this status.
#[must_use]
pub const fn may_reject_the_time(status: u16) -> bool {
    matches!(status, 400 | 401 | 403 | 406 | 409 | 412 | 422)
}
