//! A cluster under load, to which a plan of faults is done, and everything that is known of it
//! afterwards.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use postrider_tests::checker::{self, bounds, duplicates};
use postrider_tests::client::Account;
use postrider_tests::client::records::{Delivery, Endpoint};
use postrider_tests::cluster::network::Cut;
use postrider_tests::cluster::watch::{Seen, Watch};
use postrider_tests::config::Config;
use postrider_tests::evidence::{
    Evidence, Glimpse, Least, Pause, StoreRecords, Subscriber, after, since,
};
use postrider_tests::fault::{Fault, Kind};
use postrider_tests::load::{Load, Publication};
use postrider_tests::mail::Mail;
use postrider_tests::plan::{Plan, Step};
use postrider_tests::receiver::Behaviour;
use postrider_tests::scene::ORDER;
use postrider_tests::schedule::Schedule;
use postrider_tests::wait::{self, millis, seconds};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;
use tokio::time::Instant;

use crate::crowd::{self, Crowd, Habits};
use crate::stage::Stage;

/// Nodes that are there from the start; one more may visit.
pub(crate) const NODES: usize = 3;
/// From how many kills on a run is a long one.
pub(crate) const LONG: usize = 50;
/// Accepted events that a run must have had, or it shows nothing.
const LEAST_EVENTS: usize = 1_000;
const TIMEOUT: Duration = millis(500);
const WINDOW: Duration = seconds(14);
/// Shards: few, so that endpoints share them, and an owner's attempts show in many.
const SHARDS: u64 = 24;
/// After the last fault, until the load has had what a run must have had.
const BUSY_WITHIN: Duration = seconds(120);
/// After the last fault: the last retries of the window, and what was left undone meanwhile.
const SETTLED_WITHIN: Duration = seconds(90);
/// And for each fault the backlog that the load left meanwhile at the endpoints that fail.
const BACKLOG_PER_FAULT: Duration = seconds(2);
/// Accepted events of the crowd, its replays and the changes of its subscriptions that a run must
/// have had.
const CROWD_LEAST: Least =
    Least { events: 40, faults: Vec::new(), disabled: 0, replays: 1, changes: 100 };
/// After the last fault, until every fan-out is over. It is longer than the product may take, so that
/// what comes too late is seen.
const REACHED_WITHIN: Duration = seconds(75);
/// How long it rests before it asks the next node.
const AWAY_PAUSE: Duration = millis(50);
/// How many deliveries of an endpoint are shown that are still pending.
const SHOWN: usize = 3;
/// How long the endpoint stays disabled that is disabled by hand: longer than a lease.
const PAUSED_FOR: Duration = seconds(12);

/// What the nodes of a story are told.
pub(crate) fn config() -> Config {
    Config::new().timeout("500ms").retry("14s", 10).set("cluster", "shards", SHARDS)
}

/// The schedule that follows from it.
fn schedule() -> Schedule {
    Schedule::new(WINDOW, 10, TIMEOUT)
}

/// The seed and the number of kills, from the environment or else drawn and this.
pub(crate) fn chosen(kills: usize) -> Result<(u64, usize)> {
    let seed = from_environment("POSTRIDER_SEED")?.unwrap_or_else(rand::random);
    let kills = from_environment("POSTRIDER_KILLS")?.unwrap_or(kills as u64);
    Ok((seed, usize::try_from(kills)?))
}

fn from_environment(name: &str) -> Result<Option<u64>> {
    let Ok(text) = std::env::var(name) else { return Ok(None) };
    text.parse().map(Some).with_context(|| format!("{name} is {text:?}"))
}

/// What is known at the end.
pub(crate) struct Told {
    /// Of the account under load.
    pub(crate) evidence: Evidence,
    /// Of the crowd, if there was one.
    crowd: Option<Evidence>,
}

/// A cluster while a load goes over it.
pub(crate) struct Story {
    pub(crate) stage: Stage,
    subscribers: Vec<Subscriber>,
    crowd: Option<Crowd>,
    load: Load,
    watch: Watch,
    faults: Vec<Fault>,
    schedule: Schedule,
    least: Least,
    glimpses: Vec<Glimpse>,
    one_clock: bool,
}

impl Story {
    /// Subscribes endpoints of every kind, and starts to publish, resting for `pause` between
    /// two publications.
    pub(crate) async fn begin(stage: Stage, seed: u64, pause: Duration) -> Result<Self> {
        let subscribers = subscribe(&stage).await?;
        let least = Least { events: LEAST_EVENTS, disabled: 2, ..Least::default() };
        Ok(Self::with(stage, subscribers, schedule(), least, seed, pause))
    }

    /// The same with endpoints, a schedule and demands of one's own.
    pub(crate) fn with(
        stage: Stage,
        subscribers: Vec<Subscriber>,
        schedule: Schedule,
        least: Least,
        seed: u64,
        pause: Duration,
    ) -> Self {
        let load = Load::over(stage.accounts(), ORDER, seed, pause);
        let watch = Watch::start(&stage.operator, &stage.cluster.bases(), stage.cluster.roster());
        let faults = Vec::new();
        let glimpses = Vec::new();
        Self {
            stage,
            subscribers,
            crowd: None,
            load,
            watch,
            faults,
            schedule,
            least,
            glimpses,
            one_clock: true,
        }
    }

    /// Lets a crowd be busy beside the load.
    pub(crate) async fn among(mut self, seed: u64, habits: Habits) -> Result<Self> {
        self.crowd = Some(Crowd::gather(&self.stage, seed, habits).await?);
        Ok(self)
    }

    /// Does what the plan says, while an endpoint is disabled by hand and enabled again.
    pub(crate) async fn play(mut self, plan: &Plan, seed: u64) -> Result<Told> {
        let mut dice = StdRng::seed_from_u64(seed);
        let to_pause = self.subscribers[1].endpoint.clone();
        let pausing = tokio::spawn(pause(self.stage.accounts(), to_pause));
        for &(calm, step) in &plan.steps {
            // Blind on purpose: the moment is what is being tested.
            tokio::time::sleep(calm).await;
            self.take(step, &mut dice).await.with_context(|| format!("{step:?}"))?;
        }
        let pause = pausing.await.context("the pause")??;
        self.end(vec![pause], plan.faults()).await
    }

    async fn take(&mut self, step: Step, dice: &mut StdRng) -> Result<()> {
        let cluster = &mut self.stage.cluster;
        match step {
            Step::Kill { node, away } => {
                self.faults.push(cluster.kill(node).await?);
                tokio::time::sleep(away).await;
                cluster.spawn(node)?;
                // Some are killed before they are ready.
                if dice.random_ratio(3, 4) {
                    cluster.ready().await?;
                }
            }
            Step::KillAll => {
                let running: Vec<_> = (0..cluster.size()).filter(|&n| cluster.runs(n)).collect();
                self.faults.extend(cluster.kill_all().await?);
                for node in running {
                    cluster.spawn(node)?;
                }
            }
            Step::Freeze { node, lasting, killed } => {
                cluster.ready().await?;
                let open = cluster.freeze(node)?;
                tokio::time::sleep(lasting / 2).await;
                if let Some(other) = killed {
                    self.faults.push(cluster.kill(other).await?);
                    cluster.spawn(other)?;
                }
                tokio::time::sleep(lasting / 2).await;
                self.faults.extend(cluster.thaw(&open)?);
            }
            Step::Cut { node, cut, lasting } => {
                // No node can start without its store, either.
                if cluster.has_a_store_of_its_own() && cut != Cut::Nodes {
                    cluster.ready().await?;
                }
                let open = cluster.cut(node, cut)?;
                tokio::time::sleep(lasting).await;
                self.faults.push(cluster.mend(&open)?);
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
            // No node can start while the store is away.
            Step::KillStore { away } => {
                cluster.ready().await?;
                self.faults.push(cluster.store()?.crash(away).await?);
            }
            Step::FreezeStore { lasting } => {
                cluster.ready().await?;
                self.faults.push(cluster.store()?.pause(lasting).await?);
            }
        }
        Ok(())
    }

    /// Waits until all is settled, and gathers the evidence.
    pub(crate) async fn end(
        mut self,
        pauses: Vec<Pause>,
        planned: Vec<(Kind, usize)>,
    ) -> Result<Told> {
        self.stage.cluster.ready().await?;
        self.until_it_shows_something().await;
        let healed = Timestamp::now();
        let publications = self.load.stop().await?;
        let crowd = match self.crowd {
            Some(crowd) => Some(crowd.stop().await?),
            None => None,
        };
        let faults = u32::try_from(self.faults.len())?;
        let within = SETTLED_WITHIN + BACKLOG_PER_FAULT * faults;
        if self.one_clock {
            settle(&self.stage, within).await?;
        } else {
            settle_what_is_due(&self.stage, within).await?;
        }
        if let Some(crowd) = &crowd {
            crowd.settle(REACHED_WITHIN).await?;
        }
        self.stage.mail.speak();
        let mails = self.stage.mail.wait_for(self.least.disabled, SETTLED_WITHIN).await?;
        let Seen { sightings, vitals, slow_flushes } = self.watch.stop();
        let received = self.stage.receiver.received();
        let (to_crowd, received): (Vec<_>, Vec<_>) =
            received.into_iter().partition(|request| Crowd::is_at(&request.path));
        let to_crowd_s = |mail: &Mail| mail.to.iter().any(|to| to == crowd::CONTACT);
        let (crowd_s, mails): (Vec<_>, Vec<_>) = mails.into_iter().partition(to_crowd_s);
        let mut evidence = Evidence {
            publications,
            received,
            mails,
            store: StoreRecords::read(&self.stage.account).await?,
            subscribers: self.subscribers,
            faults: self.faults,
            healed,
            sightings,
            glimpses: self.glimpses,
            vitals,
            slow_flushes,
            one_clock: self.one_clock,
            pauses,
            replays: Vec::new(),
            schedule: self.schedule,
            least: Least { faults: planned, ..self.least },
        };
        let crowd = match crowd {
            Some(seen) => Some(Evidence {
                publications: seen.publications,
                received: to_crowd,
                mails: crowd_s,
                store: StoreRecords::read(&seen.account).await?,
                subscribers: seen.subscribers,
                faults: evidence.faults.clone(),
                healed,
                sightings: evidence.sightings.clone(),
                glimpses: Vec::new(),
                // Of the nodes, which the account under load has shown already.
                vitals: Vec::new(),
                slow_flushes: evidence.slow_flushes.clone(),
                one_clock: self.one_clock,
                pauses: seen.pauses,
                replays: seen.replays,
                schedule: self.schedule,
                least: Least { faults: evidence.least.faults.clone(), ..CROWD_LEAST },
            }),
            None => {
                // Whatever comes to nobody's path is made up.
                evidence.received.extend(to_crowd);
                None
            }
        };
        self.stage.cluster.stop().await?;
        Ok(Told { evidence, crowd })
    }

    /// Lets the load go on until the run has had its least, however slow the machine is. If that
    /// never comes, the checker says what is missing.
    async fn until_it_shows_something(&self) {
        let enough = async || {
            let crowd = self.crowd.as_ref().is_none_or(|crowd| crowd.has_done(&CROWD_LEAST));
            Ok((crowd && self.load.accepted() >= self.least.events).then_some(()))
        };
        if let Err(error) = wait::until("the run shows something", BUSY_WITHIN, enough).await {
            eprintln!("{error}");
        }
    }

    /// Looks who owns what and what is on record, by a node that is not frozen.
    pub(crate) async fn glimpse(&mut self) -> Result<()> {
        let glimpse = Glimpse::take(&self.stage.operator, &self.stage.account).await?;
        self.glimpses.push(glimpse);
        Ok(())
    }

    /// The clock of a node is going to be wrong: what it stamps with a time to come is not waited
    /// for.
    pub(crate) fn clocks_differ(mut self) -> Self {
        self.one_clock = false;
        self
    }

    /// Notes faults that somebody else made.
    pub(crate) fn note(&mut self, faults: impl IntoIterator<Item = Fault>) {
        self.faults.extend(faults);
    }
}

/// Endpoints of every kind: good ones, some that need retries, and two that never answer 2XX.
async fn subscribe(stage: &Stage) -> Result<Vec<Subscriber>> {
    let elsewhere = stage.receiver.hook("elsewhere").url();
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
        subscribers.push(stage.subscribe(name, behaviour).await?.0);
    }
    Ok(subscribers)
}

/// Disables an endpoint, asking one node after another until it is acknowledged, and enables it
/// again after a while.
async fn pause(accounts: Vec<Account>, endpoint: String) -> Result<Pause> {
    tokio::time::sleep(seconds(2)).await;
    ask(&accounts, &endpoint, "disable").await?;
    let acknowledged = Timestamp::now();
    tokio::time::sleep(PAUSED_FOR).await;
    let enabled = Some(Timestamp::now());
    ask(&accounts, &endpoint, "enable").await?;
    Ok(Pause { endpoint, acknowledged, enabled })
}

async fn ask(accounts: &[Account], endpoint: &str, command: &str) -> Result<()> {
    let deadline = Instant::now() + SETTLED_WITHIN;
    for account in accounts.iter().cycle() {
        let path = account.path(&format!("/endpoints/{endpoint}/{command}"));
        if account.api.post(&path, &json!({})).await.is_ok_and(|a| a.succeeded().is_ok()) {
            break;
        }
        ensure!(Instant::now() < deadline, "nobody could {command} {endpoint}");
        tokio::time::sleep(AWAY_PAUSE).await;
    }
    Ok(())
}

/// Waits until nothing is pending: every delivery has ended or is held.
async fn settle(stage: &Stage, within: Duration) -> Result<()> {
    let endpoints = async || stage.account.list::<Endpoint>("/endpoints?").await;
    let left = async || {
        let pending: u64 = endpoints().await?.iter().map(|endpoint| endpoint.pending).sum();
        Ok(usize::try_from(pending)?)
    };
    let settled = wait::until_none_left("everything is settled", within, left).await;
    if settled.is_err() {
        tell_what_is_pending(stage).await?;
    }
    settled
}

/// Waits until nothing is pending but what is due later than any retry could be.
async fn settle_what_is_due(stage: &Stage, within: Duration) -> Result<()> {
    let account = &stage.account;
    let left = async || {
        let later = after(Timestamp::now(), 2 * WINDOW);
        let mut left = 0;
        for endpoint in account.list::<Endpoint>("/endpoints?").await? {
            let pending = format!("/endpoints/{}/deliveries?state=pending&", endpoint.id);
            let pending = account.list::<Delivery>(&pending).await?;
            let due_later = |d: &Delivery| d.next_attempt_at.is_some_and(|due| due > later);
            // Behind the first of a strict endpoint, all others wait.
            let first = pending.last().is_some_and(due_later);
            let strict = endpoint.ordering == "strict" && first;
            if endpoint.state == "enabled" && !strict {
                left += pending.iter().filter(|delivery| !due_later(delivery)).count();
            }
        }
        Ok(left)
    };
    let settled = wait::until_none_left("all that is due is settled", within, left).await;
    if settled.is_err() {
        tell_what_is_pending(stage).await?;
    }
    settled
}

async fn tell_what_is_pending(stage: &Stage) -> Result<()> {
    for endpoint in stage.account.list::<Endpoint>("/endpoints?").await? {
        let Endpoint { id, name, state, pending, oldest_pending_at, .. } = endpoint;
        eprintln!("{name} is {state}: {pending} pending, the oldest of {oldest_pending_at:?}");
        let pending = format!("/endpoints/{id}/deliveries?state=pending&");
        let pending = stage.account.list::<Delivery>(&pending).await?;
        for Delivery { id, created_at, next_attempt_at, .. } in pending.iter().rev().take(SHOWN) {
            eprintln!("  {id}, created {created_at}, is due {next_attempt_at:?}");
        }
    }
    Ok(())
}

/// Says what a run was made of, and checks it.
pub(crate) fn judge(title: &str, seed: u64, told: &Told) -> Result<()> {
    let Told { evidence, crowd } = told;
    let mut made = BTreeMap::<Kind, usize>::new();
    for fault in &evidence.faults {
        *made.entry(fault.kind).or_default() += 1;
    }
    eprintln!("{title}: faults {made:?}");
    let (kib, descriptors, threads) = bounds::peaks(evidence);
    eprintln!(
        "{title}: at most {} MiB, {descriptors} descriptors, {threads} threads a node, {} looks at \
         the cluster",
        kib / 1024,
        evidence.sightings.len(),
    );
    if !evidence.slow_flushes.is_empty() {
        let took = evidence.slow_flushes.iter().map(|flush| since(flush.to, flush.from));
        let longest = took.max().unwrap_or_default();
        eprintln!(
            "{title}: the disk was slow {} times, {longest:?} at most",
            evidence.slow_flushes.len(),
        );
    }
    for name in checker::left_out(evidence) {
        eprintln!("{title}: left out, since the clocks differed: {name}");
    }
    summarize(title, evidence, &made);
    let mut found = checker::check(evidence);
    if let Some(crowd) = crowd {
        let title = format!("{title}, the crowd");
        summarize(&title, crowd, &made);
        if let Err(error) = checker::check(crowd) {
            let before = found.err().map(|before| format!("{before}\n")).unwrap_or_default();
            found = Err(anyhow::anyhow!("{before}{title}:\n{error}"));
        }
    }
    found.with_context(|| format!("POSTRIDER_SEED={seed}"))
}

fn summarize(title: &str, evidence: &Evidence, made: &BTreeMap<Kind, usize>) {
    let attempts: usize = evidence.store.deliveries.iter().map(|d| d.attempts.len()).sum();
    let again = |publication: &&Publication| publication.calls.len() > 1;
    eprintln!(
        "{title}: {} events, {} of them asked for more than once; {} deliveries, {attempts} \
         attempts on record, {} requests received, {} emails",
        evidence.store.events.len(),
        evidence.publications.iter().filter(again).count(),
        evidence.store.deliveries.len(),
        evidence.received.len(),
        evidence.mails.len(),
    );
    if !evidence.replays.is_empty() {
        let changes: usize = evidence.subscribers.iter().map(Subscriber::changes).sum();
        let replays = evidence.replays.iter().filter_map(|run| run.replay.as_ref());
        let done: Vec<_> = replays.map(|replay| replay.done).collect();
        eprintln!(
            "{title}: {} endpoints, {changes} changes of subscriptions, {done:?} deliveries \
             replayed",
            evidence.subscribers.len(),
        );
    }
    eprintln!("{title}: requests sent again, by reason: {}", repeated(evidence, made));
}

fn repeated(evidence: &Evidence, made: &BTreeMap<Kind, usize>) -> String {
    let reasons = duplicates::reasons(evidence);
    let mut text = format!("{reasons:?}");
    if let (Some(&again), Some(&kills)) =
        (reasons.get(&duplicates::Reason::Crash), made.get(&Kind::Kill))
    {
        let (again, kills) = (again as f64, kills as f64);
        let _ = write!(text, ", {:.2} per kill", again / kills);
    }
    text
}
