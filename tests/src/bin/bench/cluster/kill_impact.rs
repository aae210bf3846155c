//! The effect of a kill on deliveries, computed from the log of the load.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use postrider_tests::wait::seconds;
use tokio::time::Instant;

use super::steady_load::Log;

/// Undisturbed load before each kill.
pub const WARM_UP: Duration = seconds(2);
/// The time after a kill in which its effect is measured.
const DURING: Duration = seconds(1);
/// Downtime of a killed node.
pub const DOWNTIME: Duration = seconds(3);

/// The times of a kill.
pub struct Kill {
    /// Shards of the killed node.
    pub shards: HashSet<u64>,
    pub at: Instant,
    pub owned_again: Duration,
    pub restarted: Instant,
    /// The time at which all nodes had their shares again.
    pub balanced: Instant,
}

/// The measurements of one kill.
pub struct Takeover {
    /// Shards of the killed node.
    pub shards: usize,
    /// Until all of them had a living owner.
    pub owned_again: Duration,
    /// The longest delay of a delivery in one of these shards.
    pub max_delay: Duration,
    /// The longest delay of any other delivery. The dead node may have accepted the event without
    /// waking the owner, which then finds it by polling.
    pub max_delay_elsewhere: Duration,
    /// The longest delay before the kill.
    pub max_delay_before: Duration,
    /// Duplicates while the node was down.
    pub duplicates: usize,
    /// Duplicates while the node came back and got its share.
    pub duplicates_later: usize,
    /// Deliveries per second, without duplicates.
    pub before: f64,
    pub during: f64,
    pub after: f64,
}

/// The load, event by event.
pub struct Deliveries {
    events: Vec<Delivery>,
    duplicates: Vec<Instant>,
}

struct Delivery {
    /// The endpoint's shard.
    shard: u64,
    /// The scheduled time of publication.
    scheduled: Instant,
    /// The first arrival.
    arrived: Instant,
}

impl Deliveries {
    /// Reads the log. Event `n` goes to the endpoint whose shard is `shards[n]`, modulo its length.
    pub fn of(log: &Log, shards: &[u64]) -> Result<Self> {
        let firsts = log.arrivals.iter().filter(|seen| !seen.duplicate);
        let mut firsts: Vec<_> = firsts.map(|seen| (seen.number, seen.at)).collect();
        firsts.sort_unstable();
        let as_published = (0..log.published).eq(firsts.iter().map(|(number, _)| *number));
        ensure!(as_published, "an idempotency key was accepted as two events");
        let shards = shards.iter().copied().cycle();
        let events = firsts.into_iter().zip(shards).map(|((number, arrived), shard)| Delivery {
            shard,
            scheduled: log.plan.of(number),
            arrived,
        });
        let duplicates = log.arrivals.iter().filter(|seen| seen.duplicate).map(|seen| seen.at);
        Ok(Self { events: events.collect(), duplicates: duplicates.collect() })
    }

    pub fn measure(&self, kill: &Kill) -> Takeover {
        let &Kill { at, owned_again, restarted, balanced, .. } = kill;
        let lost = |event: &Delivery| kill.shards.contains(&event.shard);
        let start = at - WARM_UP;
        Takeover {
            shards: kill.shards.len(),
            owned_again,
            max_delay: self.max_delay(start, restarted, at, lost),
            max_delay_elsewhere: self.max_delay(start, restarted, at, |event| !lost(event)),
            max_delay_before: self.max_delay(start, start + WARM_UP / 2, start, |_| true),
            duplicates: self.duplicates(at, restarted),
            duplicates_later: self.duplicates(restarted, balanced + WARM_UP),
            before: self.per_s(start, at),
            during: self.per_s(at, at + DURING),
            after: self.per_s(at + DURING, at + DOWNTIME),
        }
    }

    /// The longest delay after `since` of the events scheduled in an interval.
    fn max_delay(
        &self,
        from: Instant,
        to: Instant,
        since: Instant,
        of: impl Fn(&Delivery) -> bool,
    ) -> Duration {
        let within =
            |event: &&Delivery| from <= event.scheduled && event.scheduled < to && of(event);
        let events = self.events.iter().filter(within);
        let delay =
            |event: &Delivery| event.arrived.saturating_duration_since(event.scheduled.max(since));
        events.map(delay).max().unwrap_or_default()
    }

    fn duplicates(&self, from: Instant, to: Instant) -> usize {
        self.duplicates.iter().filter(|&&at| from <= at && at < to).count()
    }

    fn per_s(&self, from: Instant, to: Instant) -> f64 {
        let arrived = |event: &&Delivery| from <= event.arrived && event.arrived < to;
        self.events.iter().filter(arrived).count() as f64 / (to - from).as_secs_f64()
    }
}
