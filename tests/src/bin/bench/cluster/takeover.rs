//! How long endpoints wait when their node is killed, and what comes twice.
//!
//! Two clocks are read for each `kill -9`: until another node's view has no shard left that is the
//! dead node's or nobody's, and how long a delivery to one of its endpoints was kept at most. The
//! latter counts from the kill or, for an event that came after it, from the moment at which that
//! was to be published. Every endpoint's events come at an even pace, so this is also how long any
//! of them went without what was due.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use postrider_tests::cluster::until_cluster;
use postrider_tests::config::Config;
use postrider_tests::wait::{millis, seconds};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::{Instant, sleep, sleep_until};

use super::aftermath::{AWAY, CALM, Deliveries, Kill, Takeover};
use super::shards;
use super::steady::Steady;
use crate::Options;
use crate::node::Bench;
use crate::receiver::{Manner, Receiver};
use crate::service::Service;

/// Endpoints, over all shards.
pub const ENDPOINTS: usize = 60;
/// How long the receiver takes to answer, so that requests are in flight when a node is killed.
pub const ANSWERED_AFTER: Duration = millis(50);
/// A node's shards are taken within, or the run has failed.
const TAKEN_WITHIN: Duration = seconds(30);

/// What all kills came to.
pub struct Takeovers {
    pub seed: u64,
    pub events: u64,
    pub took: Duration,
    pub kills: Vec<Takeover>,
}

pub async fn run(options: &Options, nodes: usize, receiver: Arc<Receiver>) -> Result<Takeovers> {
    let began = Instant::now();
    let seed = options.seed.unwrap_or_else(rand::random);
    let mut dice = StdRng::seed_from_u64(seed);
    let options = Options { endpoints: ENDPOINTS, ..options.clone() };
    let mut service = Service::cluster(&Config::new(), nodes).await?;
    let bench = Arc::new(Bench::start(&options, receiver, &service).await?);
    let shards = shards::of_endpoints(&bench, &service).await?;
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
    let deliveries = Deliveries::of(&log, &shards)?;
    let kills = kills.iter().map(|kill| deliveries.judge(kill)).collect();
    Ok(Takeovers { seed, events: log.published, took: began.elapsed(), kills })
}

/// Kills a node, and starts it again when it has been away for a while.
async fn kill(service: &mut Service, index: usize) -> Result<Kill> {
    let survivor = service.operator((index + 1) % service.bases().len())?;
    let cluster = service.nodes()?;
    let seen = survivor.cluster().await?;
    let name = cluster.name(index);
    let lost = seen.nodes.into_iter().find(|node| node.name == name && node.state == "alive");
    let lost = lost.with_context(|| format!("{name} is alive"))?.id;
    let shards = seen.owners.iter().filter(|owner| owner.node == lost);
    let shards = shards.map(|owner| owner.shard).collect();
    let at = Instant::now();
    cluster.kill(index).await?;
    until_cluster(&survivor, "a killed node's shards are taken", TAKEN_WITHIN, |cluster| {
        cluster.unowned == 0 && cluster.owners.iter().all(|owner| owner.node != lost)
    })
    .await?;
    let owned_again = at.elapsed();
    sleep_until(at + AWAY).await;
    let restarted = Instant::now();
    cluster.start_one(index).await?;
    service.balanced().await?;
    Ok(Kill { shards, at, owned_again, restarted, ended: Instant::now() })
}
