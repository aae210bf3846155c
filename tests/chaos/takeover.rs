//! How long endpoints wait when their node is lost, as the receiver sees it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use postrider_tests::cluster::network::{Cut, Network};
use postrider_tests::evidence::{after, since};
use postrider_tests::receiver::Received;
use postrider_tests::steady;
use postrider_tests::wait::{millis, seconds};

use crate::handoff::{Ended, Flow, config};
use crate::stage::Stage;
use crate::story;

/// After a `kill -9`, whose connections the kernel closes at once.
const AFTER_A_KILL: Duration = seconds(3);
/// After a node falls silent: a lease, and the time to see that it has run out.
const AFTER_SILENCE: Duration = seconds(15);
/// What is already on its way when a node dies arrives within.
const ON_ITS_WAY: Duration = millis(20);
/// Kills, one after another, unless more are asked for.
const FEW_KILLS: usize = 3;
const MANY_KILLS: usize = 50;

/// How long the last endpoint waited after `lost`.
fn waited(received: &[Received], paths: &[String], lost: Timestamp) -> Result<Duration> {
    let from = after(lost, ON_ITS_WAY);
    let first = |path: &String| {
        let arrivals = received.iter().filter(|r| r.path == *path && r.arrived > from);
        arrivals.map(|request| request.arrived).min().with_context(|| format!("{path} is served"))
    };
    let mut longest = Duration::ZERO;
    for path in paths {
        longest = longest.max(since(first(path)?, lost));
    }
    Ok(longest)
}

fn again(ended: &Ended) -> usize {
    ended.twice.iter().map(|(_, _, times)| times - 1).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_node_is_replaced_within_three_seconds() -> Result<()> {
    let mut flow = Flow::begin(Stage::start(config(), 3, 3).await?).await?;
    let mut kills = Vec::new();
    let (_, wanted) = story::chosen(FEW_KILLS)?;
    for kill in 0..wanted.min(MANY_KILLS) {
        let node = kill % 3;
        kills.push(flow.stage.cluster.kill(node).await?.from);
        tokio::time::sleep(AFTER_A_KILL + seconds(1)).await;
        flow.stage.cluster.start_one(node).await?;
    }
    let paths = flow.paths.clone();
    let ended = flow.end(seconds(2)).await?;
    let waits: Result<Vec<_>> =
        kills.into_iter().map(|lost| waited(&ended.received, &paths, lost)).collect();
    let (waits, again) = (waits?, again(&ended));
    eprintln!("kill -9: the last endpoint waited {waits:?}; {again} requests came twice");
    ensure!(waits.iter().all(|&wait| wait <= AFTER_A_KILL), "waits of {waits:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_node_is_replaced_within_fifteen_seconds() -> Result<()> {
    let mut flow = Flow::begin(Stage::start(config(), 3, 3).await?).await?;
    let frozen = Timestamp::now();
    let open = flow.stage.cluster.freeze(1)?;
    tokio::time::sleep(AFTER_SILENCE + seconds(1)).await;
    let thawed = Timestamp::now();
    flow.stage.cluster.thaw(&open)?;
    flow.stage.cluster.ready().await?;
    let paths = flow.paths.clone();
    let ended = flow.end(seconds(2)).await?;
    let wait = waited(&ended.received, &paths, frozen)?;
    let resumed = steady::gaps(&ended.received, &paths, thawed, after(thawed, seconds(5)));
    let again = again(&ended);
    let resumed = &resumed[..resumed.len().min(3)];
    eprintln!(
        "SIGSTOP: the last endpoint waited {wait:?}; the longest gaps after SIGCONT {resumed:?}; \
         {again} requests came twice"
    );
    ensure!(wait <= AFTER_SILENCE, "a wait of {wait:?}");
    Ok(())
}

/// The store is not cut off, so the node that is cut off from the others keeps its shards; its
/// endpoints wait until it looks by itself for what it was not told of.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_partition_costs_fifteen_seconds_at_most() -> Result<()> {
    if let Some(obstacle) = Network::obstacle() {
        eprintln!("left out: a_silent_partition_costs_fifteen_seconds_at_most, since {obstacle}");
        return Ok(());
    }
    let stage = Stage::apart(config(), Network::lay(3)?, 3).await?;
    let mut flow = Flow::begin(stage).await?;
    let cut = Timestamp::now();
    let open = flow.stage.cluster.cut(1, Cut::Nodes)?;
    tokio::time::sleep(AFTER_SILENCE + seconds(1)).await;
    flow.stage.cluster.mend(&open)?;
    let mended = Timestamp::now();
    let paths = flow.paths.clone();
    let ended = flow.end(seconds(3)).await?;
    let wait = waited(&ended.received, &paths, cut)?;
    let gaps = steady::gaps(&ended.received, &paths, cut, mended);
    let gap = gaps.first().map(|gap| gap.lasted).unwrap_or_default();
    let again = again(&ended);
    eprintln!(
        "partition between nodes: the last endpoint waited {wait:?}, the longest gap {gap:?}; \
         {again} requests came twice"
    );
    ensure!(gap <= AFTER_SILENCE, "gaps: {:?}", &gaps[..gaps.len().min(5)]);
    Ok(())
}
