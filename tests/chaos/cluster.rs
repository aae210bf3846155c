//! Three nodes under load, killed, frozen, restarted and joined again and again. Over FoundationDB
//! its server is killed and frozen, too: a tenth as often as the nodes are killed.

use std::time::Duration;

use anyhow::Result;
use postrider_tests::foundationdb;
use postrider_tests::plan::{Form, Plan};
use postrider_tests::wait::millis;

use crate::crowd::Habits;
use crate::stage::Stage;
use crate::story::{self, LONG, Story};

/// Kills of a run that has not much time.
const FEW_KILLS: usize = 8;
/// What a short run and a long one rest between two publications, for each to end up with some
/// thousands of events.
const SHORT_PAUSE: Duration = millis(140);
const LONG_PAUSE: Duration = millis(300);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_nodes_are_killed() -> Result<()> {
    let (seed, kills) = story::chosen(FEW_KILLS)?;
    let over_foundationdb = foundationdb::chosen()?.is_some();
    let form = if over_foundationdb { with_faults_of_the_store(form(kills)) } else { form(kills) };
    let plan = Plan::draw(seed, &form);
    eprintln!(
        "cluster: {:?}; repeat with POSTRIDER_SEED={seed} POSTRIDER_KILLS={kills}",
        plan.faults()
    );
    let stage = Stage::start(story::config(), 4, 3).await?;
    let pause = if kills < LONG { SHORT_PAUSE } else { LONG_PAUSE };
    let story = Story::begin(stage, seed, pause).await?.among(seed, habits(kills)).await?;
    let told = story.play(&plan, seed).await?;
    story::judge("cluster", seed, &told)
}

/// As many publications of the crowd in a long run as in a short one, or there would be a million
/// deliveries to read.
fn habits(kills: usize) -> Habits {
    let publish_every = if kills < LONG { SHORT_PAUSE * 8 } else { LONG_PAUSE * 20 };
    Habits { publish_every, clocks_apart: Duration::ZERO, replay_at: None }
}

fn form(kills: usize) -> Form {
    let rounds = kills / LONG;
    let mut freezes_s = vec![1, 8, 15];
    for _ in 0..rounds {
        freezes_s.extend([1, 8, 15, 60]);
    }
    Form {
        nodes: 3,
        kills,
        kills_of_all: 1 + rounds,
        freezes_s,
        cuts_s: Vec::new(),
        rolling_restarts: 1 + rounds,
        visits: 1 + rounds,
        ..Form::default()
    }
}

/// For a moment, for less than a lease, and for longer than one.
fn with_faults_of_the_store(form: Form) -> Form {
    let mut store_freezes_s = vec![3];
    for _ in 0..form.kills / LONG {
        store_freezes_s.extend([1, 8, 15]);
    }
    Form { store_kills: (form.kills / 10).max(1), store_freezes_s, ..form }
}
