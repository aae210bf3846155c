//! Measures how long deliveries wait when a node is killed, and how many duplicates there are.
//!
//! Two times are measured for each SIGKILL: until every shard of the dead node has a new owner, as
//! seen by another node, and the longest delay of a delivery in these shards. The delay counts from
//! the kill or, for a later event, from its scheduled publication. Events are published at a
//! constant rate, so this is also the longest time that any endpoint went without a due delivery.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use postrider_tests::cluster::until_cluster;
use postrider_tests::config::Config;
use postrider_tests::wait::{millis, seconds};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::{Instant, sleep, sleep_until};

use super::kill_impact::{DOWNTIME, Deliveries, Kill, Takeover, WARM_UP};
use super::shards;
use super::steady_load::SteadyLoad;
use crate::Options;
use crate::deployment::Deployment;
use crate::node::Bench;
use crate::receiver::{Receiver, ResponseMode};

/// Endpoints over all shards.
pub const ENDPOINTS: usize = 60;
/// The receiver's response delay, so that requests are in flight when a node is killed.
pub const RESPONSE_DELAY: Duration = millis(50);
/// The deadline for the takeover of a node's shards.
const TAKEN_OVER_WITHIN: Duration = seconds(30);

/// The results of all kills.
pub struct Takeovers {
    pub seed: u64,
    pub events: u64,
    pub took: Duration,
    pub kills: Vec<Takeover>,
}

pub async fn run(options: &Options, nodes: usize, receiver: Arc<Receiver>) -> Result<Takeovers> {
    let began = Instant::now();
    let seed = options.seed.unwrap_or_else(rand::random);
    let mut rng = StdRng::seed_from_u64(seed);
    let options = Options { endpoints: ENDPOINTS, ..options.clone() };
    let mut deployment = Deployment::cluster(&Config::new(), nodes).await?;
    let bench = Arc::new(Bench::start(&options, receiver, &deployment).await?);
    let shards = shards::of_endpoints(&bench, &deployment).await?;
    bench.receiver.respond(ResponseMode::Delayed(RESPONSE_DELAY));
    let load = SteadyLoad::start(bench.clone());
    let mut kills = Vec::new();
    while kills.len() < options.kills && load.is_running() {
        sleep(WARM_UP).await;
        kills.push(kill(&mut deployment, rng.random_range(0..nodes)).await?);
        eprintln!("killed {} of {}", kills.len(), options.kills);
    }
    sleep(WARM_UP).await;
    let log = load.stop().await?;
    bench.receiver.respond(ResponseMode::Immediate);
    deployment.stop().await?;
    if kills.len() < options.kills {
        bail!("the load stopped after {} kills", kills.len());
    }
    let deliveries = Deliveries::of(&log, &shards)?;
    let kills = kills.iter().map(|kill| deliveries.measure(kill)).collect();
    Ok(Takeovers { seed, events: log.published, took: began.elapsed(), kills })
}

/// Kills a node and restarts it after the downtime.
async fn kill(deployment: &mut Deployment, index: usize) -> Result<Kill> {
    let survivor = deployment.operator((index + 1) % deployment.bases().len())?;
    let cluster = deployment.cluster_mut()?;
    let seen = survivor.cluster().await?;
    let name = cluster.name(index);
    let lost = seen.nodes.into_iter().find(|node| node.name == name && node.state == "alive");
    let lost = lost.with_context(|| format!("{name} is not alive"))?.id;
    let shards = seen.owners.iter().filter(|owner| owner.node == lost);
    let shards = shards.map(|owner| owner.shard).collect();
    let at = Instant::now();
    cluster.kill(index).await?;
    until_cluster(
        &survivor,
        "a killed node's shards have new owners",
        TAKEN_OVER_WITHIN,
        |cluster| cluster.unowned == 0 && cluster.owners.iter().all(|owner| owner.node != lost),
    )
    .await?;
    let owned_again = at.elapsed();
    sleep_until(at + DOWNTIME).await;
    let restarted = Instant::now();
    cluster.start_one(index).await?;
    deployment.balanced().await?;
    Ok(Kill { shards, at, owned_again, restarted, balanced: Instant::now() })
}
