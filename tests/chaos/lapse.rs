//! A node whose lease is not renewed for a moment, while it is in the midst of an email that a silent
//! mail server does not take. It gives all its shards up, and nobody else may take them, since its
//! lease has not run out: it has to go on with them by itself, and with the email's shard as soon as
//! with the others. Whatever is said under the old epoch comes too late by then.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use postrider_tests::config::Config;
use postrider_tests::evidence::Least;
use postrider_tests::fault::Kind;
use postrider_tests::receiver::Behaviour;
use postrider_tests::schedule::Schedule;
use postrider_tests::wait::{self, millis, seconds};

use crate::stage::Stage;
use crate::story::{self, Story};

/// Few shards, so that each has endpoints that take everything.
const SHARDS: u64 = 2;
const ENDPOINTS: usize = 12;
const TIMEOUT: Duration = millis(500);
const WINDOW: Duration = seconds(4);
const RETRIES: u8 = 2;
/// Longer than a node goes on without a renewal, which is 6 s, and shorter than the 10 s after which
/// others take its shards.
const FROZEN_FOR: Duration = seconds(7);
/// The first delivery to the endpoint that fails is exhausted, and its email is begun.
const EMAIL_WITHIN: Duration = seconds(40);
/// Nodes frozen until one lives to see the end of it: one that holds the store's lock is ended.
const MOST_ROUNDS: usize = 10;
/// Little load, so that a node seldom holds the store's lock.
const PAUSE: Duration = millis(1_000);
const LEAST_EVENTS: usize = 60;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_is_worked_on_again_after_a_lapse() -> Result<()> {
    let (seed, _) = story::chosen(0)?;
    eprintln!("lapse: repeat with POSTRIDER_SEED={seed}");
    let config = Config::new().timeout("500ms").retry("4s", RETRIES);
    let stage = Stage::start(config.set("cluster", "shards", SHARDS), 2, 2).await?;
    stage.mail.fall_silent();
    let (broken, _) = stage.subscribe("broken", Behaviour::status(503)).await?;
    let failing = broken.endpoint.clone();
    let mut subscribers = vec![broken];
    for n in 0..ENDPOINTS {
        subscribers.push(stage.subscribe(&format!("healthy-{n}"), Behaviour::default()).await?.0);
    }
    let schedule = Schedule::new(WINDOW, u32::from(RETRIES), TIMEOUT);
    let least = Least { events: LEAST_EVENTS, disabled: 1, ..Least::default() };
    let mut story = Story::with(stage, subscribers, schedule, least, seed, PAUSE);
    for round in 1.. {
        ensure!(round <= MOST_ROUNDS, "no node was frozen without being ended");
        story.stage.mail.until_somebody_waits(EMAIL_WITHIN).await?;
        let node = owner(&story.stage, &failing).await?;
        let open = story.stage.cluster.freeze(node)?;
        tokio::time::sleep(FROZEN_FOR).await;
        let faults = story.stage.cluster.thaw(&open)?;
        let was_ended = faults.iter().any(|fault| fault.kind == Kind::Kill);
        story.note(faults);
        story.stage.cluster.ready().await?;
        if !was_ended {
            break;
        }
    }
    let told = story.end(Vec::new(), vec![(Kind::Freeze, 1)]).await?;
    story::judge("lapse", seed, &told)
}

/// The node whose shard an endpoint is in, as its last attempt tells.
async fn owner(stage: &Stage, endpoint: &str) -> Result<usize> {
    let shard = async || {
        let Some(delivery) = stage.account.deliveries(endpoint).await?.pop() else {
            return Ok(None);
        };
        let attempts = stage.account.delivery(&delivery.id).await?.attempts;
        Ok(attempts.last().and_then(|attempt| attempt.shard))
    };
    let shard = wait::until("an attempt tells its shard", seconds(5), shard).await?;
    let cluster = stage.operator.cluster().await?;
    let owner = cluster.owners.iter().find(|owner| owner.shard == shard).context("an owner")?;
    let node = cluster.nodes.iter().find(|node| node.id == owner.node).context("its node")?;
    let mut nodes = 0..stage.cluster.size();
    nodes.find(|&index| stage.cluster.name(index) == node.name).context("its place")
}
