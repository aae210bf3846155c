//! One node under load, killed repeatedly at random moments.
//!
//! `POSTRIDER_SEED` repeats a run's decisions, and `POSTRIDER_KILLS` sets the number of kills.

use std::time::Duration;

use anyhow::{Context, Result};
use jiff::Timestamp;
use postrider_tests::checker;
use postrider_tests::client::records::Endpoint;
use postrider_tests::client::{Account, NewEndpoint};
use postrider_tests::config::Config;
use postrider_tests::evidence::{Evidence, ManualDisable, Minimum, StoreRecords, Subscriber};
use postrider_tests::fault::{Fault, Kind};
use postrider_tests::fixture::{Fixture, ORDER};
use postrider_tests::load::Load;
use postrider_tests::node::Node;
use postrider_tests::receiver::Behaviour;
use postrider_tests::schedule::Schedule;
use postrider_tests::wait::{self, millis, seconds};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Kills in a short run.
const FEW_KILLS: usize = 8;
/// How long a node lives after its start, ready or not, in milliseconds.
const LIFETIME_MS: std::ops::Range<u64> = 20..1_500;
/// Accepted events per kill without which a run proves nothing.
const EVENTS_PER_KILL: usize = 10;
const TIMEOUT: Duration = millis(500);
const WINDOW: Duration = seconds(14);
/// How long the remaining retries may take after the last kill.
const SETTLED_WITHIN: Duration = seconds(60);
/// An account's next email waits for a minute.
const EMAILED_WITHIN: Duration = seconds(90);
/// Added for each kill: the backlog that builds up at the failing endpoint meanwhile.
const BACKLOG_PER_KILL: Duration = seconds(2);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_the_node_is_killed() -> Result<()> {
    let seed = env_number("POSTRIDER_SEED")?.unwrap_or_else(rand::random);
    let kills = env_number("POSTRIDER_KILLS")?.unwrap_or(FEW_KILLS as u64);
    let kills = usize::try_from(kills)?;
    eprintln!("crash: {kills} kills; repeat with POSTRIDER_SEED={seed}");
    let evidence = run(seed, kills).await?;
    print_summary(&evidence);
    checker::check(&evidence).with_context(|| format!("POSTRIDER_SEED={seed}"))
}

fn env_number(name: &str) -> Result<Option<u64>> {
    let Ok(text) = std::env::var(name) else { return Ok(None) };
    text.parse().map(Some).with_context(|| format!("{name} is {text:?}"))
}

async fn run(seed: u64, kills: usize) -> Result<Evidence> {
    let config = Config::new().timeout("500ms").retry("14s", 10);
    let mut fixture = Fixture::start(config).await?;
    let subscribers = subscribe(&fixture).await?;
    let load = Load::start(fixture.account.clone(), ORDER, seed);
    let mut rng = StdRng::seed_from_u64(seed);
    let paused = fixture.account.clone();
    let to_pause = subscribers[1].endpoint.clone();
    // One endpoint is disabled by hand while nodes are killed, and enabled again later.
    let pausing = tokio::spawn(async move { pause(&paused, &to_pause, kills).await });
    let mut killed = Vec::new();
    for _ in 0..kills {
        killed.push(kill_once(&mut fixture.node, &mut rng).await?);
    }
    fixture.node.ready().await?;
    let min_events = kills * EVENTS_PER_KILL;
    let enough = async || Ok((load.accepted() >= min_events).then_some(()));
    wait::until("the load has reached its minimum", SETTLED_WITHIN, enough).await?;
    let healed = Timestamp::now();
    let publications = load.stop().await?;
    let manual_disables =
        vec![pausing.await.context("the task that disables an endpoint panicked")??];
    wait_until_work_is_done(&fixture, SETTLED_WITHIN + BACKLOG_PER_KILL * u32::try_from(kills)?)
        .await?;
    let store = StoreRecords::read(&fixture.account).await?;
    let disabled = store.exhausted_endpoints();
    Ok(Evidence {
        publications,
        emails: fixture.mail.wait_for_mentions(&disabled, EMAILED_WITHIN).await?,
        store,
        received: fixture.receiver.received(),
        subscribers,
        faults: killed,
        healed,
        cluster_samples: Vec::new(),
        snapshots: Vec::new(),
        usage: Vec::new(),
        slow_flushes: Vec::new(),
        clocks_agree: true,
        manual_disables,
        replays: Vec::new(),
        schedule: Schedule::new(WINDOW, 10, TIMEOUT),
        minimum: Minimum {
            events: min_events,
            faults: vec![(Kind::Kill, kills)],
            disabled: 2,
            ..Minimum::default()
        },
    })
}

/// Creates endpoints of every kind: healthy ones, some that need retries, and two that never return
/// a 2xx status.
async fn subscribe(fixture: &Fixture) -> Result<Vec<Subscriber>> {
    let behaviours = [
        ("healthy", Behaviour::default()),
        ("paused", Behaviour::default()),
        ("flaky", Behaviour::fail_first(2, 500)),
        ("slow", Behaviour::Slow(millis(40))),
        ("broken", Behaviour::status(503)),
        ("strict", Behaviour::default()),
        ("hanging", Behaviour::Hang),
    ];
    let mut subscribers = Vec::new();
    for (name, behaviour) in behaviours {
        let hook = fixture.hook(name);
        hook.set_behaviour(behaviour);
        let new = NewEndpoint::at(&hook.url());
        let new = match name {
            "strict" => new.of_types(&[ORDER]).strict(),
            _ => new.of_types(&[ORDER]),
        };
        let endpoint = fixture.account.create(&new).await?;
        subscribers.push(Subscriber::new(&endpoint, &hook));
    }
    Ok(subscribers)
}

/// Lets the node run for a random time, kills it, and starts it again. Some nodes are killed before
/// they are ready.
async fn kill_once(node: &mut Node, rng: &mut StdRng) -> Result<Fault> {
    if rng.random_ratio(3, 4) {
        node.ready().await?;
    }
    // A plain sleep on purpose: the timing of the kill is what is being tested.
    tokio::time::sleep(millis(rng.random_range(LIFETIME_MS))).await;
    let from = Timestamp::now();
    node.kill().await?;
    let to = Timestamp::now();
    node.spawn()?;
    Ok(Fault { kind: Kind::Kill, node: "node-1".to_owned(), from, to })
}

/// Disables an endpoint and enables it again after a while, retrying until each is acknowledged.
async fn pause(account: &Account, endpoint: &str, kills: usize) -> Result<ManualDisable> {
    let within = LIFETIME_MS.end * kills as u64 + 60_000;
    let disable = async || Ok(account.disable(endpoint).await.ok());
    wait::until("the endpoint is disabled", millis(within), disable).await?;
    let acknowledged = Timestamp::now();
    // Long enough for the grace period of a second and some kills.
    tokio::time::sleep(seconds(4)).await;
    let enabled = Some(Timestamp::now());
    let enable = async || Ok(account.enable(endpoint, "resume").await.ok());
    wait::until("the endpoint is enabled", millis(within), enable).await?;
    Ok(ManualDisable { endpoint: endpoint.to_owned(), acknowledged, enabled })
}

/// Waits until nothing is pending: every delivery has finished or is held.
async fn wait_until_work_is_done(fixture: &Fixture, within: Duration) -> Result<()> {
    let endpoints = async || fixture.account.list::<Endpoint>("/endpoints?").await;
    let settled =
        async || Ok(endpoints().await?.iter().all(|endpoint| endpoint.pending == 0).then_some(()));
    let settled = wait::until("nothing is pending", within, settled).await;
    if settled.is_err() {
        for Endpoint { name, state, pending, oldest_pending_at, .. } in endpoints().await? {
            eprintln!("{name} is {state}: {pending} pending, the oldest of {oldest_pending_at:?}");
        }
    }
    settled
}

fn print_summary(evidence: &Evidence) {
    let attempts: usize = evidence.store.deliveries.iter().map(|d| d.attempts.len()).sum();
    eprintln!(
        "crash: {} kills, {} events, {} deliveries, {attempts} attempts recorded, {} requests \
         received, {} emails",
        evidence.faults.len(),
        evidence.store.events.len(),
        evidence.store.deliveries.len(),
        evidence.received.len(),
        evidence.emails.len(),
    );
}
