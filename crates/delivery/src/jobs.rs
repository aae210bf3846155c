//! A shard's durable jobs: fan-outs, replays, and the sweep of expired rows. Each runs in bounded
//! steps with a durable cursor, so that losing a node costs at most one step. Each kind runs in its
//! own task, so that none waits for another: a replay may run for days. Moving retries after the
//! clock was set back is a job too, which a new owner of the shard repeats.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use postrider_cluster::route::Router;
use postrider_cluster::shard_guard::ShardGuard;
use postrider_domain::ids::{AccountId, IdGenerator, ReplayId};
use postrider_domain::replay::ReplayState;
use postrider_domain::time::Clock;
use postrider_store::kv::Error;
use postrider_store::{DueEndpoint, MAX_RUNNING_REPLAYS_PAGE, OwnerError, Records, Wake};
use tokio::time::Instant;

use crate::metrics::Metrics;

/// How often each running replay makes progress.
const TICK: Duration = Duration::from_millis(100);
/// Maximum steps of one replay per tick; a step creates at most 200 deliveries.
const STEPS_PER_TICK: usize = 8;
/// Delay before a failed store operation is retried.
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// Endpoints whose retries are moved, per read.
const STEP_BACK_PAGE: usize = 512;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum JobKind {
    /// Creates the remaining deliveries of events, new or resent, that have not reached all
    /// endpoints.
    FanOut,
    Replay,
    /// Deletes expired rows.
    Sweep,
    /// Moves retries after the clock was set back.
    StepBack,
}

/// The shard has a newer owner.
pub(crate) struct Fenced;

/// The pacing of one replay, kept only in memory.
#[derive(Default)]
struct Pacing {
    /// The last tick in which it ran.
    tick: u64,
    /// Deliveries that it may create now.
    budget: f64,
    /// When the budget was last refilled.
    refilled_at: Option<Instant>,
    /// Paused until this time, because its last step failed.
    paused_until: Option<Instant>,
}

/// Runs the durable jobs of shards.
pub(crate) struct Jobs {
    pub(crate) records: Records,
    pub(crate) router: Router,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) id_generator: Arc<IdGenerator>,
    pub(crate) metrics: Arc<Metrics>,
}

impl Jobs {
    /// Runs until the shard has no jobs of this kind left or the guard is revoked.
    pub(crate) async fn run(&self, kind: JobKind, guard: &ShardGuard) -> Result<(), Fenced> {
        loop {
            let ran = match kind {
                JobKind::FanOut => self.fan_out(guard).await,
                JobKind::Replay => self.replay(guard).await,
                JobKind::Sweep => self.sweep(guard).await,
                JobKind::StepBack => self.step_back(guard).await,
            };
            match ran {
                Ok(()) => return Ok(()),
                Err(OwnerError::Fenced) => {
                    self.metrics.cluster.fenced(1);
                    return Err(Fenced);
                }
                Err(OwnerError::Store(error)) => {
                    tracing::warn!(shard = guard.fence().shard, ?kind, %error, "running a shard's jobs failed; retrying");
                    tokio::time::sleep(RETRY_DELAY).await;
                }
            }
            if guard.is_revoked() {
                return Ok(());
            }
        }
    }

    async fn fan_out(&self, guard: &ShardGuard) -> Result<(), OwnerError> {
        while !guard.is_revoked() {
            match self.records.step_fan_out(guard.fence(), &self.id_generator).await? {
                Some(wakes) => self.router.wake(wakes),
                None => break,
            }
        }
        Ok(())
    }

    async fn sweep(&self, guard: &ShardGuard) -> Result<(), OwnerError> {
        while !guard.is_revoked() && self.records.sweep(guard.fence(), self.clock.now()).await? {}
        Ok(())
    }

    async fn step_back(&self, guard: &ShardGuard) -> Result<(), OwnerError> {
        let mut seen = HashSet::new();
        // Pointers move meanwhile, perhaps from a page that is still to be read to one that has been
        // read. The second pass finds those endpoints.
        for _ in 0..2 {
            let mut after = None;
            loop {
                let (shard, limit) = (guard.fence().shard, STEP_BACK_PAGE);
                let read = self.records.due_endpoints(shard, after.as_ref(), limit).await?;
                for pointer in &read {
                    if guard.is_revoked() {
                        return Ok(());
                    }
                    if seen.insert(pointer.endpoint) {
                        self.step_endpoint_back(guard, pointer).await?;
                    }
                }
                after = read.last().filter(|_| read.len() == limit).copied();
                if after.is_none() {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Moves the retries of one endpoint. Unreadable ones do not block those of other endpoints.
    async fn step_endpoint_back(
        &self,
        guard: &ShardGuard,
        pointer: &DueEndpoint,
    ) -> Result<(), OwnerError> {
        let (fence, records) = (guard.fence(), &self.records);
        let DueEndpoint { account, endpoint, .. } = *pointer;
        let (mut moved, mut after) = (0, None);
        loop {
            let now = self.clock.now();
            match records.step_back(fence, account, endpoint, after, now).await {
                Ok(batch) => {
                    moved += batch.moved;
                    after = batch.next;
                }
                Err(OwnerError::Store(error @ Error::Corrupt(_))) => {
                    tracing::error!(%endpoint, %error, "moving an endpoint's retries failed");
                    break;
                }
                Err(error) => return Err(error),
            }
            if after.is_none() || guard.is_revoked() {
                break;
            }
        }
        if moved > 0 {
            records.update_pointer(fence, account, endpoint).await?;
            let wake = Wake::Endpoint { shard: fence.shard, account, endpoint, ready: None };
            self.router.wake(vec![wake]);
        }
        Ok(())
    }

    async fn replay(&self, guard: &ShardGuard) -> Result<(), OwnerError> {
        let mut pacings: HashMap<ReplayId, Pacing> = HashMap::new();
        for tick in 1.. {
            let (mut wait, mut after) = (false, None);
            // Each running replay gets its turn in every tick, however many there are.
            loop {
                let shard = guard.fence().shard;
                let running = self.records.running_replays(shard, after).await?;
                for (account, id) in &running {
                    if guard.is_revoked() {
                        return Ok(());
                    }
                    let pacing = pacings.entry(*id).or_default();
                    pacing.tick = tick;
                    wait |= self.run_replay(guard, (*account, *id), pacing).await?;
                }
                after = running.last().map(|(_, id)| *id);
                if running.len() < MAX_RUNNING_REPLAYS_PAGE {
                    break;
                }
            }
            pacings.retain(|_, pacing| pacing.tick == tick);
            if pacings.is_empty() {
                break;
            }
            // Events that the filter skips create no deliveries, so they are skipped at full speed.
            if wait {
                tokio::time::sleep(TICK).await;
            }
        }
        Ok(())
    }

    /// Runs a replay for one tick, unless it is paused. Returns whether to wait for the next tick.
    /// A failure pauses only this replay.
    async fn run_replay(
        &self,
        guard: &ShardGuard,
        job: (AccountId, ReplayId),
        pacing: &mut Pacing,
    ) -> Result<bool, OwnerError> {
        if pacing.paused_until.is_some_and(|until| until > Instant::now()) {
            return Ok(true);
        }
        match self.run_tick(guard, job, pacing).await {
            Ok(wait) => {
                pacing.paused_until = None;
                Ok(wait)
            }
            Err(OwnerError::Store(error)) => {
                log_failure(job.1, &error, pacing.paused_until.is_none());
                pacing.paused_until = Some(Instant::now() + RETRY_DELAY);
                Ok(true)
            }
            Err(OwnerError::Fenced) => Err(OwnerError::Fenced),
        }
    }

    /// Runs a replay's steps of one tick. Returns whether to wait for the next tick: true if
    /// deliveries were created or the budget is used up.
    async fn run_tick(
        &self,
        guard: &ShardGuard,
        (account, id): (AccountId, ReplayId),
        Pacing { budget, refilled_at, .. }: &mut Pacing,
    ) -> Result<bool, OwnerError> {
        let records = &self.records;
        // A deleted replay has neither; the step below finds that out.
        let replay = records.replay(account, id).await?;
        let (rate, mut done) = replay.map_or((0, 0), |replay| (replay.rate, replay.done));
        let now = Instant::now();
        let elapsed = refilled_at.replace(now).map_or(TICK, |before| now - before);
        *budget = refill(*budget, rate, elapsed);
        let mut wait = false;
        for _ in 0..STEPS_PER_TICK {
            let limit = *budget as usize;
            if limit == 0 && rate > 0 {
                // The rate is below one delivery per tick, and none is due yet.
                return Ok(true);
            }
            let now = self.clock.now();
            let step = records
                .step_replay(guard.fence(), account, id, limit, &self.id_generator, now)
                .await?;
            let Some((replay, wakes)) = step else { break };
            // Deliveries to a disabled endpoint cause no wake, but they use the budget too.
            let created = replay.done.saturating_sub(done);
            done = replay.done;
            *budget -= created as f64;
            wait |= created > 0;
            self.router.wake(wakes);
            if replay.state != ReplayState::Running || guard.is_revoked() {
                break;
            }
        }
        Ok(wait)
    }
}

/// Logs only the first of consecutive failures as a warning.
fn log_failure(replay: ReplayId, error: &Error, first: bool) {
    if first {
        tracing::warn!(%replay, %error, "a replay step failed; retrying until it succeeds");
    } else {
        tracing::debug!(%replay, %error, "a replay step failed again");
    }
}

/// Longest time whose deliveries are granted in one refill: if many replays run or the store is
/// slow, a tick takes longer than its interval.
const MAX_REFILL_INTERVAL: Duration = Duration::from_secs(2);

/// A token bucket: the new budget after `elapsed`, given what is `left` of the old one. At most one
/// tick's worth (but at least one delivery) carries over, so that a delay is not followed by a
/// burst while slow rates still add up to whole deliveries.
fn refill(left: f64, rate: u32, elapsed: Duration) -> f64 {
    let rate = f64::from(rate);
    let rest = left.min((rate * TICK.as_secs_f64()).max(1.0));
    rest + rate * elapsed.min(MAX_REFILL_INTERVAL).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Deliveries created in a minute, if events never run out.
    fn created_in_a_minute(rate: u32) -> u32 {
        let (mut left, mut created) = (0.0, 0);
        for _ in 0..600 {
            left = refill(left, rate, TICK);
            created += left as u32;
            left = left.fract();
        }
        created
    }

    #[test]
    fn every_rate_is_kept_even_the_slowest() {
        for rate in [1, 2, 3, 4, 5, 7, 10, 15, 99, 1_000] {
            let (created, due) = (created_in_a_minute(rate), 60 * rate);
            assert!(created.abs_diff(due) <= 1, "{created} at {rate} a second");
        }
    }

    #[test]
    fn a_delay_is_not_followed_by_a_burst() {
        for rate in [1, 10, 100] {
            let idle = (0..1_000).fold(0.0, |left, _| refill(left, rate, TICK));
            assert!(idle <= 1.0_f64.max(f64::from(rate) / 10.0) + f64::from(rate) / 10.0, "{rate}");
        }
    }
}
