//! A node fails to renew its lease in time while an email is in flight to a silent mail server. It
//! gives up all its shards, and no other node may claim them because its lease has not expired yet.
//! The node must resume them itself, the email's shard as soon as the others. Writes under the old
//! epoch must fail by then.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use postrider_tests::config::Config;
use postrider_tests::evidence::Minimum;
use postrider_tests::fault::Kind;
use postrider_tests::receiver::Behaviour;
use postrider_tests::schedule::Schedule;
use postrider_tests::wait::{self, millis, seconds};

use crate::cluster_fixture::ClusterFixture;
use crate::report;
use crate::run::{self, Run};

/// Few shards, so that each has healthy endpoints.
const SHARDS: u64 = 2;
const ENDPOINTS: usize = 12;
const TIMEOUT: Duration = millis(500);
const WINDOW: Duration = seconds(4);
const RETRIES: u8 = 2;
/// Longer than the 6 s that a node works without a renewal, and shorter than the 10 s after which
/// other nodes claim its shards.
const FROZEN_FOR: Duration = seconds(7);
/// How soon the first delivery to the failing endpoint is exhausted and its email begins.
const EMAIL_WITHIN: Duration = seconds(40);
/// The maximum number of freezes until a node survives one: a node frozen while it holds the
/// store's lock is killed.
const MAX_ROUNDS: usize = 10;
/// Little load, so that a node seldom holds the store's lock.
const PAUSE: Duration = millis(1_000);
const MIN_EVENTS: usize = 60;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_resumes_after_its_lease_lapses() -> Result<()> {
    let (seed, _) = run::seed_and_kills(0)?;
    eprintln!("lapse: repeat with POSTRIDER_SEED={seed}");
    let config = Config::new().timeout("500ms").retry("4s", RETRIES);
    let fixture = ClusterFixture::start(config.set("cluster", "shards", SHARDS), 2, 2).await?;
    fixture.mail.stop_responding();
    let (broken, _) = fixture.subscribe("broken", Behaviour::status(503)).await?;
    let failing = broken.endpoint.clone();
    let mut subscribers = vec![broken];
    for n in 0..ENDPOINTS {
        subscribers.push(fixture.subscribe(&format!("healthy-{n}"), Behaviour::default()).await?.0);
    }
    let schedule = Schedule::new(WINDOW, u32::from(RETRIES), TIMEOUT);
    let least = Minimum { events: MIN_EVENTS, disabled: 1, ..Minimum::default() };
    let mut run = Run::start_with(fixture, subscribers, schedule, least, seed, PAUSE);
    for round in 1.. {
        ensure!(
            round <= MAX_ROUNDS,
            "every frozen node was killed as the holder of the store's lock"
        );
        run.fixture.mail.until_client_waits(EMAIL_WITHIN).await?;
        let node = owner(&run.fixture, &failing).await?;
        let open = run.fixture.cluster.freeze(node)?;
        tokio::time::sleep(FROZEN_FOR).await;
        let faults = run.fixture.cluster.thaw(&open)?;
        let was_killed = faults.iter().any(|fault| fault.kind == Kind::Kill);
        run.record_faults(faults);
        run.fixture.cluster.ready().await?;
        if !was_killed {
            break;
        }
    }
    let outcome = run.finish(Vec::new(), vec![(Kind::Freeze, 1)]).await?;
    report::print_and_check("lapse", seed, &outcome)
}

/// The node that owns an endpoint's shard, which the endpoint's last attempt names.
async fn owner(fixture: &ClusterFixture, endpoint: &str) -> Result<usize> {
    let shard = async || {
        let Some(delivery) = fixture.account.deliveries(endpoint).await?.pop() else {
            return Ok(None);
        };
        let attempts = fixture.account.delivery(&delivery.id).await?.attempts;
        Ok(attempts.last().and_then(|attempt| attempt.shard))
    };
    let shard = wait::until("an attempt with its shard is recorded", seconds(5), shard).await?;
    let cluster = fixture.operator.cluster().await?;
    let owner = cluster
        .owners
        .iter()
        .find(|owner| owner.shard == shard)
        .context("the shard has no owner")?;
    let node = cluster
        .nodes
        .iter()
        .find(|node| node.id == owner.node)
        .context("the owner is not in the cluster view")?;
    let mut nodes = 0..fixture.cluster.size();
    nodes
        .find(|&index| fixture.cluster.name(index) == node.name)
        .context("the owner is not one of the test's nodes")
}
