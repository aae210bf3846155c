//! Three nodes under load, each with a network of its own that breaks.
//!
//! Over the embedded store, which is on one disk, no broken network takes it away: a node that is
//! cut off keeps its lease and its shards, and works on as far as it reaches its receivers. Only
//! the hints between nodes are lost. Over FoundationDB a node that is cut off from the world has
//! lost its store as well: it stops before its lease has run out, and the others take over.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use postrider_tests::client::records::Cluster;
use postrider_tests::cluster::network::{Cut, Network};
use postrider_tests::cluster::until_cluster;
use postrider_tests::evidence::since;
use postrider_tests::fault::Kind;
use postrider_tests::foundationdb;
use postrider_tests::plan::{Form, Plan};
use postrider_tests::wait::{millis, seconds};

use crate::stage::Stage;
use crate::story::{self, LONG, Story};

/// Kills beside the cuts.
const FEW_KILLS: usize = 2;
const SHORT_PAUSE: Duration = millis(100);
const LONG_PAUSE: Duration = millis(200);
/// For one single cut.
const SHORTEST_PAUSE: Duration = millis(60);
const LONGER_THAN_A_LEASE_S: u64 = 15;
/// A lease, and the time to see that it has run out.
const TAKEN_OVER_WITHIN: Duration = seconds(30);
/// How long the others own everything before the node finds its store again.
const WITHOUT_IT: Duration = seconds(3);
/// A node that comes back is given shards again: what has moved stays for a minute.
const BACK_WITHIN: Duration = seconds(120);
const CUT_OFF: usize = 1;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_the_network_breaks() -> Result<()> {
    if let Some(obstacle) = Network::obstacle() {
        eprintln!("left out: nothing_is_lost_when_the_network_breaks, since {obstacle}");
        return Ok(());
    }
    let (seed, kills) = story::chosen(FEW_KILLS)?;
    let mut form = form(kills);
    if foundationdb::chosen()?.is_some() {
        // A node without its store puts nothing on record, so that it disables nobody.
        form.cuts_s.push((Cut::World, LONGER_THAN_A_LEASE_S));
    }
    let plan = Plan::draw(seed, &form);
    eprintln!(
        "partition: {:?}; repeat with POSTRIDER_SEED={seed} POSTRIDER_KILLS={kills}",
        plan.faults()
    );
    let stage = Stage::apart(story::config(), Network::lay(3)?, 3).await?;
    let pause = if kills < LONG { SHORT_PAUSE } else { LONG_PAUSE };
    let story = Story::begin(stage, seed, pause).await?;
    let told = story.play(&plan, seed).await?;
    story::judge("partition", seed, &told)
}

/// Nobody is cut off from the world for as long as a delivery is tried, or good endpoints would
/// be disabled, and rightly.
fn form(kills: usize) -> Form {
    let mut cuts_s = vec![(Cut::Nodes, 2), (Cut::Nodes, 12), (Cut::World, 2), (Cut::World, 5)];
    for _ in 0..kills / LONG {
        cuts_s.extend([(Cut::Nodes, 5), (Cut::Nodes, 15), (Cut::World, 1), (Cut::World, 5)]);
    }
    Form { nodes: 3, kills: kills.min(LONG), cuts_s, ..Form::default() }
}

/// What no cluster on one disk can lose: a node's way to the store, while it still reaches all its
/// receivers, and whoever asks it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_its_store_is_replaced_and_comes_back() -> Result<()> {
    let title = "a_node_without_its_store_is_replaced_and_comes_back";
    if let Some(obstacle) = foundationdb::obstacle()?.or_else(Network::obstacle) {
        eprintln!("left out: {title}, since {obstacle}");
        return Ok(());
    }
    let (seed, _) = story::chosen(0)?;
    eprintln!("cut off from the store: repeat with POSTRIDER_SEED={seed}");
    let stage = Stage::apart(story::config(), Network::lay(3)?, 3).await?;
    let mut story = Story::begin(stage, seed, SHORTEST_PAUSE).await?;
    tokio::time::sleep(seconds(2)).await;
    let name = story.stage.cluster.name(CUT_OFF).to_owned();
    let owns = |cluster: &Cluster| {
        let of_it = cluster.nodes.iter().filter(|node| node.name == name).map(|node| &node.id);
        let of_it: Vec<_> = of_it.collect();
        cluster.owners.iter().filter(|owner| of_it.contains(&&owner.node)).count()
    };
    let operator = story.stage.operator.clone();
    ensure!(owns(&operator.cluster().await?) > 0, "{name} had nothing to lose");

    let from = Timestamp::now();
    let cut = story.stage.cluster.cut_from_store(CUT_OFF)?;
    let replaced = |cluster: &Cluster| cluster.unowned == 0 && owns(cluster) == 0;
    until_cluster(&operator, "the others own everything", TAKEN_OVER_WITHIN, replaced).await?;
    let took = since(Timestamp::now(), from);
    // It has stopped by itself: the others waited for that, and told it nothing.
    let metrics = story.stage.cluster.node(CUT_OFF).api(None).get("/metrics").await?;
    let text = String::from_utf8_lossy(&metrics.body).into_owned();
    let owned = text.lines().find(|line| line.starts_with("postrider_shards_owned"));
    let owned = owned.context("it says how many shards it owns")?;
    ensure!(owned.ends_with(" 0"), "it still works on shards: {owned}");
    tokio::time::sleep(WITHOUT_IT).await;
    story.glimpse().await?;
    let fault = story.stage.cluster.mend(&cut)?;
    story.note([fault]);

    let back = |cluster: &Cluster| cluster.unowned == 0 && owns(cluster) > 0;
    until_cluster(&operator, "it owns shards again", BACK_WITHIN, back).await?;
    eprintln!("cut off from the store: {name} was replaced within {took:?}");
    let told = story.end(Vec::new(), vec![(Kind::ApartFromStore, 1)]).await?;
    story::judge("cut off from the store", seed, &told)
}
