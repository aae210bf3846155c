//! What a kill did to deliveries, from the log of the load.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use postrider_tests::wait::seconds;
use tokio::time::Instant;

use super::steady::Log;

/// How long the load runs undisturbed before each kill.
pub const CALM: Duration = seconds(2);
/// The time after a kill that shows what it costs.
const DURING: Duration = seconds(1);
/// How long a killed node stays away.
pub const AWAY: Duration = seconds(3);

/// What happened when.
pub struct Kill {
    /// Shards that the node owned.
    pub shards: HashSet<u64>,
    pub at: Instant,
    pub owned_again: Duration,
    /// When the node was started again.
    pub restarted: Instant,
    /// When all had their shares again.
    pub ended: Instant,
}

/// What one kill came to.
pub struct Takeover {
    /// Shards that the node owned.
    pub shards: usize,
    /// Until none of them was the dead node's or nobody's.
    pub owned_again: Duration,
    /// The longest that a delivery was kept whose endpoint was in one of them.
    pub kept: Duration,
    /// The longest that another delivery was kept. The dead node may have accepted its event
    /// without living to tell the owner, who then finds it by looking for itself.
    pub kept_elsewhere: Duration,
    /// The longest that a delivery took which was published well before.
    pub kept_before: Duration,
    /// Requests that came again while the node was away.
    pub again: usize,
    /// And while it came back and got its share.
    pub again_later: usize,
    /// Deliveries a second, each counted once.
    pub before: f64,
    pub during: f64,
    pub after: f64,
}

/// The load, event by event.
pub struct Deliveries {
    events: Vec<Delivery>,
    /// Requests that came again.
    again: Vec<Instant>,
}

struct Delivery {
    /// Of its endpoint.
    shard: u64,
    /// When the event was to be published.
    planned: Instant,
    /// When it arrived first.
    arrived: Instant,
}

impl Deliveries {
    /// What the log tells, when each event goes to the endpoint whose shard stands at its number.
    pub fn of(log: &Log, shards: &[u64]) -> Result<Self> {
        let firsts = log.arrivals.iter().filter(|seen| !seen.again);
        let mut firsts: Vec<_> = firsts.map(|seen| (seen.number, seen.at)).collect();
        firsts.sort_unstable();
        let as_published = (0..log.published).eq(firsts.iter().map(|(number, _)| *number));
        ensure!(as_published, "an event was accepted twice under one key");
        let shards = shards.iter().copied().cycle();
        let events = firsts.into_iter().zip(shards).map(|((number, arrived), shard)| Delivery {
            shard,
            planned: log.plan.of(number),
            arrived,
        });
        let again = log.arrivals.iter().filter(|seen| seen.again).map(|seen| seen.at);
        Ok(Self { events: events.collect(), again: again.collect() })
    }

    pub fn judge(&self, kill: &Kill) -> Takeover {
        let &Kill { at, owned_again, restarted, ended, .. } = kill;
        let lost = |event: &Delivery| kill.shards.contains(&event.shard);
        let calm = at - CALM;
        Takeover {
            shards: kill.shards.len(),
            owned_again,
            kept: self.longest(calm, restarted, at, lost),
            kept_elsewhere: self.longest(calm, restarted, at, |event| !lost(event)),
            kept_before: self.longest(calm, calm + CALM / 2, calm, |_| true),
            again: self.again(at, restarted),
            again_later: self.again(restarted, ended + CALM),
            before: self.per_s(calm, at),
            during: self.per_s(at, at + DURING),
            after: self.per_s(at + DURING, at + AWAY),
        }
    }

    /// The longest that any of the events was under way after `since` which were to be published
    /// between two times.
    fn longest(
        &self,
        from: Instant,
        to: Instant,
        since: Instant,
        of: impl Fn(&Delivery) -> bool,
    ) -> Duration {
        let within = |event: &&Delivery| from <= event.planned && event.planned < to && of(event);
        let events = self.events.iter().filter(within);
        let kept =
            |event: &Delivery| event.arrived.saturating_duration_since(event.planned.max(since));
        events.map(kept).max().unwrap_or_default()
    }

    fn again(&self, from: Instant, to: Instant) -> usize {
        self.again.iter().filter(|&&at| from <= at && at < to).count()
    }

    fn per_s(&self, from: Instant, to: Instant) -> f64 {
        let arrived = |event: &&Delivery| from <= event.arrived && event.arrived < to;
        self.events.iter().filter(arrived).count() as f64 / (to - from).as_secs_f64()
    }
}
