//! A node is frozen with requests in flight for longer than its lease. It resumes after another
//! node has taken over its shards and is sending the same deliveries. The results of the stale
//! owner come too late, and only the fence keeps it from committing them.

use std::time::Duration;

use anyhow::Result;
use postrider_tests::cluster::until_cluster;
use postrider_tests::config::Config;
use postrider_tests::evidence::Minimum;
use postrider_tests::fault::Kind;
use postrider_tests::receiver::Behaviour;
use postrider_tests::schedule::Schedule;
use postrider_tests::wait::{millis, seconds};

use crate::cluster_fixture::ClusterFixture;
use crate::report;
use crate::run::{self, NODES, Run};

/// Slow endpoints, each of which has requests in flight at any moment.
const ENDPOINTS: usize = 12;
const ANSWERED_AFTER: Duration = seconds(3);
const TIMEOUT: Duration = seconds(5);
const WINDOW: Duration = seconds(600);
/// A lease, and the time to notice that it has expired.
const TAKEN_OVER_WITHIN: Duration = seconds(30);
/// The new owner sends the requests again within this time, and none of them is answered in it.
const RESENT_WITHIN: Duration = millis(1_000);
/// Nodes frozen one after another; each owns its shards from the start.
const ROUNDS: usize = NODES - 1;
/// Few enough events that the slow endpoints keep up, and enough to keep many requests in flight.
const PAUSE: Duration = millis(1_500);
const MIN_EVENTS: usize = 60;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stale_owner_commits_nothing() -> Result<()> {
    let (seed, _) = run::seed_and_kills(0)?;
    eprintln!("stale owner: repeat with POSTRIDER_SEED={seed}");
    let config = Config::new().timeout("5s").retry("600s", 10).set("cluster", "shards", 6);
    let fixture = ClusterFixture::start(config, NODES, NODES).await?;
    let mut subscribers = Vec::new();
    for n in 0..ENDPOINTS {
        let slow = Behaviour::Slow(ANSWERED_AFTER);
        subscribers.push(fixture.subscribe(&format!("slow-{n}"), slow).await?.0);
    }
    let schedule = Schedule::new(WINDOW, 10, TIMEOUT);
    let least = Minimum { events: MIN_EVENTS, ..Minimum::default() };
    let mut run = Run::start_with(fixture, subscribers, schedule, least, seed, PAUSE);
    for round in 0..ROUNDS {
        // The test calls the first node, so only the others are frozen.
        freeze_until_replaced(&mut run, 1 + round).await?;
        run.fixture.cluster.ready().await?;
    }
    let outcome = run.finish(Vec::new(), vec![(Kind::Freeze, ROUNDS)]).await?;
    report::print_and_check("stale owner", seed, &outcome)
}

async fn freeze_until_replaced(run: &mut Run, node: usize) -> Result<()> {
    // After some seconds of load, requests are in flight at any moment.
    tokio::time::sleep(ANSWERED_AFTER).await;
    let name = run.fixture.cluster.name(node).to_owned();
    let open = run.fixture.cluster.freeze(node)?;
    let what = format!("{name} is replaced");
    until_cluster(&run.fixture.operator, &what, TAKEN_OVER_WITHIN, |cluster| {
        let ids = cluster.nodes.iter().filter(|member| member.name == name).map(|m| &m.id);
        let ids: Vec<_> = ids.collect();
        cluster.unowned == 0 && !cluster.owners.iter().any(|owner| ids.contains(&&owner.node))
    })
    .await?;
    tokio::time::sleep(RESENT_WITHIN).await;
    run.take_snapshot().await?;
    let faults = run.fixture.cluster.thaw(&open)?;
    run.record_faults(faults);
    Ok(())
}
