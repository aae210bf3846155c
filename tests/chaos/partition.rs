//! Three nodes under load, each in its own network namespace, with network partitions.
//!
//! The embedded store is on one disk, so a partition never separates a node from it: the node keeps
//! its lease and its shards and continues as far as it reaches its receivers; only wakes between
//! nodes are lost. Over FoundationDB, a fully partitioned node loses its store as well: it stops
//! before its lease expires, and the others take over.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use postrider_tests::client::records::Cluster;
use postrider_tests::cluster::network::{Network, Partition};
use postrider_tests::cluster::until_cluster;
use postrider_tests::evidence::since;
use postrider_tests::fault::Kind;
use postrider_tests::foundationdb;
use postrider_tests::plan::{FaultCounts, Plan};
use postrider_tests::wait::{millis, seconds};

use crate::cluster_fixture::ClusterFixture;
use crate::report;
use crate::run::{self, LONG_RUN_KILLS, Run};

/// Kills in addition to the partitions.
const FEW_KILLS: usize = 2;
const SHORT_PAUSE: Duration = millis(100);
const LONG_PAUSE: Duration = millis(200);
/// Pause between publications in the run with a single partition.
const SHORTEST_PAUSE: Duration = millis(60);
const LONGER_THAN_A_LEASE_S: u64 = 15;
/// A lease, and the time to notice that it has expired.
const TAKEN_OVER_WITHIN: Duration = seconds(30);
/// How long the other nodes own every shard before the partition heals.
const OWNED_BY_OTHERS_FOR: Duration = seconds(3);
/// How soon the node owns shards again after it returns: shards that moved stay put for a minute.
const RETURNED_WITHIN: Duration = seconds(120);
const CUT_OFF: usize = 1;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_the_network_breaks() -> Result<()> {
    if let Some(skip_reason) = Network::skip_reason() {
        eprintln!("skipped nothing_is_lost_when_the_network_breaks: {skip_reason}");
        return Ok(());
    }
    let (seed, kills) = run::seed_and_kills(FEW_KILLS)?;
    let mut counts = form(kills);
    if foundationdb::chosen()?.is_some() {
        // Without its store a node records nothing, so it disables no endpoints.
        counts.partitions_s.push((Partition::Full, LONGER_THAN_A_LEASE_S));
    }
    let plan = Plan::generate(seed, &counts);
    eprintln!(
        "partition: {:?}; repeat with POSTRIDER_SEED={seed} POSTRIDER_KILLS={kills}",
        plan.faults()
    );
    let fixture =
        ClusterFixture::start_in_namespaces(run::config(), Network::create(3)?, 3).await?;
    let pause = if kills < LONG_RUN_KILLS { SHORT_PAUSE } else { LONG_PAUSE };
    let run = Run::start(fixture, seed, pause).await?;
    let outcome = run.execute(&plan, seed).await?;
    report::print_and_check("partition", seed, &outcome)
}

/// No node is fully partitioned for as long as the retry window: otherwise it would rightly disable
/// healthy endpoints.
fn form(kills: usize) -> FaultCounts {
    let mut partitions_s = vec![
        (Partition::Peers, 2),
        (Partition::Peers, 12),
        (Partition::Full, 2),
        (Partition::Full, 5),
    ];
    for _ in 0..kills / LONG_RUN_KILLS {
        partitions_s.extend([
            (Partition::Peers, 5),
            (Partition::Peers, 15),
            (Partition::Full, 1),
            (Partition::Full, 5),
        ]);
    }
    FaultCounts {
        nodes: 3,
        kills: kills.min(LONG_RUN_KILLS),
        partitions_s,
        ..FaultCounts::default()
    }
}

/// A node loses only its connection to the store and still reaches its receivers and its clients.
/// This cannot happen to a cluster on one disk.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_cut_off_from_its_store_is_replaced_and_returns() -> Result<()> {
    let title = "a_node_cut_off_from_its_store_is_replaced_and_returns";
    if let Some(skip_reason) = foundationdb::skip_reason()?.or_else(Network::skip_reason) {
        eprintln!("skipped {title}: {skip_reason}");
        return Ok(());
    }
    let (seed, _) = run::seed_and_kills(0)?;
    eprintln!("cut off from the store: repeat with POSTRIDER_SEED={seed}");
    let fixture =
        ClusterFixture::start_in_namespaces(run::config(), Network::create(3)?, 3).await?;
    let mut run = Run::start(fixture, seed, SHORTEST_PAUSE).await?;
    tokio::time::sleep(seconds(2)).await;
    let name = run.fixture.cluster.name(CUT_OFF).to_owned();
    let owns = |cluster: &Cluster| {
        let boots = cluster.nodes.iter().filter(|node| node.name == name).map(|node| &node.id);
        let boots: Vec<_> = boots.collect();
        cluster.owners.iter().filter(|owner| boots.contains(&&owner.node)).count()
    };
    let operator = run.fixture.operator.clone();
    ensure!(owns(&operator.cluster().await?) > 0, "{name} owns no shards before the partition");

    let from = Timestamp::now();
    let cut = run.fixture.cluster.partition_from_store(CUT_OFF)?;
    let replaced = |cluster: &Cluster| cluster.unowned == 0 && owns(cluster) == 0;
    until_cluster(&operator, "the other nodes own every shard", TAKEN_OVER_WITHIN, replaced)
        .await?;
    let took = since(Timestamp::now(), from);
    // The node stopped on its own: the others only waited for its lease and sent it nothing.
    let metrics = run.fixture.cluster.node(CUT_OFF).api(None).get("/metrics").await?;
    let text = String::from_utf8_lossy(&metrics.body).into_owned();
    let owned = text.lines().find(|line| line.starts_with("postrider_shards_owned"));
    let owned = owned.context("the metrics have no postrider_shards_owned")?;
    ensure!(owned.ends_with(" 0"), "the node still owns shards without its store: {owned}");
    tokio::time::sleep(OWNED_BY_OTHERS_FOR).await;
    run.take_snapshot().await?;
    let fault = run.fixture.cluster.heal(&cut)?;
    run.record_faults([fault]);

    let back = |cluster: &Cluster| cluster.unowned == 0 && owns(cluster) > 0;
    until_cluster(&operator, "the node owns shards again", RETURNED_WITHIN, back).await?;
    eprintln!("cut off from the store: {name} was replaced after {took:?}");
    let outcome = run.finish(Vec::new(), vec![(Kind::ApartFromStore, 1)]).await?;
    report::print_and_check("cut off from the store", seed, &outcome)
}
