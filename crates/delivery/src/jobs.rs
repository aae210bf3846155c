//! A shard's durable jobs: fan-outs, replays, and forgetting what has expired. Each goes in
//! bounded steps with a durable cursor, so that a lost node costs at most a step. Each kind has a
//! task of its own, so that none waits for another: a replay may run for days.

use std::collections::HashMap;
use std::time::Duration;

use postrider_cluster::tenure::Tenure;
use postrider_domain::ids::{AccountId, ReplayId};
use postrider_domain::replay::ReplayState;
use postrider_store::kv::Error;
use postrider_store::{OwnerError, RUNNING_AT_ONCE};
use tokio::time::Instant;

use crate::context::Context;

/// How often a running replay is worked on.
const BEAT: Duration = Duration::from_millis(100);
/// Steps of one replay in a beat; a step makes at most 200 deliveries.
const STEPS: usize = 8;
/// The pause after the store failed.
const PAUSE: Duration = Duration::from_secs(1);

/// The kinds of jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// Events that have not reached all of their endpoints, and past events that are sent again.
    FanOut,
    /// Replays.
    Replay,
    /// Forgetting what has expired.
    Sweep,
}

/// Works until the shard has no jobs of this kind left or the tenure is over.
///
/// # Errors
/// When the shard has a later owner.
pub(crate) async fn run(kind: Kind, context: &Context, tenure: &Tenure) -> Result<(), Fenced> {
    loop {
        let ran = match kind {
            Kind::FanOut => fan_out(context, tenure).await,
            Kind::Replay => replay(context, tenure).await,
            Kind::Sweep => sweep(context, tenure).await,
        };
        match ran {
            Ok(()) => return Ok(()),
            Err(OwnerError::Fenced) => {
                context.metrics.cluster.fenced(1);
                return Err(Fenced);
            }
            Err(OwnerError::Store(error)) => {
                tracing::warn!(shard = tenure.fence().shard, ?kind, %error, "running a shard's jobs failed; retrying");
                tokio::time::sleep(PAUSE).await;
            }
        }
        if tenure.is_over() {
            return Ok(());
        }
    }
}

/// The shard has a later owner.
pub(crate) struct Fenced;

async fn fan_out(context: &Context, tenure: &Tenure) -> Result<(), OwnerError> {
    while !tenure.is_over() {
        match context.records.step_fan_out(tenure.fence()).await? {
            Some(wakes) => context.router.wake(wakes),
            None => break,
        }
    }
    Ok(())
}

async fn sweep(context: &Context, tenure: &Tenure) -> Result<(), OwnerError> {
    while !tenure.is_over() && context.records.sweep(tenure.fence(), context.now()).await? {}
    Ok(())
}

/// How a replay gets on, in this task's memory alone.
#[derive(Default)]
struct Progress {
    /// The last beat in which it ran.
    beat: u64,
    /// Deliveries that it may make now.
    budget: f64,
    /// When it was last given some.
    granted_at: Option<Instant>,
    /// Its last step failed; it rests until then.
    resting_until: Option<Instant>,
}

async fn replay(context: &Context, tenure: &Tenure) -> Result<(), OwnerError> {
    let mut all: HashMap<ReplayId, Progress> = HashMap::new();
    for beat in 1.. {
        let (mut wait, mut after) = (false, None);
        // However many there are, each has its turn in every beat.
        loop {
            let shard = tenure.fence().shard;
            let running = context.records.running_replays(shard, after).await?;
            for (account, id) in &running {
                if tenure.is_over() {
                    return Ok(());
                }
                let progress = all.entry(*id).or_default();
                progress.beat = beat;
                wait |= go_on(context, tenure, (*account, *id), progress).await?;
            }
            after = running.last().map(|(_, id)| *id);
            if running.len() < RUNNING_AT_ONCE {
                break;
            }
        }
        all.retain(|_, progress| progress.beat == beat);
        if all.is_empty() {
            break;
        }
        // What the filter passes over costs nobody a delivery, so it goes as fast as it can.
        if wait {
            tokio::time::sleep(BEAT).await;
        }
    }
    Ok(())
}

/// Works on a replay for a beat, unless it rests, and tells whether the next beat is to be awaited.
/// Whatever is wrong with it does not concern the others.
async fn go_on(
    context: &Context,
    tenure: &Tenure,
    job: (AccountId, ReplayId),
    progress: &mut Progress,
) -> Result<bool, OwnerError> {
    if progress.resting_until.is_some_and(|until| until > Instant::now()) {
        return Ok(true);
    }
    match beat(context, tenure, job, progress).await {
        Ok(wait) => {
            progress.resting_until = None;
            Ok(wait)
        }
        Err(OwnerError::Store(error)) => {
            tell_of_failure(job.1, &error, progress.resting_until.is_none());
            progress.resting_until = Some(Instant::now() + PAUSE);
            Ok(true)
        }
        Err(OwnerError::Fenced) => Err(OwnerError::Fenced),
    }
}

/// Says once in a row that a replay's step failed.
fn tell_of_failure(replay: ReplayId, error: &Error, first: bool) {
    if first {
        tracing::warn!(%replay, %error, "a replay's step failed; it is tried again until it succeeds");
    } else {
        tracing::debug!(%replay, %error, "a replay's step failed again");
    }
}

/// Takes a replay's steps of one beat, and tells whether the next beat is to be awaited: these
/// made deliveries, or none was due yet.
async fn beat(
    context: &Context,
    tenure: &Tenure,
    (account, id): (AccountId, ReplayId),
    Progress { budget, granted_at, .. }: &mut Progress,
) -> Result<bool, OwnerError> {
    let records = &context.records;
    // One that is gone has neither; its step finds that out.
    let replay = records.replay(account, id).await?;
    let (rate, mut done) = replay.map_or((0, 0), |replay| (replay.rate, replay.done));
    let now = Instant::now();
    let passed = granted_at.replace(now).map_or(BEAT, |before| now - before);
    *budget = allowance(*budget, rate, passed);
    let mut wait = false;
    for _ in 0..STEPS {
        let most = *budget as usize;
        if most == 0 && rate > 0 {
            // Slower than one a beat: nothing is due yet.
            return Ok(true);
        }
        let now = context.now();
        let step =
            records.step_replay(tenure.fence(), account, id, most, &context.mint, now).await?;
        let Some((replay, wakes)) = step else { break };
        // What is made for a disabled endpoint wakes nobody, and counts as well.
        let made = replay.done.saturating_sub(done);
        done = replay.done;
        *budget -= made as f64;
        wait |= made > 0;
        context.router.wake(wakes);
        if replay.state != ReplayState::Running || tenure.is_over() {
            break;
        }
    }
    Ok(wait)
}

/// The longest time for which a replay is granted deliveries at once: where many run, or the store is
/// slow, a beat takes longer than its pause.
const LONGEST_BEAT: Duration = Duration::from_secs(2);

/// What a replay may make now, when so much time has passed since it was granted some, with what is
/// left of that. The rest is never more than a beat's worth, so nothing is made up for in a burst; but
/// a whole delivery may add up.
fn allowance(left: f64, rate: u32, passed: Duration) -> f64 {
    let rate = f64::from(rate);
    let rest = left.min((rate * BEAT.as_secs_f64()).max(1.0));
    rest + rate * passed.min(LONGEST_BEAT).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Deliveries made in a minute, if there is always another one.
    fn made_in_a_minute(rate: u32) -> u32 {
        let (mut left, mut made) = (0.0, 0);
        for _ in 0..600 {
            left = allowance(left, rate, BEAT);
            made += left as u32;
            left = left.fract();
        }
        made
    }

    #[test]
    fn every_rate_is_kept_also_the_slowest() {
        for rate in [1, 2, 3, 4, 5, 7, 10, 15, 99, 1_000] {
            let (made, due) = (made_in_a_minute(rate), 60 * rate);
            assert!(made.abs_diff(due) <= 1, "{made} at {rate} a second");
        }
    }

    #[test]
    fn nothing_is_made_up_for_in_a_burst() {
        for rate in [1, 10, 100] {
            let idle = (0..1_000).fold(0.0, |left, _| allowance(left, rate, BEAT));
            assert!(idle <= 1.0_f64.max(f64::from(rate) / 10.0) + f64::from(rate) / 10.0, "{rate}");
        }
    }
}
