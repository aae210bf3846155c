//! A chaos run: a cluster under load, a plan of faults, and the evidence for the checker.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use postrider_tests::client::Account;
use postrider_tests::cluster::monitor::{ClusterMonitor, Observations};
use postrider_tests::cluster::network::Partition;
use postrider_tests::config::Config;
use postrider_tests::evidence::{
    Evidence, ManualDisable, Minimum, Snapshot, StoreRecords, Subscriber,
};
use postrider_tests::fault::{Fault, Kind};
use postrider_tests::fixture::ORDER;
use postrider_tests::load::Load;
use postrider_tests::mail::Email;
use postrider_tests::plan::{Plan, Step};
use postrider_tests::receiver::Behaviour;
use postrider_tests::schedule::Schedule;
use postrider_tests::wait::{self, millis, seconds};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;
use tokio::time::Instant;

use crate::cluster_fixture::ClusterFixture;
use crate::fan_out::{self, FanOutConfig, FanOutLoad};
use crate::pending::{wait_until_due_work_is_done, wait_until_work_is_done};

/// Nodes that run from the start; one more may join for a while.
pub(crate) const NODES: usize = 3;
/// A run with at least this many kills is a long one.
pub(crate) const LONG_RUN_KILLS: usize = 50;
/// Accepted events without which a run proves nothing.
const MIN_EVENTS: usize = 1_000;
const TIMEOUT: Duration = millis(500);
pub(crate) const WINDOW: Duration = seconds(14);
/// Few shards, so that each has several endpoints whose attempts show its owner.
const SHARDS: u64 = 24;
/// How long the load may take after the last fault to reach the run's minimum.
const MINIMUM_WITHIN: Duration = seconds(120);
/// How long the remaining retries and the backlog may take after the last fault.
const SETTLED_WITHIN: Duration = seconds(90);
/// Added for each fault: the backlog that builds up at failing endpoints meanwhile.
const BACKLOG_PER_FAULT: Duration = seconds(2);
/// The minimum of the fan-out load: accepted events, replays and subscription changes.
const FAN_OUT_MIN: Minimum =
    Minimum { events: 40, faults: Vec::new(), disabled: 0, replays: 1, changes: 100 };
/// How long fan-outs may take after the last fault. Longer than the product's own bound, so that
/// the checker sees late deliveries.
const FANNED_OUT_WITHIN: Duration = seconds(75);
/// Pause before the next node is tried.
const RETRY_PAUSE: Duration = millis(50);
/// How long an endpoint stays disabled by hand: longer than a lease.
const DISABLED_FOR: Duration = seconds(12);

/// The configuration of the nodes in a run.
pub(crate) fn config() -> Config {
    Config::new().timeout("500ms").retry("14s", 10).set("cluster", "shards", SHARDS)
}

/// The retry schedule that follows from [`config`].
fn schedule() -> Schedule {
    Schedule::new(WINDOW, 10, TIMEOUT)
}

/// The seed and the number of kills from the environment; by default a random seed and `kills`.
pub(crate) fn seed_and_kills(kills: usize) -> Result<(u64, usize)> {
    let seed = env_number("POSTRIDER_SEED")?.unwrap_or_else(rand::random);
    let kills = env_number("POSTRIDER_KILLS")?.unwrap_or(kills as u64);
    Ok((seed, usize::try_from(kills)?))
}

fn env_number(name: &str) -> Result<Option<u64>> {
    let Ok(text) = std::env::var(name) else { return Ok(None) };
    text.parse().map(Some).with_context(|| format!("{name} is {text:?}"))
}

/// The evidence of a finished run.
pub(crate) struct RunOutcome {
    /// Evidence of the account under load.
    pub(crate) evidence: Evidence,
    /// Evidence of the fan-out account, if the run had one.
    pub(crate) fan_out: Option<Evidence>,
}

/// A cluster under load.
pub(crate) struct Run {
    pub(crate) fixture: ClusterFixture,
    subscribers: Vec<Subscriber>,
    fan_out: Option<FanOutLoad>,
    load: Load,
    watch: ClusterMonitor,
    faults: Vec<Fault>,
    schedule: Schedule,
    minimum: Minimum,
    snapshots: Vec<Snapshot>,
    clocks_agree: bool,
}

impl Run {
    /// Creates endpoints of every kind and starts the load, with `pause` between two publications.
    pub(crate) async fn start(fixture: ClusterFixture, seed: u64, pause: Duration) -> Result<Self> {
        let subscribers = subscribe(&fixture).await?;
        let least = Minimum { events: MIN_EVENTS, disabled: 2, ..Minimum::default() };
        Ok(Self::start_with(fixture, subscribers, schedule(), least, seed, pause))
    }

    /// Like [`start`](Self::start), with custom endpoints, schedule and minimum.
    pub(crate) fn start_with(
        fixture: ClusterFixture,
        subscribers: Vec<Subscriber>,
        schedule: Schedule,
        minimum: Minimum,
        seed: u64,
        pause: Duration,
    ) -> Self {
        let load = Load::start_at_each(fixture.accounts(), ORDER, seed, pause);
        let watch = ClusterMonitor::start(
            &fixture.operator,
            &fixture.cluster.bases(),
            fixture.cluster.process_table(),
        );
        let faults = Vec::new();
        let snapshots = Vec::new();
        Self {
            fixture,
            subscribers,
            fan_out: None,
            load,
            watch,
            faults,
            schedule,
            minimum,
            snapshots,
            clocks_agree: true,
        }
    }

    /// Adds a fan-out load.
    pub(crate) async fn with_fan_out(mut self, seed: u64, config: FanOutConfig) -> Result<Self> {
        self.fan_out = Some(FanOutLoad::start(&self.fixture, seed, config).await?);
        Ok(self)
    }

    /// Executes the plan, while one endpoint is disabled by hand and enabled again.
    pub(crate) async fn execute(mut self, plan: &Plan, seed: u64) -> Result<RunOutcome> {
        let mut rng = StdRng::seed_from_u64(seed);
        let to_pause = self.subscribers[1].endpoint.clone();
        let pausing_task = tokio::spawn(disable_and_enable(self.fixture.accounts(), to_pause));
        for &(calm, step) in &plan.steps {
            // A plain sleep on purpose: the timing of the fault is what is being tested.
            tokio::time::sleep(calm).await;
            self.apply(step, &mut rng).await.with_context(|| format!("{step:?}"))?;
        }
        let pause = pausing_task.await.context("the task that disables an endpoint panicked")??;
        self.finish(vec![pause], plan.faults()).await
    }

    async fn apply(&mut self, step: Step, rng: &mut StdRng) -> Result<()> {
        let cluster = &mut self.fixture.cluster;
        match step {
            Step::Kill { node, downtime } => {
                self.faults.push(cluster.kill(node).await?);
                tokio::time::sleep(downtime).await;
                cluster.spawn(node)?;
                // Some nodes are killed again before they are ready.
                if rng.random_ratio(3, 4) {
                    cluster.ready().await?;
                }
            }
            Step::KillAll => {
                let running: Vec<_> =
                    (0..cluster.size()).filter(|&n| cluster.is_running(n)).collect();
                self.faults.extend(cluster.kill_all().await?);
                for node in running {
                    cluster.spawn(node)?;
                }
            }
            Step::Freeze { node, duration, killed } => {
                cluster.ready().await?;
                let open = cluster.freeze(node)?;
                tokio::time::sleep(duration / 2).await;
                if let Some(other) = killed {
                    self.faults.push(cluster.kill(other).await?);
                    cluster.spawn(other)?;
                }
                tokio::time::sleep(duration / 2).await;
                self.faults.extend(cluster.thaw(&open)?);
            }
            Step::Partition { node, cut, duration } => {
                // A node cannot start without its store.
                if cluster.owns_its_store() && cut != Partition::Peers {
                    cluster.ready().await?;
                }
                let open = cluster.partition(node, cut)?;
                tokio::time::sleep(duration).await;
                self.faults.push(cluster.heal(&open)?);
            }
            Step::RollingRestart => {
                cluster.ready().await?;
                for node in 0..NODES {
                    self.faults.push(cluster.restart(node).await?);
                }
            }
            Step::Join => {
                cluster.ready().await?;
                self.faults.push(cluster.join(NODES).await?);
            }
            Step::Leave => {
                cluster.ready().await?;
                self.faults.push(cluster.leave(NODES).await?);
            }
            // A node cannot start during an outage of the store.
            Step::KillStore { downtime } => {
                cluster.ready().await?;
                self.faults.push(cluster.store()?.crash(downtime).await?);
            }
            Step::FreezeStore { duration } => {
                cluster.ready().await?;
                self.faults.push(cluster.store()?.pause(duration).await?);
            }
        }
        Ok(())
    }

    /// Waits until nothing is pending and gathers the evidence.
    pub(crate) async fn finish(
        mut self,
        manual_disables: Vec<ManualDisable>,
        planned: Vec<(Kind, usize)>,
    ) -> Result<RunOutcome> {
        self.fixture.cluster.ready().await?;
        self.wait_for_minimum().await;
        let healed = Timestamp::now();
        let publications = self.load.stop().await?;
        let fan_out = match self.fan_out {
            Some(fan_out) => Some(fan_out.stop().await?),
            None => None,
        };
        let faults = u32::try_from(self.faults.len())?;
        let within = SETTLED_WITHIN + BACKLOG_PER_FAULT * faults;
        if self.clocks_agree {
            wait_until_work_is_done(&self.fixture, within).await?;
        } else {
            wait_until_due_work_is_done(&self.fixture, within).await?;
        }
        if let Some(fan_out) = &fan_out {
            fan_out.settle(FANNED_OUT_WITHIN).await?;
        }
        self.fixture.mail.resume_responding();
        let store = StoreRecords::read(&self.fixture.account).await?;
        let disabled = store.exhausted_endpoints();
        let emails = self.fixture.mail.wait_for_mentions(&disabled, SETTLED_WITHIN).await?;
        let Observations { cluster_samples, usage, slow_flushes } = self.watch.stop();
        let received = self.fixture.receiver.received();
        let (to_fan_out, received): (Vec<_>, Vec<_>) =
            received.into_iter().partition(|request| FanOutLoad::owns_path(&request.path));
        let is_to_fan_out = |mail: &Email| mail.to.iter().any(|to| to == fan_out::CONTACT);
        let (fan_out_mails, emails): (Vec<_>, Vec<_>) = emails.into_iter().partition(is_to_fan_out);
        let mut evidence = Evidence {
            publications,
            received,
            emails,
            store,
            subscribers: self.subscribers,
            faults: self.faults,
            healed,
            cluster_samples,
            snapshots: self.snapshots,
            usage,
            slow_flushes,
            clocks_agree: self.clocks_agree,
            manual_disables,
            replays: Vec::new(),
            schedule: self.schedule,
            minimum: Minimum { faults: planned, ..self.minimum },
        };
        let fan_out = match fan_out {
            Some(seen) => Some(Evidence {
                publications: seen.publications,
                received: to_fan_out,
                emails: fan_out_mails,
                store: StoreRecords::read(&seen.account).await?,
                subscribers: seen.subscribers,
                faults: evidence.faults.clone(),
                healed,
                cluster_samples: evidence.cluster_samples.clone(),
                snapshots: Vec::new(),
                // The evidence of the account under load has the resource usage already.
                usage: Vec::new(),
                slow_flushes: evidence.slow_flushes.clone(),
                clocks_agree: self.clocks_agree,
                manual_disables: seen.manual_disables,
                replays: seen.replays,
                schedule: self.schedule,
                minimum: Minimum { faults: evidence.minimum.faults.clone(), ..FAN_OUT_MIN },
            }),
            None => {
                // Without a fan-out load, requests to its paths are spurious: the checker must see
                // them.
                evidence.received.extend(to_fan_out);
                None
            }
        };
        self.fixture.cluster.stop().await?;
        Ok(RunOutcome { evidence, fan_out })
    }

    /// Keeps the load running until the run has reached its minimum, however slow the machine is.
    /// If it never does, the checker reports what is missing.
    async fn wait_for_minimum(&self) {
        let enough = async || {
            let fan_out =
                self.fan_out.as_ref().is_none_or(|fan_out| fan_out.has_reached(&FAN_OUT_MIN));
            Ok((fan_out && self.load.accepted() >= self.minimum.events).then_some(()))
        };
        if let Err(error) =
            wait::until("the load has reached its minimum", MINIMUM_WITHIN, enough).await
        {
            eprintln!("{error}");
        }
    }

    /// Reads the owners and the pending deliveries through a node that is not frozen.
    pub(crate) async fn take_snapshot(&mut self) -> Result<()> {
        let snapshot = Snapshot::take(&self.fixture.operator, &self.fixture.account).await?;
        self.snapshots.push(snapshot);
        Ok(())
    }

    /// Declares that the nodes' clocks differ: deliveries that a wrong clock made due in the future
    /// are not waited for.
    pub(crate) fn with_differing_clocks(mut self) -> Self {
        self.clocks_agree = false;
        self
    }

    /// Records faults that were made outside the plan.
    pub(crate) fn record_faults(&mut self, faults: impl IntoIterator<Item = Fault>) {
        self.faults.extend(faults);
    }
}

/// Creates endpoints of every kind: healthy ones, some that need retries, and two that never return
/// a 2xx status.
async fn subscribe(fixture: &ClusterFixture) -> Result<Vec<Subscriber>> {
    let elsewhere = fixture.receiver.hook("elsewhere").url();
    let too_late = Behaviour::Slow(TIMEOUT + millis(200));
    let behaviours = [
        ("healthy", Behaviour::default()),
        ("paused", Behaviour::default()),
        ("healthy-2", Behaviour::default()),
        ("healthy-3", Behaviour::default()),
        ("strict", Behaviour::default()),
        ("slow", Behaviour::Slow(millis(40))),
        ("failing", Behaviour::fail_first(2, 500)),
        ("late", too_late.at_first(1)),
        ("redirecting", Behaviour::redirect(302, &elsewhere).at_first(1)),
        ("resetting", Behaviour::Reset.at_first(2)),
        ("stalling", Behaviour::Hang.at_first(1)),
        ("broken", Behaviour::status(503)),
        ("hanging", Behaviour::Hang),
    ];
    let mut subscribers = Vec::new();
    for (name, behaviour) in behaviours {
        subscribers.push(fixture.subscribe(name, behaviour).await?.0);
    }
    Ok(subscribers)
}

/// Disables an endpoint and enables it again after a while, trying one node after another until
/// each command is acknowledged.
async fn disable_and_enable(accounts: Vec<Account>, endpoint: String) -> Result<ManualDisable> {
    tokio::time::sleep(seconds(2)).await;
    command(&accounts, &endpoint, "disable").await?;
    let acknowledged = Timestamp::now();
    tokio::time::sleep(DISABLED_FOR).await;
    let enabled = Some(Timestamp::now());
    command(&accounts, &endpoint, "enable").await?;
    Ok(ManualDisable { endpoint, acknowledged, enabled })
}

async fn command(accounts: &[Account], endpoint: &str, command: &str) -> Result<()> {
    let deadline = Instant::now() + SETTLED_WITHIN;
    for account in accounts.iter().cycle() {
        let path = account.path(&format!("/endpoints/{endpoint}/{command}"));
        if account.api.post(&path, &json!({})).await.is_ok_and(|a| a.succeeded().is_ok()) {
            break;
        }
        ensure!(Instant::now() < deadline, "no node could {command} {endpoint}");
        tokio::time::sleep(RETRY_PAUSE).await;
    }
    Ok(())
}
