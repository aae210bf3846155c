//! Three nodes under load, each with a network of its own that breaks.
//!
//! The nodes share their store on one disk, which no broken network takes away: a node that is
//! cut off keeps its lease and its shards, and works on as far as it reaches its receivers. Only
//! the hints between nodes are lost.

use std::time::Duration;

use anyhow::Result;
use postrider_tests::cluster::network::{Cut, Network};
use postrider_tests::plan::{Form, Plan};
use postrider_tests::wait::millis;

use crate::stage::Stage;
use crate::story::{self, LONG, Story};

/// Kills beside the cuts.
const FEW_KILLS: usize = 2;
const SHORT_PAUSE: Duration = millis(100);
const LONG_PAUSE: Duration = millis(200);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_the_network_breaks() -> Result<()> {
    if let Some(obstacle) = Network::obstacle() {
        eprintln!("left out: nothing_is_lost_when_the_network_breaks, since {obstacle}");
        return Ok(());
    }
    let (seed, kills) = story::chosen(FEW_KILLS)?;
    let plan = Plan::draw(seed, &form(kills));
    eprintln!(
        "partition: {:?}; repeat with POSTRIDER_SEED={seed} POSTRIDER_KILLS={kills}",
        plan.faults()
    );
    let stage = Stage::apart(story::config(), Network::lay(3)?, 3).await?;
    let pause = if kills < LONG { SHORT_PAUSE } else { LONG_PAUSE };
    let story = Story::begin(stage, seed, pause).await?;
    let evidence = story.play(&plan, seed).await?;
    story::judge("partition", seed, &evidence)
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
