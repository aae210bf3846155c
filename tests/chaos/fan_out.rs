//! A fan-out load: an account with more subscribed endpoints than one transaction can reach, whose
//! subscriptions change while events are fanned out.
//!
//! Most endpoints are disabled, so that their deliveries are held at no cost. The others cover what
//! can go wrong in a fan-out:
//! - *resubscribing* endpoints switch constantly between `*` and the names of the same types: they
//!   stay subscribed throughout and receive each event once;
//! - *transient* endpoints are created, disabled, enabled and deleted;
//! - *replayed* endpoints have their past deliveries replayed.
//!
//! Meanwhile the load publishes events for all of them, batches with more deliveries than one
//! transaction can create, and events of a type whose schema changes between a request and its
//! repetition.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use parking_lot::{Mutex, MutexGuard};
use postrider_tests::checker::loss;
use postrider_tests::client::records::{Delivery, Endpoint, Replay};
use postrider_tests::client::{Account, Answer, NewEndpoint, Operator};
use postrider_tests::evidence::{
    ManualDisable, Minimum, ReplayRun, StoreRecords, Subscriber, Subscription,
};
use postrider_tests::load::{self, Outcome, Publication};
use postrider_tests::receiver::Hook;
use postrider_tests::wait::{millis, seconds};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::cluster_fixture::{CALL_TIMEOUT, ClusterFixture};

/// The account's contact address.
pub(crate) const CONTACT: &str = "fan-out@example.com";
/// The prefix of the load's receiver paths.
const PATH: &str = "/fan-out-";

/// The type with more than 500 subscribers, so that each of its events is fanned out.
const NEWS: &str = "fan_out.news";
/// The type published in batches.
const BULK: &str = "fan_out.bulk";
/// The type whose schema changes, published with idempotency keys.
const KEYED: &str = "fan_out.keyed";

/// Endpoints disabled from the start.
const DISABLED: usize = 520;
/// How many of them are also subscribed to [`BULK`].
const BULK_DISABLED: usize = 90;
const RESUBSCRIBING: usize = 8;
const REPLAYED: usize = 4;
/// Transient endpoints at a time.
const MAX_TRANSIENT: usize = 6;
/// Events per batch. Multiplied by the subscribed endpoints, this exceeds the 1,500 deliveries that
/// one transaction creates, so that the last events of each batch are fanned out.
const BATCH: usize = 16;
/// Every third publication is a batch.
const BATCH_EVERY: usize = 3;
/// Batches before the first replay.
const BATCHES_TO_REPLAY: usize = 2;
/// New deliveries per second of a replay.
const REPLAY_RATE: u64 = 20;
/// Events published at the end, after all faults.
const LAST_EVENTS: usize = 8;

/// Pause between two changes of a resubscribing endpoint.
const RESUBSCRIBE_EVERY: Duration = millis(20);
const TRANSIENT_CHANGE_EVERY: Duration = millis(400);
const SCHEMA_CHANGES_EVERY: Duration = seconds(3);
/// Pause before the next node is tried.
const RETRY_PAUSE: Duration = millis(50);
/// How often a replay's state is polled.
const POLL_EVERY: Duration = millis(500);
/// How often all events are read to see whether they have been fanned out.
const RECORDS_POLL_EVERY: Duration = seconds(3);
/// How long all nodes may reject or fail a request.
const ANSWERED_WITHIN: Duration = seconds(90);
/// How long a replay may take after the last fault.
const REPLAYED_WITHIN: Duration = seconds(60);
/// Concurrent calls while the endpoints are created.
const CALLS_AT_ONCE: usize = 16;

/// Settings of the load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FanOutConfig {
    /// Pause between two publications.
    pub(crate) publish_every: Duration,
    /// The largest difference between two nodes' clocks.
    pub(crate) clocks_apart: Duration,
    /// The node that creates the replays; `None` means any.
    pub(crate) replay_at: Option<usize>,
}

/// The running load.
pub(crate) struct FanOutLoad {
    shared: Arc<Shared>,
    tasks: JoinSet<Result<()>>,
    seed: u64,
}

/// The records of a finished load.
pub(crate) struct FanOutRecords {
    pub(crate) account: Account,
    pub(crate) publications: Vec<Publication>,
    pub(crate) subscribers: Vec<Subscriber>,
    pub(crate) manual_disables: Vec<ManualDisable>,
    pub(crate) replays: Vec<ReplayRun>,
}

struct Shared {
    /// The account through each node.
    nodes: Vec<Account>,
    operators: Vec<Operator>,
    /// The receiver's root, from which hooks are derived.
    receiver: Hook,
    config: FanOutConfig,
    log: Mutex<Log>,
    stopped: watch::Sender<bool>,
}

#[derive(Default)]
struct Log {
    publications: Vec<Publication>,
    batches: usize,
    subscribers: Vec<Subscriber>,
    /// Endpoints whose creation got no response, by name.
    unconfirmed: HashMap<String, (Hook, Subscription)>,
    manual_disables: Vec<ManualDisable>,
    replays: Vec<ReplayRun>,
}

impl FanOutLoad {
    /// Creates the endpoints and starts the workers.
    pub(crate) async fn start(
        fixture: &ClusterFixture,
        seed: u64,
        config: FanOutConfig,
    ) -> Result<Self> {
        for event_type in [NEWS, BULK, KEYED] {
            fixture.operator.event_type(event_type, &json!({"n": 1})).await?;
        }
        let account = fixture.operator.account("Fan-out", &[CONTACT]).await?;
        let bases = fixture.cluster.bases();
        let api = fixture.operator.api.with_timeout(CALL_TIMEOUT);
        let shared = Arc::new(Shared {
            nodes: account.at_each(&bases, CALL_TIMEOUT),
            operators: bases.iter().map(|base| Operator::new(api.at(base))).collect(),
            receiver: fixture.receiver.hook(""),
            config,
            log: Mutex::default(),
            stopped: watch::Sender::new(false),
        });
        let resubscribing = shared
            .create_endpoints(&account, "resubscribing", RESUBSCRIBING, |_| vec!["*"])
            .await?;
        let replayed =
            shared.create_endpoints(&account, "replayed", REPLAYED, |_| vec![BULK]).await?;
        let wanted = |n| if n < BULK_DISABLED { vec![NEWS, BULK] } else { vec![NEWS] };
        let disabled = shared.create_endpoints(&account, "disabled", DISABLED, wanted).await?;
        let disabled = stream::iter(disabled).map(async |id| account.disable(&id).await);
        disabled.buffer_unordered(CALLS_AT_ONCE).try_collect::<()>().await?;

        let mut tasks = JoinSet::new();
        let worker =
            |n| Worker { shared: Arc::clone(&shared), rng: StdRng::seed_from_u64(seed ^ n) };
        tasks.spawn(worker(1).publish());
        tasks.spawn(worker(2).change_subscriptions(resubscribing));
        tasks.spawn(worker(3).create_and_delete());
        tasks.spawn(worker(4).replay(replayed));
        tasks.spawn(worker(5).repeat_keys_across_schema_changes());
        Ok(Self { shared, tasks, seed })
    }

    /// Whether a receiver path belongs to the load.
    pub(crate) fn owns_path(path: &str) -> bool {
        path.starts_with(PATH)
    }

    /// Whether the load has reached this minimum and has enough batches for the first replay.
    pub(crate) fn has_reached(&self, least: &Minimum) -> bool {
        let log = self.shared.log();
        let changes: usize = log.subscribers.iter().map(Subscriber::changes).sum();
        load::accepted(&log.publications) >= least.events
            && changes >= least.changes
            && log.batches >= BATCHES_TO_REPLAY
    }

    /// Publishes some final events after the last fault and stops the workers. No fault excuses a
    /// late delivery of these events.
    pub(crate) async fn stop(mut self) -> Result<FanOutRecords> {
        self.shared.stopped.send_replace(true);
        let rng = StdRng::seed_from_u64(self.seed);
        let mut worker = Worker { shared: Arc::clone(&self.shared), rng };
        for n in 0..LAST_EVENTS {
            worker.publish_with_key(NEWS, &format!("last-{n}")).await?;
        }
        while let Some(task) = self.tasks.join_next().await {
            task.context("a fan-out worker panicked")??;
        }
        worker.adopt_unconfirmed().await?;
        let account = self.shared.nodes[0].clone();
        let Log { publications, subscribers, manual_disables, replays, .. } =
            std::mem::take(&mut *self.shared.log());
        Ok(FanOutRecords { account, publications, subscribers, manual_disables, replays })
    }
}

impl FanOutRecords {
    /// Waits until nothing is pending and every event has reached all its subscribers. On a timeout
    /// it only prints a message: the checker reports what is missing.
    pub(crate) async fn settle(&self, within: Duration) -> Result<()> {
        let deadline = Instant::now() + within;
        loop {
            let records = StoreRecords::read_without_attempts(&self.account).await?;
            let pending: u64 = records.endpoints.iter().map(|endpoint| endpoint.pending).sum();
            let reached =
                loss::fan_out_is_complete(&self.publications, &self.subscribers, &records);
            if pending == 0 && reached {
                return Ok(());
            }
            if Instant::now() > deadline {
                eprintln!(
                    "fan-out load not finished: {pending} pending, all events fanned out: {reached}"
                );
                return Ok(());
            }
            tokio::time::sleep(RECORDS_POLL_EVERY).await;
        }
    }
}

impl Shared {
    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock()
    }

    fn is_stopped(&self) -> bool {
        *self.stopped.borrow()
    }

    /// Sleeps until `duration` has passed or the load is stopped.
    async fn sleep_unless_stopped(&self, duration: Duration) {
        let mut stopped = self.stopped.subscribe();
        let _ = tokio::time::timeout(duration, stopped.wait_for(|stopped| *stopped)).await;
    }

    fn hook(&self, name: &str) -> Hook {
        self.receiver.sibling(&format!("fan-out-{name}"))
    }

    /// Creates endpoints and returns their ids.
    async fn create_endpoints(
        &self,
        account: &Account,
        name: &str,
        count: usize,
        types: impl Fn(usize) -> Vec<&'static str>,
    ) -> Result<Vec<String>> {
        let new = |n| {
            let hook = self.hook(&format!("{name}-{n}"));
            (NewEndpoint::at(&hook.url()).of_types(&types(n)), hook)
        };
        let creating = stream::iter((0..count).map(new)).map(async |(new, hook)| {
            let endpoint = account.create(&new).await?;
            Ok::<_, anyhow::Error>(Subscriber::new(&endpoint, &hook))
        });
        let subscribers: Vec<_> = creating.buffered(CALLS_AT_ONCE).try_collect().await?;
        let ids = subscribers.iter().map(|subscriber| subscriber.endpoint.clone()).collect();
        self.log().subscribers.extend(subscribers);
        Ok(ids)
    }
}

/// The outcome of a call to a node that may be down.
enum CallOutcome {
    /// A response with a 2xx status.
    Succeeded(Answer),
    /// The request was not sent, or was rejected.
    NoEffect,
    /// The call may or may not have taken effect.
    Unknown,
}

impl CallOutcome {
    fn of(answer: Result<Answer>) -> Result<Self> {
        match answer {
            Ok(answer) => match answer.status {
                200..=299 => Ok(Self::Succeeded(answer)),
                429 | 503 => Ok(Self::NoEffect),
                504 => Ok(Self::Unknown),
                _ => bail!("fan-out load: {answer}"),
            },
            Err(error) => match error.downcast_ref::<reqwest::Error>() {
                Some(error) if error.is_connect() => Ok(Self::NoEffect),
                _ => Ok(Self::Unknown),
            },
        }
    }
}

/// One of the load's concurrent workers.
struct Worker {
    shared: Arc<Shared>,
    rng: StdRng,
}

impl Worker {
    fn random_node(&mut self) -> Account {
        self.shared.nodes.choose(&mut self.rng).expect("there is a node").clone()
    }

    /// Publishes events for all endpoints and batches for many.
    async fn publish(mut self) -> Result<()> {
        for n in 0_usize.. {
            self.shared.sleep_unless_stopped(self.shared.config.publish_every).await;
            if self.shared.is_stopped() {
                break;
            }
            match n % BATCH_EVERY {
                0 => self.publish_once(BULK, &format!("bulk-{n}"), BATCH).await?,
                1 => self.publish_once(NEWS, &format!("news-{n}"), 1).await?,
                _ => self.publish_with_key(NEWS, &format!("news-{n}")).await?,
            }
        }
        Ok(())
    }

    /// Publishes without a key and without retries: without a response, the outcome is unknown.
    async fn publish_once(&mut self, event_type: &str, name: &str, count: usize) -> Result<()> {
        let payloads: Vec<_> = (0..count).map(|n| payload(&format!("{name}-{n}"))).collect();
        let mut publication = Publication::new(event_type, &payloads, None);
        let outcome = publication.ask(&self.random_node()).await?;
        ensure_retryable(&outcome)?;
        let mut log = self.shared.log();
        log.batches += usize::from(count > 1 && matches!(outcome, Outcome::Accepted(_)));
        log.publications.push(publication);
        Ok(())
    }

    /// Publishes with a key until the event is accepted.
    async fn publish_with_key(&mut self, event_type: &str, name: &str) -> Result<()> {
        let mut publication = Publication::new(event_type, &[payload(name)], Some(name));
        self.publish_until_accepted(&mut publication).await?;
        self.shared.log().publications.push(publication);
        Ok(())
    }

    async fn publish_until_accepted(&mut self, publication: &mut Publication) -> Result<()> {
        let deadline = Instant::now() + ANSWERED_WITHIN;
        loop {
            let outcome = publication.ask(&self.random_node()).await?;
            ensure_retryable(&outcome)?;
            if matches!(outcome, Outcome::Accepted(_)) {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "no node accepts {:?}", publication.idempotency_key);
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    /// Switches endpoints between `*` and the names of all types that are published.
    async fn change_subscriptions(mut self, resubscribing: Vec<String>) -> Result<()> {
        while !self.shared.is_stopped() {
            self.shared.sleep_unless_stopped(RESUBSCRIBE_EVERY).await;
            let endpoint = resubscribing.choose(&mut self.rng).expect("there is an endpoint");
            let types: &[&str] =
                if self.rng.random_bool(0.5) { &["*"] } else { &[NEWS, BULK, KEYED] };
            self.subscribe(endpoint, types).await?;
        }
        Ok(())
    }

    /// Changes an endpoint's event types; returns whether the change was acknowledged.
    async fn subscribe(&mut self, endpoint: &str, types: &[&str]) -> Result<bool> {
        let account = self.random_node();
        let path = account.path(&format!("/endpoints/{endpoint}"));
        let index = self.record_intent(endpoint, types);
        let outcome =
            CallOutcome::of(account.api.patch(&path, &json!({"event_types": types})).await)?;
        self.record_outcome(endpoint, index, &outcome);
        Ok(matches!(outcome, CallOutcome::Succeeded(_)))
    }

    /// Records a subscription before it is requested, and returns its index.
    fn record_intent(&self, endpoint: &str, types: &[&str]) -> usize {
        let event_types = types.iter().map(|&name| name.to_owned()).collect();
        let new = Subscription { sent_at: Timestamp::now(), answered: None, event_types };
        let mut log = self.shared.log();
        let subscriptions = &mut log.subscriber(endpoint).subscriptions;
        subscriptions.push(new);
        subscriptions.len() - 1
    }

    /// Records the outcome of a requested subscription.
    fn record_outcome(&self, endpoint: &str, index: usize, outcome: &CallOutcome) {
        let mut log = self.shared.log();
        let subscriptions = &mut log.subscriber(endpoint).subscriptions;
        match outcome {
            CallOutcome::Succeeded(_) => subscriptions[index].answered = Some(Timestamp::now()),
            CallOutcome::NoEffect => drop(subscriptions.remove(index)),
            CallOutcome::Unknown => {}
        }
    }

    /// Creates endpoints, disables and enables them, and deletes them.
    async fn create_and_delete(mut self) -> Result<()> {
        let mut transient: Vec<String> = Vec::new();
        let mut disabled: HashMap<String, Timestamp> = HashMap::new();
        for n in 0_usize.. {
            self.shared.sleep_unless_stopped(TRANSIENT_CHANGE_EVERY).await;
            if self.shared.is_stopped() {
                break;
            }
            let (endpoint, is_disabled) = match transient.choose(&mut self.rng) {
                Some(endpoint) => (endpoint.clone(), disabled.contains_key(endpoint)),
                None => (String::new(), false),
            };
            match n % 4 {
                0 | 2 if transient.len() < MAX_TRANSIENT => transient.extend(self.create(n).await?),
                0 | 2 => {
                    let oldest = transient.remove(0);
                    disabled.remove(&oldest);
                    self.delete(&oldest).await?;
                }
                _ if endpoint.is_empty() => {}
                _ if is_disabled => {
                    let acknowledged =
                        disabled.remove(&endpoint).context("the endpoint is disabled")?;
                    let enabled = Some(Timestamp::now());
                    let held = if self.rng.random_bool(0.5) { "resume" } else { "discard" };
                    let pause = ManualDisable { endpoint: endpoint.clone(), acknowledged, enabled };
                    self.shared.log().manual_disables.push(pause);
                    self.command(&endpoint, "enable", &json!({"held": held})).await?;
                }
                _ => {
                    self.command(&endpoint, "disable", &json!({})).await?;
                    disabled.insert(endpoint, Timestamp::now());
                }
            }
        }
        let disabled = disabled.into_iter();
        let manual_disables = disabled.map(|(endpoint, acknowledged)| ManualDisable {
            endpoint,
            acknowledged,
            enabled: None,
        });
        self.shared.log().manual_disables.extend(manual_disables);
        Ok(())
    }

    async fn create(&mut self, n: usize) -> Result<Option<String>> {
        let name = format!("transient-{n}");
        let hook = self.shared.hook(&name);
        let types: &[&str] = if n % 8 < 4 { &["*"] } else { &[NEWS] };
        let account = self.random_node();
        let new = NewEndpoint::at(&hook.url()).named(&name).of_types(types);
        let event_types = types.iter().map(|&name| name.to_owned()).collect();
        let mut created = Subscription { sent_at: Timestamp::now(), answered: None, event_types };
        let outcome =
            CallOutcome::of(account.api.post(&account.path("/endpoints"), &new.body()).await)?;
        match outcome {
            CallOutcome::Succeeded(answer) => {
                created.answered = Some(Timestamp::now());
                let endpoint: Endpoint = answer.parse(201)?;
                let mut subscriber = Subscriber::new(&endpoint, &hook);
                subscriber.subscriptions = vec![created];
                self.shared.log().subscribers.push(subscriber);
                Ok(Some(endpoint.id))
            }
            CallOutcome::Unknown => {
                self.shared.log().unconfirmed.insert(name, (hook, created));
                Ok(None)
            }
            CallOutcome::NoEffect => Ok(None),
        }
    }

    async fn delete(&mut self, endpoint: &str) -> Result<()> {
        let index = self.record_intent(endpoint, &[]);
        let deadline = Instant::now() + ANSWERED_WITHIN;
        let mut may_be_done = false;
        loop {
            let account = self.random_node();
            let answer = account.api.delete(&account.path(&format!("/endpoints/{endpoint}"))).await;
            let gone = answer.as_ref().is_ok_and(|answer| answer.status == 404);
            let outcome = if gone && may_be_done { None } else { Some(CallOutcome::of(answer)?) };
            if matches!(outcome, None | Some(CallOutcome::Succeeded(_))) {
                let answered = Some(Timestamp::now());
                self.shared.log().subscriber(endpoint).subscriptions[index].answered = answered;
                return Ok(());
            }
            may_be_done |= matches!(outcome, Some(CallOutcome::Unknown));
            ensure!(Instant::now() < deadline, "no node could delete {endpoint}");
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    /// Tries one node after another until the command succeeds.
    async fn command(&mut self, endpoint: &str, command: &str, body: &Value) -> Result<()> {
        let deadline = Instant::now() + ANSWERED_WITHIN;
        loop {
            let account = self.random_node();
            let path = account.path(&format!("/endpoints/{endpoint}/{command}"));
            if let CallOutcome::Succeeded(_) = CallOutcome::of(account.api.post(&path, body).await)?
            {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "no node could {command} {endpoint}");
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    /// Unsubscribes each endpoint in turn and then replays its past deliveries. The first endpoint
    /// is replayed even if the load is stopped before.
    async fn replay(mut self, replayed: Vec<String>) -> Result<()> {
        for (n, endpoint) in replayed.into_iter().enumerate() {
            while self.shared.log().batches < BATCHES_TO_REPLAY + n {
                if self.shared.is_stopped() {
                    return Ok(());
                }
                self.shared.sleep_unless_stopped(POLL_EVERY).await;
            }
            if n > 0 && self.shared.is_stopped() {
                return Ok(());
            }
            let deadline = Instant::now() + ANSWERED_WITHIN;
            while !self.subscribe(&endpoint, &[]).await? {
                ensure!(Instant::now() < deadline, "no node could change {endpoint}");
                tokio::time::sleep(RETRY_PAUSE).await;
            }
            self.wait_until_idle(&endpoint).await?;
            let run = self.replay_one(&endpoint).await?;
            self.shared.log().replays.push(run);
        }
        Ok(())
    }

    /// Waits until an endpoint has nothing pending and every clock is past its last delivery: a
    /// replay selects earlier deliveries by their ids, which contain the time.
    async fn wait_until_idle(&mut self, endpoint: &str) -> Result<()> {
        let deadline = Instant::now() + ANSWERED_WITHIN;
        loop {
            let read = self.random_node().endpoint(endpoint).await;
            if read.is_ok_and(|endpoint| endpoint.pending == 0) {
                break;
            }
            ensure!(Instant::now() < deadline, "{endpoint} still has pending deliveries");
            tokio::time::sleep(RETRY_PAUSE).await;
        }
        tokio::time::sleep(self.shared.config.clocks_apart + millis(500)).await;
        Ok(())
    }

    async fn replay_one(&mut self, endpoint: &str) -> Result<ReplayRun> {
        let past: Vec<Delivery> =
            self.list_with_retries(&format!("/endpoints/{endpoint}/deliveries?")).await?;
        let past = past.into_iter().filter(|past| past.state == "delivered");
        let past: Vec<String> = past.map(|past| past.id).collect();
        let wanted = json!({"endpoint": endpoint, "rate": REPLAY_RATE});
        let deadline = Instant::now() + ANSWERED_WITHIN;
        let outcome = loop {
            let account = match self.shared.config.replay_at {
                Some(node) => self.shared.nodes[node].clone(),
                None => self.random_node(),
            };
            match CallOutcome::of(account.api.post(&account.path("/replays"), &wanted).await)? {
                CallOutcome::NoEffect => {}
                outcome => break outcome,
            }
            ensure!(Instant::now() < deadline, "no node creates a replay of {endpoint}");
            tokio::time::sleep(RETRY_PAUSE).await;
        };
        let id = match outcome {
            CallOutcome::Succeeded(answer) => Some(answer.parse::<Replay>(202)?.id),
            CallOutcome::Unknown | CallOutcome::NoEffect => {
                let all: Vec<Replay> = self.list_with_retries("/replays?").await?;
                let of_it = |replay: &Replay| replay.endpoint.as_deref() == Some(endpoint);
                all.into_iter().find(of_it).map(|replay| replay.id)
            }
        };
        let mut run = ReplayRun { endpoint: endpoint.to_owned(), past, replay: None };
        if let Some(id) = id {
            run.replay = Some(self.wait_for_replay(&id).await?);
        }
        Ok(run)
    }

    /// Waits until a replay has completed, or until the time allowed after the last fault is up.
    async fn wait_for_replay(&mut self, id: &str) -> Result<Replay> {
        let mut stopped_since = None;
        loop {
            let read = self.random_node().replay_progress(id).await;
            if read.as_ref().is_ok_and(|replay| replay.state == "completed") {
                return read;
            }
            if self.shared.is_stopped() {
                let since: &Instant = stopped_since.get_or_insert_with(Instant::now);
                if since.elapsed() > REPLAYED_WITHIN {
                    return read;
                }
            }
            tokio::time::sleep(POLL_EVERY).await;
        }
    }

    /// Reads a list from one node after another until one responds.
    async fn list_with_retries<T: DeserializeOwned>(&mut self, path: &str) -> Result<Vec<T>> {
        let deadline = Instant::now() + ANSWERED_WITHIN;
        loop {
            match self.random_node().list(path).await {
                Ok(list) => return Ok(list),
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => tokio::time::sleep(RETRY_PAUSE).await,
            }
        }
    }

    /// Publishes with a key, sets a schema that the payload violates, and repeats the key at each
    /// node: a client that got no response the first time must still learn what was accepted.
    async fn repeat_keys_across_schema_changes(mut self) -> Result<()> {
        for n in 0_usize.. {
            self.shared.sleep_unless_stopped(SCHEMA_CHANGES_EVERY).await;
            if self.shared.is_stopped() {
                break;
            }
            let name = format!("keyed-{n}");
            let mut publication = Publication::new(KEYED, &[payload(&name)], Some(&name));
            self.put_schema(&json!({})).await?;
            let deadline = Instant::now() + ANSWERED_WITHIN;
            loop {
                match publication.ask(&self.random_node()).await? {
                    Outcome::Accepted(_) => break,
                    // A schema call of the previous round took effect late.
                    Outcome::Refused(422) => self.put_schema(&json!({})).await?,
                    Outcome::Refused(_) | Outcome::Unknown => {}
                }
                ensure!(Instant::now() < deadline, "no node accepts {name}");
                tokio::time::sleep(RETRY_PAUSE).await;
            }
            self.put_schema(&json!({"required": ["missing_field"]})).await?;
            for node in self.shared.nodes.clone() {
                publication.ask(&node).await?;
            }
            self.shared.log().publications.push(publication);
        }
        Ok(())
    }

    async fn put_schema(&mut self, schema: &Value) -> Result<()> {
        let example = json!({"missing_field": 1});
        let deadline = Instant::now() + ANSWERED_WITHIN;
        loop {
            let operator =
                self.shared.operators.choose(&mut self.rng).expect("there is a node").clone();
            if operator.event_type_with_schema(KEYED, &example, schema).await.is_ok() {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "no node accepts the schema");
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    /// Adds the endpoints that exist although their creation got no response.
    async fn adopt_unconfirmed(&mut self) -> Result<()> {
        let unconfirmed = std::mem::take(&mut self.shared.log().unconfirmed);
        let account = self.shared.nodes[0].clone();
        let endpoints: Vec<Endpoint> = account.list("/endpoints?").await?;
        for endpoint in endpoints {
            let Some((hook, subscription)) = unconfirmed.get(&endpoint.name) else { continue };
            let secrets: Value =
                account.read(&format!("/endpoints/{}/secret", endpoint.id)).await?;
            let mut subscriber = Subscriber::new(&endpoint, hook);
            subscriber.secret = secrets["signing_secret"].as_str().unwrap_or_default().to_owned();
            subscriber.subscriptions = vec![subscription.clone()];
            self.shared.log().subscribers.push(subscriber);
        }
        Ok(())
    }
}

impl Log {
    fn subscriber(&mut self, endpoint: &str) -> &mut Subscriber {
        let found = self.subscribers.iter_mut().find(|known| known.endpoint == endpoint);
        found.expect("the endpoint belongs to the fan-out load")
    }
}

/// A valid request may be rejected only temporarily.
fn ensure_retryable(outcome: &Outcome) -> Result<()> {
    match *outcome {
        Outcome::Refused(status) => {
            ensure!(load::is_temporary(status), "a valid event was rejected with {status}");
            Ok(())
        }
        Outcome::Accepted(_) | Outcome::Unknown => Ok(()),
    }
}

fn payload(name: &str) -> String {
    format!(r#"{{"name": "{name}"}}"#)
}
