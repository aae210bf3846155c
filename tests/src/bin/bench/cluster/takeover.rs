//! How long endpoints wait when their node is killed, and what comes twice.
//!
//! Two clocks are read for each `kill -9`: until another node's view has no shard left that is the
//! dead node's or nobody's, and how long a delivery was kept at most. The latter counts from the
//! kill or, for an event that came after it, from the moment at which that was to be published.
//! Every endpoint's events come at an even pace, so this is also how long any of them went without
//! what was due.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use postrider_tests::cluster::until_cluster;
use postrider_tests::config::Config;
use postrider_tests::wait::{millis, seconds};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::{Instant, sleep, sleep_until};

use super::steady::{Log, Plan, Steady};
use crate::Options;
use crate::node::Bench;
use crate::receiver::{Manner, Receiver};
use crate::service::Service;

/// Endpoints, over all shards.
pub const ENDPOINTS: usize = 60;
/// How long the receiver takes to answer, so that requests are in flight when a node is killed.
pub const ANSWERED_AFTER: Duration = millis(50);
/// How long the load runs undisturbed before each kill.
const CALM: Duration = seconds(2);
/// The time after a kill that shows what it costs.
const DURING: Duration = seconds(1);
/// How long a killed node stays away.
const AWAY: Duration = seconds(3);
/// A node's shards are taken within, or the run has failed.
const TAKEN_WITHIN: Duration = seconds(30);

/// What all kills came to.
pub struct Takeovers {
    pub seed: u64,
    pub events: u64,
    pub took: Duration,
    pub kills: Vec<Takeover>,
}

/// What one kill came to.
pub struct Takeover {
    /// Shards that the node owned.
    pub shards: u64,
    pub owned_again: Duration,
    /// The longest that a delivery was kept by the kill.
    pub kept: Duration,
    /// The longest that a delivery took which was published well before it.
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

/// What happened when.
struct Kill {
    shards: u64,
    at: Instant,
    owned_again: Duration,
    /// When the node was started again.
    restarted: Instant,
    /// When all had their shares again.
    ended: Instant,
}

pub async fn run(options: &Options, nodes: usize, receiver: Arc<Receiver>) -> Result<Takeovers> {
    let began = Instant::now();
    let seed = options.seed.unwrap_or_else(rand::random);
    let mut dice = StdRng::seed_from_u64(seed);
    let options = Options { endpoints: ENDPOINTS, ..options.clone() };
    let mut service = Service::cluster(&Config::new(), nodes).await?;
    let bench = Arc::new(Bench::start(&options, receiver, &service).await?);
    bench.receiver.answer(Manner::After(ANSWERED_AFTER));
    let load = Steady::start(bench.clone());
    let mut kills = Vec::new();
    while kills.len() < options.kills && load.runs() {
        sleep(CALM).await;
        kills.push(kill(&mut service, dice.random_range(0..nodes)).await?);
        eprintln!("killed {} of {}", kills.len(), options.kills);
    }
    sleep(CALM).await;
    let log = load.stop().await?;
    bench.receiver.answer(Manner::AtOnce);
    service.stop().await?;
    if kills.len() < options.kills {
        bail!("the load ended after {} kills", kills.len());
    }
    let deliveries = Deliveries::of(&log)?;
    let kills = kills.iter().map(|kill| deliveries.judge(kill, &log)).collect();
    Ok(Takeovers { seed, events: log.published, took: began.elapsed(), kills })
}

/// Kills a node, and starts it again when it has been away for a while.
async fn kill(service: &mut Service, index: usize) -> Result<Kill> {
    let survivor = service.operator((index + 1) % service.bases().len())?;
    let cluster = service.nodes()?;
    let seen = survivor.cluster().await?;
    let name = cluster.name(index);
    let lost = seen.nodes.into_iter().find(|node| node.name == name && node.state == "alive");
    let lost = lost.with_context(|| format!("{name} is alive"))?;
    let at = Instant::now();
    cluster.kill(index).await?;
    until_cluster(&survivor, "a killed node's shards are taken", TAKEN_WITHIN, |cluster| {
        cluster.unowned == 0 && cluster.owners.iter().all(|owner| owner.node != lost.id)
    })
    .await?;
    let owned_again = at.elapsed();
    sleep_until(at + AWAY).await;
    let restarted = Instant::now();
    cluster.start_one(index).await?;
    service.balanced().await?;
    Ok(Kill { shards: lost.shards, at, owned_again, restarted, ended: Instant::now() })
}

/// The first arrival of each event.
struct Deliveries {
    plan: Plan,
    first: Vec<Instant>,
}

impl Deliveries {
    fn of(log: &Log) -> Result<Self> {
        let firsts = log.arrivals.iter().filter(|seen| !seen.again);
        let mut first: Vec<_> = firsts.map(|seen| (seen.number, seen.at)).collect();
        first.sort_unstable();
        let as_published = (0..log.published).eq(first.iter().map(|(number, _)| *number));
        ensure!(as_published, "an event was accepted twice under one key");
        Ok(Self { plan: log.plan, first: first.into_iter().map(|(_, at)| at).collect() })
    }

    fn judge(&self, kill: &Kill, log: &Log) -> Takeover {
        let &Kill { shards, at, owned_again, restarted, ended } = kill;
        let again = |from: Instant, to: Instant| {
            let within = |at: Instant| from <= at && at < to;
            log.arrivals.iter().filter(|seen| seen.again && within(seen.at)).count()
        };
        Takeover {
            shards,
            owned_again,
            kept: self.longest(at - CALM, restarted, at),
            kept_before: self.longest(at - CALM, at - CALM / 2, at - CALM),
            again: again(at, restarted),
            again_later: again(restarted, ended + CALM),
            before: self.per_s(at - CALM, at),
            during: self.per_s(at, at + DURING),
            after: self.per_s(at + DURING, at + AWAY),
        }
    }

    /// The longest that an event was under way after `since`, of those that were to be published
    /// between two times.
    fn longest(&self, from: Instant, to: Instant, since: Instant) -> Duration {
        let events = (0..).zip(&self.first).map(|(number, &at)| (self.plan.of(number), at));
        let events = events.filter(|(planned, _)| from <= *planned && *planned < to);
        let waits = events.map(|(planned, at)| at.saturating_duration_since(planned.max(since)));
        waits.max().unwrap_or_default()
    }

    fn per_s(&self, from: Instant, to: Instant) -> f64 {
        let count = self.first.iter().filter(|&&at| from <= at && at < to).count();
        count as f64 / (to - from).as_secs_f64()
    }
}
