//! One node under load, killed again and again at random moments.
//!
//! `POSTRIDER_SEED` repeats a run's decisions, `POSTRIDER_KILLS` sets how often the node dies.

use std::time::Duration;

use anyhow::{Context, Result};
use jiff::Timestamp;
use postrider_tests::checker;
use postrider_tests::client::records::Endpoint;
use postrider_tests::client::{Account, NewEndpoint};
use postrider_tests::config::Config;
use postrider_tests::evidence::{Evidence, Least, Pause, StoreRecords, Subscriber};
use postrider_tests::fault::{Fault, Kind};
use postrider_tests::load::Load;
use postrider_tests::node::Node;
use postrider_tests::receiver::Behaviour;
use postrider_tests::scene::{ORDER, Scene};
use postrider_tests::schedule::Schedule;
use postrider_tests::wait::{self, millis, seconds};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Kills of a run that has not much time.
const FEW_KILLS: usize = 8;
/// A node lives between these times after its start, be it ready or not.
const LIFE: std::ops::Range<u64> = 20..1_500;
/// Events per kill that must have been accepted, or the run shows nothing.
const EVENTS_PER_KILL: usize = 10;
const TIMEOUT: Duration = millis(500);
const WINDOW: Duration = seconds(14);
/// After the last fault: the last retries of the window.
const SETTLED_WITHIN: Duration = seconds(60);
/// And for each kill the backlog that the load left meanwhile at the endpoint that fails.
const BACKLOG_PER_KILL: Duration = seconds(2);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_the_node_is_killed() -> Result<()> {
    let seed = from_environment("POSTRIDER_SEED")?.unwrap_or_else(rand::random);
    let kills = from_environment("POSTRIDER_KILLS")?.unwrap_or(FEW_KILLS as u64);
    let kills = usize::try_from(kills)?;
    eprintln!("crash: {kills} kills; repeat with POSTRIDER_SEED={seed}");
    let evidence = run(seed, kills).await?;
    summarize(&evidence);
    checker::check(&evidence).with_context(|| format!("POSTRIDER_SEED={seed}"))
}

fn from_environment(name: &str) -> Result<Option<u64>> {
    let Ok(text) = std::env::var(name) else { return Ok(None) };
    text.parse().map(Some).with_context(|| format!("{name} is {text:?}"))
}

async fn run(seed: u64, kills: usize) -> Result<Evidence> {
    let config = Config::new().timeout("500ms").retry("14s", 10);
    let mut scene = Scene::start(config).await?;
    let subscribers = subscribe(&scene).await?;
    let load = Load::start(scene.account.clone(), ORDER, seed);
    let mut dice = StdRng::seed_from_u64(seed);
    let paused = scene.account.clone();
    let to_pause = subscribers[1].endpoint.clone();
    // One endpoint is disabled by hand while nodes die, and enabled again later.
    let pausing = tokio::spawn(async move { pause(&paused, &to_pause, kills).await });
    let mut killed = Vec::new();
    for _ in 0..kills {
        killed.push(kill_once(&mut scene.node, &mut dice).await?);
    }
    scene.node.ready().await?;
    let least = kills * EVENTS_PER_KILL;
    let enough = async || Ok((load.accepted() >= least).then_some(()));
    wait::until("the run shows something", SETTLED_WITHIN, enough).await?;
    let healed = Timestamp::now();
    let publications = load.stop().await?;
    let pauses = vec![pausing.await.context("the pause")??];
    settle(&scene, SETTLED_WITHIN + BACKLOG_PER_KILL * u32::try_from(kills)?).await?;
    Ok(Evidence {
        publications,
        store: StoreRecords::read(&scene.account).await?,
        received: scene.receiver.received(),
        mails: scene.mail.wait_for(2, SETTLED_WITHIN).await?,
        subscribers,
        faults: killed,
        healed,
        sightings: Vec::new(),
        glimpses: Vec::new(),
        vitals: Vec::new(),
        slow_flushes: Vec::new(),
        one_clock: true,
        pauses,
        replays: Vec::new(),
        schedule: Schedule::new(WINDOW, 10, TIMEOUT),
        least: Least {
            events: least,
            faults: vec![(Kind::Kill, kills)],
            disabled: 2,
            ..Least::default()
        },
    })
}

/// Endpoints of every kind: good ones, some that need retries, and two that never answer 2XX.
async fn subscribe(scene: &Scene) -> Result<Vec<Subscriber>> {
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
        let hook = scene.hook(name);
        hook.behave(behaviour);
        let new = NewEndpoint::at(&hook.url());
        let new = match name {
            "strict" => new.of_types(&[ORDER]).strict(),
            _ => new.of_types(&[ORDER]),
        };
        let endpoint = scene.account.create(&new).await?;
        subscribers.push(Subscriber::new(&endpoint, &hook));
    }
    Ok(subscribers)
}

/// Lets the node live for a moment of its life, kills it, and starts it anew. Some die before
/// they are ready.
async fn kill_once(node: &mut Node, dice: &mut StdRng) -> Result<Fault> {
    if dice.random_ratio(3, 4) {
        node.ready().await?;
    }
    // Blind on purpose: the moment is what is being tested.
    tokio::time::sleep(millis(dice.random_range(LIFE))).await;
    let from = Timestamp::now();
    node.kill().await?;
    let to = Timestamp::now();
    node.spawn()?;
    Ok(Fault { kind: Kind::Kill, node: "node-1".to_owned(), from, to })
}

/// Disables an endpoint, asking until it is acknowledged, and enables it again after a while.
async fn pause(account: &Account, endpoint: &str, kills: usize) -> Result<Pause> {
    let within = LIFE.end * kills as u64 + 60_000;
    let disable = async || Ok(account.disable(endpoint).await.ok());
    wait::until("it is disabled", millis(within), disable).await?;
    let acknowledged = Timestamp::now();
    // Long enough for the grace of a second to pass, and some kills.
    tokio::time::sleep(seconds(4)).await;
    let enabled = Some(Timestamp::now());
    let enable = async || Ok(account.enable(endpoint, "resume").await.ok());
    wait::until("it is enabled", millis(within), enable).await?;
    Ok(Pause { endpoint: endpoint.to_owned(), acknowledged, enabled })
}

/// Waits until nothing is pending: every delivery has ended or is held.
async fn settle(scene: &Scene, within: Duration) -> Result<()> {
    let endpoints = async || scene.account.list::<Endpoint>("/endpoints?").await;
    let settled =
        async || Ok(endpoints().await?.iter().all(|endpoint| endpoint.pending == 0).then_some(()));
    let settled = wait::until("everything is settled", within, settled).await;
    if settled.is_err() {
        for Endpoint { name, state, pending, oldest_pending_at, .. } in endpoints().await? {
            eprintln!("{name} is {state}: {pending} pending, the oldest of {oldest_pending_at:?}");
        }
    }
    settled
}

fn summarize(evidence: &Evidence) {
    let attempts: usize = evidence.store.deliveries.iter().map(|d| d.attempts.len()).sum();
    eprintln!(
        "crash: {} kills, {} events, {} deliveries, {attempts} attempts on record, {} requests \
         received, {} emails",
        evidence.faults.len(),
        evidence.store.events.len(),
        evidence.store.deliveries.len(),
        evidence.received.len(),
        evidence.mails.len(),
    );
}
