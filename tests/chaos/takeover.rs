//! How long endpoints wait when their node fails, as the receiver sees it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use postrider_tests::cluster::network::{Network, Partition};
use postrider_tests::evidence::{after, since};
use postrider_tests::receiver::Received;
use postrider_tests::steady_load;
use postrider_tests::wait::{millis, seconds};

use crate::cluster_fixture::ClusterFixture;
use crate::handoff::{SteadyLoad, SteadyLoadReport, config};
use crate::run;

/// Takeover time after a `kill -9`: the kernel closes the node's connections at once.
const KILL_TAKEOVER_WITHIN: Duration = seconds(3);
/// Takeover time after a node falls silent: a lease, and the time to notice that it has expired.
const SILENCE_TAKEOVER_WITHIN: Duration = seconds(15);
/// Requests in flight when a node dies arrive within this time.
const IN_FLIGHT: Duration = millis(20);
/// Kills in a short run.
const FEW_KILLS: usize = 3;
const MANY_KILLS: usize = 50;

/// The longest time that any endpoint waited after `lost`.
fn longest_wait(received: &[Received], paths: &[String], lost: Timestamp) -> Result<Duration> {
    let from = after(lost, IN_FLIGHT);
    let first = |path: &String| {
        let arrivals = received.iter().filter(|r| r.path == *path && r.arrived > from);
        arrivals
            .map(|request| request.arrived)
            .min()
            .with_context(|| format!("{path} received nothing after the node was lost"))
    };
    let mut longest = Duration::ZERO;
    for path in paths {
        longest = longest.max(since(first(path)?, lost));
    }
    Ok(longest)
}

fn duplicates(report: &SteadyLoadReport) -> usize {
    report.duplicates.iter().map(|(_, _, times)| times - 1).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_node_is_replaced_within_three_seconds() -> Result<()> {
    let mut load = SteadyLoad::start(ClusterFixture::start(config(), 3, 3).await?).await?;
    let mut kills = Vec::new();
    let (_, wanted) = run::seed_and_kills(FEW_KILLS)?;
    for kill in 0..wanted.min(MANY_KILLS) {
        let node = kill % 3;
        kills.push(load.fixture.cluster.kill(node).await?.from);
        tokio::time::sleep(KILL_TAKEOVER_WITHIN + seconds(1)).await;
        load.fixture.cluster.start_one(node).await?;
    }
    let paths = load.paths.clone();
    let report = load.finish(seconds(2)).await?;
    let waits: Result<Vec<_>> =
        kills.into_iter().map(|lost| longest_wait(&report.received, &paths, lost)).collect();
    let (waits, duplicates) = (waits?, duplicates(&report));
    eprintln!("kill -9: longest waits {waits:?}; {duplicates} duplicate requests");
    ensure!(
        waits.iter().all(|&wait| wait <= KILL_TAKEOVER_WITHIN),
        "an endpoint waited longer than {KILL_TAKEOVER_WITHIN:?} after a kill: {waits:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_node_is_replaced_within_fifteen_seconds() -> Result<()> {
    let mut load = SteadyLoad::start(ClusterFixture::start(config(), 3, 3).await?).await?;
    let frozen = Timestamp::now();
    let open = load.fixture.cluster.freeze(1)?;
    tokio::time::sleep(SILENCE_TAKEOVER_WITHIN + seconds(1)).await;
    let thawed = Timestamp::now();
    load.fixture.cluster.thaw(&open)?;
    load.fixture.cluster.ready().await?;
    let paths = load.paths.clone();
    let report = load.finish(seconds(2)).await?;
    let wait = longest_wait(&report.received, &paths, frozen)?;
    let resumed = steady_load::gaps(&report.received, &paths, thawed, after(thawed, seconds(5)));
    let duplicates = duplicates(&report);
    let resumed = &resumed[..resumed.len().min(3)];
    eprintln!(
        "SIGSTOP: longest wait {wait:?}; longest gaps after SIGCONT {resumed:?}; \
         {duplicates} duplicate requests"
    );
    ensure!(wait <= SILENCE_TAKEOVER_WITHIN, "an endpoint waited {wait:?} after its node froze");
    Ok(())
}

/// The node is cut off from the other nodes but not from the store, so it keeps its shards. Its
/// endpoints wait until its periodic scan finds the work it was not woken for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_between_nodes_stalls_an_endpoint_for_at_most_fifteen_seconds() -> Result<()> {
    if let Some(skip_reason) = Network::skip_reason() {
        eprintln!(
            "skipped a_partition_between_nodes_stalls_an_endpoint_for_at_most_fifteen_seconds: {skip_reason}"
        );
        return Ok(());
    }
    let fixture = ClusterFixture::start_in_namespaces(config(), Network::create(3)?, 3).await?;
    let mut load = SteadyLoad::start(fixture).await?;
    let cut = Timestamp::now();
    let open = load.fixture.cluster.partition(1, Partition::Peers)?;
    tokio::time::sleep(SILENCE_TAKEOVER_WITHIN + seconds(1)).await;
    load.fixture.cluster.heal(&open)?;
    let healed = Timestamp::now();
    let paths = load.paths.clone();
    let report = load.finish(seconds(3)).await?;
    let wait = longest_wait(&report.received, &paths, cut)?;
    let gaps = steady_load::gaps(&report.received, &paths, cut, healed);
    let gap = gaps.first().map(|gap| gap.lasted).unwrap_or_default();
    let duplicates = duplicates(&report);
    eprintln!(
        "partition between nodes: longest wait {wait:?}, longest gap {gap:?}; \
         {duplicates} duplicate requests"
    );
    ensure!(
        gap <= SILENCE_TAKEOVER_WITHIN,
        "an endpoint waited longer than {SILENCE_TAKEOVER_WITHIN:?}; the longest gaps: {:?}",
        &gaps[..gaps.len().min(5)]
    );
    Ok(())
}
