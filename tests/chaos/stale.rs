//! A node that is frozen with requests under way, for longer than its lease, and goes on when
//! another one has taken its shards over and is in the midst of the same deliveries. What it has
//! to say then comes too late: nothing but the fence keeps it from saying it.

use std::time::Duration;

use anyhow::Result;
use postrider_tests::cluster::until_cluster;
use postrider_tests::config::Config;
use postrider_tests::evidence::Least;
use postrider_tests::fault::Kind;
use postrider_tests::receiver::Behaviour;
use postrider_tests::schedule::Schedule;
use postrider_tests::wait::{millis, seconds};

use crate::stage::Stage;
use crate::story::{self, NODES, Story};

/// Endpoints, each of which takes its time, and so has requests under way at any moment.
const ENDPOINTS: usize = 12;
const ANSWERED_AFTER: Duration = seconds(3);
const TIMEOUT: Duration = seconds(5);
const WINDOW: Duration = seconds(600);
/// A lease, and the time to see that it has run out.
const TAKEN_OVER_WITHIN: Duration = seconds(30);
/// Within it the new owner makes the requests anew, and none of them is answered.
const IN_THE_MIDST: Duration = millis(1_000);
/// Nodes frozen, one after another, each of which has its shards from the start.
const ROUNDS: usize = NODES - 1;
/// Few events keep many requests under way, and no more than are answered meanwhile.
const PAUSE: Duration = millis(1_500);
const LEAST_EVENTS: usize = 60;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stale_owner_commits_nothing() -> Result<()> {
    let (seed, _) = story::chosen(0)?;
    eprintln!("stale owner: repeat with POSTRIDER_SEED={seed}");
    let config = Config::new().timeout("5s").retry("600s", 10).set("cluster", "shards", 6);
    let stage = Stage::start(config, NODES, NODES).await?;
    let mut subscribers = Vec::new();
    for n in 0..ENDPOINTS {
        let slow = Behaviour::Slow(ANSWERED_AFTER);
        subscribers.push(stage.subscribe(&format!("slow-{n}"), slow).await?.0);
    }
    let schedule = Schedule::new(WINDOW, 10, TIMEOUT);
    let least = Least { events: LEAST_EVENTS, ..Least::default() };
    let mut story = Story::with(stage, subscribers, schedule, least, seed, PAUSE);
    for round in 0..ROUNDS {
        // The first node answers for the cluster, and the others are frozen in turn.
        freeze_until_replaced(&mut story, 1 + round).await?;
        story.stage.cluster.ready().await?;
    }
    let told = story.end(Vec::new(), vec![(Kind::Freeze, ROUNDS)]).await?;
    story::judge("stale owner", seed, &told)
}

async fn freeze_until_replaced(story: &mut Story, node: usize) -> Result<()> {
    // Requests are under way at any moment after some seconds of load.
    tokio::time::sleep(ANSWERED_AFTER).await;
    let name = story.stage.cluster.name(node).to_owned();
    let open = story.stage.cluster.freeze(node)?;
    let what = format!("{name} is replaced");
    until_cluster(&story.stage.operator, &what, TAKEN_OVER_WITHIN, |cluster| {
        let ids = cluster.nodes.iter().filter(|member| member.name == name).map(|m| &m.id);
        let ids: Vec<_> = ids.collect();
        cluster.unowned == 0 && !cluster.owners.iter().any(|owner| ids.contains(&&owner.node))
    })
    .await?;
    tokio::time::sleep(IN_THE_MIDST).await;
    story.glimpse().await?;
    let faults = story.stage.cluster.thaw(&open)?;
    story.note(faults);
    Ok(())
}
