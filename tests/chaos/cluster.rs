//! Three nodes under load that are repeatedly killed, frozen and restarted, while a fourth joins
//! and leaves. Over FoundationDB, its server is killed and frozen as well, a tenth as often as the
//! nodes are killed.

use std::time::Duration;

use anyhow::Result;
use postrider_tests::foundationdb;
use postrider_tests::plan::{FaultCounts, Plan};
use postrider_tests::wait::millis;

use crate::cluster_fixture::ClusterFixture;
use crate::fan_out::FanOutConfig;
use crate::report;
use crate::run::{self, LONG_RUN_KILLS, Run};

/// Kills in a short run.
const FEW_KILLS: usize = 8;
/// Pauses between two publications in a short and in a long run, chosen so that each publishes some
/// thousands of events.
const SHORT_PAUSE: Duration = millis(140);
const LONG_PAUSE: Duration = millis(300);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_nodes_are_killed() -> Result<()> {
    let (seed, kills) = run::seed_and_kills(FEW_KILLS)?;
    let over_foundationdb = foundationdb::chosen()?.is_some();
    let counts = if over_foundationdb { with_store_faults(form(kills)) } else { form(kills) };
    let plan = Plan::generate(seed, &counts);
    eprintln!(
        "cluster: {:?}; repeat with POSTRIDER_SEED={seed} POSTRIDER_KILLS={kills}",
        plan.faults()
    );
    let fixture = ClusterFixture::start(run::config(), 4, 3).await?;
    let pause = if kills < LONG_RUN_KILLS { SHORT_PAUSE } else { LONG_PAUSE };
    let run =
        Run::start(fixture, seed, pause).await?.with_fan_out(seed, fan_out_config(kills)).await?;
    let outcome = run.execute(&plan, seed).await?;
    report::print_and_check("cluster", seed, &outcome)
}

/// A long run publishes as many events to the fan-out account as a short one: otherwise the checker
/// would have to read a million deliveries.
fn fan_out_config(kills: usize) -> FanOutConfig {
    let publish_every = if kills < LONG_RUN_KILLS { SHORT_PAUSE * 8 } else { LONG_PAUSE * 20 };
    FanOutConfig { publish_every, clocks_apart: Duration::ZERO, replay_at: None }
}

fn form(kills: usize) -> FaultCounts {
    let rounds = kills / LONG_RUN_KILLS;
    let mut freezes_s = vec![1, 8, 15];
    for _ in 0..rounds {
        freezes_s.extend([1, 8, 15, 60]);
    }
    FaultCounts {
        nodes: 3,
        kills,
        kills_of_all: 1 + rounds,
        freezes_s,
        partitions_s: Vec::new(),
        rolling_restarts: 1 + rounds,
        joins: 1 + rounds,
        ..FaultCounts::default()
    }
}

/// Adds faults of the store; its freezes last a moment, less than a lease, and longer than one.
fn with_store_faults(counts: FaultCounts) -> FaultCounts {
    let mut store_freezes_s = vec![3];
    for _ in 0..counts.kills / LONG_RUN_KILLS {
        store_freezes_s.extend([1, 8, 15]);
    }
    FaultCounts { store_kills: (counts.kills / 10).max(1), store_freezes_s, ..counts }
}
