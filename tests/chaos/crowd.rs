//! An account with more subscribers than one transaction reaches, and everything that can change
//! while events are fanned out to them.
//!
//! Most of them are disabled and cost nothing: what they receive is held. The others stand for what
//! can go wrong in a fan-out:
//! - *movers* change all the time between `*` and the names of the same types: they are subscribed
//!   throughout, and receive each event once;
//! - *guests* are created, disabled, enabled and deleted again;
//! - *repeaters* have their past deliveries replayed.
//!
//! Meanwhile events for all of them are published, batches that make more deliveries than one
//! transaction may, and events of a type whose schema changes between a call and its repetition.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use postrider_tests::checker::loss;
use postrider_tests::client::records::{Delivery, Endpoint, Replay};
use postrider_tests::client::{Account, Answer, NewEndpoint, Operator};
use postrider_tests::evidence::{Least, Pause, ReplayRun, StoreRecords, Subscriber, Subscription};
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

use crate::stage::{PATIENCE, Stage};

/// Whom the account's email goes to.
pub(crate) const CONTACT: &str = "crowd@example.com";
/// Every path of the crowd begins so.
const PATH: &str = "/crowd-";

/// What everybody is subscribed to: more than 500 endpoints, so that each event is fanned out.
const NEWS: &str = "crowd.news";
/// What comes in batches.
const BULK: &str = "crowd.bulk";
/// The type whose schema changes.
const KEYED: &str = "crowd.keyed";

/// Endpoints that are disabled from the start.
const SLEEPERS: usize = 520;
/// How many of them are subscribed to [`BULK`], too.
const BULK_SLEEPERS: usize = 90;
const MOVERS: usize = 8;
const REPEATERS: usize = 4;
/// Guests at a time.
const MOST_GUESTS: usize = 6;
/// Events of a batch. Times those who are subscribed, these are more deliveries than the 1,500 that
/// one transaction makes, so that the last events of each batch are fanned out.
const BATCH: usize = 16;
/// Every so many publications is a batch.
const BATCH_EVERY: usize = 3;
/// Batches before the first replay.
const BATCHES_TO_REPLAY: usize = 2;
/// New deliveries of a replay, a second.
const REPLAY_RATE: u64 = 20;
/// Events at the very end, when all faults are over.
const LAST_EVENTS: usize = 8;

/// How long a mover rests.
const MOVED_EVERY: Duration = millis(20);
const GUESTS_CHANGE_EVERY: Duration = millis(400);
const SCHEMA_CHANGES_EVERY: Duration = seconds(3);
/// How long it rests before it asks the next node.
const AWAY_PAUSE: Duration = millis(50);
/// How often it looks what has become of a replay.
const LOOK_EVERY: Duration = millis(500);
/// How often it reads all events to see whether they have reached everybody.
const READ_EVERY: Duration = seconds(3);
/// How long all nodes may refuse.
const ANSWERED_WITHIN: Duration = seconds(90);
/// How long a replay may take after the last fault.
const REPLAYED_WITHIN: Duration = seconds(60);
/// Calls side by side while the crowd gathers.
const CALLS_AT_ONCE: usize = 16;

/// How the crowd behaves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Habits {
    /// How long it rests between two publications.
    pub(crate) publish_every: Duration,
    /// How far the clocks of two nodes are apart.
    pub(crate) clocks_apart: Duration,
    /// The node that is asked for replays; any when it does not matter.
    pub(crate) replay_at: Option<usize>,
}

/// The account, while it is busy.
pub(crate) struct Crowd {
    shared: Arc<Shared>,
    tasks: JoinSet<Result<()>>,
    seed: u64,
}

/// What it has seen.
pub(crate) struct Seen {
    pub(crate) account: Account,
    pub(crate) publications: Vec<Publication>,
    pub(crate) subscribers: Vec<Subscriber>,
    pub(crate) pauses: Vec<Pause>,
    pub(crate) replays: Vec<ReplayRun>,
}

struct Shared {
    /// The account at each node.
    nodes: Vec<Account>,
    operators: Vec<Operator>,
    /// Where hooks are made.
    receiver: Hook,
    habits: Habits,
    log: Mutex<Log>,
    stopped: watch::Sender<bool>,
}

#[derive(Default)]
struct Log {
    publications: Vec<Publication>,
    batches: usize,
    subscribers: Vec<Subscriber>,
    /// Endpoints that were asked for without an answer, by name.
    lost: HashMap<String, (Hook, Subscription)>,
    pauses: Vec<Pause>,
    replays: Vec<ReplayRun>,
}

impl Crowd {
    /// Gathers, and becomes busy.
    pub(crate) async fn gather(stage: &Stage, seed: u64, habits: Habits) -> Result<Self> {
        for event_type in [NEWS, BULK, KEYED] {
            stage.operator.event_type(event_type, &json!({"n": 1})).await?;
        }
        let account = stage.operator.account("Crowd", &[CONTACT]).await?;
        let bases = stage.cluster.bases();
        let api = stage.operator.api.patient_for(PATIENCE);
        let shared = Arc::new(Shared {
            nodes: account.at_each(&bases, PATIENCE),
            operators: bases.iter().map(|base| Operator::new(api.at(base))).collect(),
            receiver: stage.receiver.hook(""),
            habits,
            log: Mutex::default(),
            stopped: watch::Sender::new(false),
        });
        let movers = shared.gather(&account, "mover", MOVERS, |_| vec!["*"]).await?;
        let repeaters = shared.gather(&account, "repeater", REPEATERS, |_| vec![BULK]).await?;
        let wanted = |n| if n < BULK_SLEEPERS { vec![NEWS, BULK] } else { vec![NEWS] };
        let sleepers = shared.gather(&account, "sleeper", SLEEPERS, wanted).await?;
        let asleep = stream::iter(sleepers).map(async |id| account.disable(&id).await);
        asleep.buffer_unordered(CALLS_AT_ONCE).try_collect::<()>().await?;

        let mut tasks = JoinSet::new();
        let busy = |n| Busy { shared: Arc::clone(&shared), rng: StdRng::seed_from_u64(seed ^ n) };
        tasks.spawn(busy(1).publish());
        tasks.spawn(busy(2).move_about(movers));
        tasks.spawn(busy(3).come_and_go());
        tasks.spawn(busy(4).replay(repeaters));
        tasks.spawn(busy(5).repeat_keys());
        Ok(Self { shared, tasks, seed })
    }

    /// Whether a request is to this crowd.
    pub(crate) fn is_at(path: &str) -> bool {
        path.starts_with(PATH)
    }

    /// Whether it has done this much, and has what the first replay needs.
    pub(crate) fn has_done(&self, least: &Least) -> bool {
        let log = self.shared.log();
        let changes: usize = log.subscribers.iter().map(Subscriber::changes).sum();
        load::accepted(&log.publications) >= least.events
            && changes >= least.changes
            && log.batches >= BATCHES_TO_REPLAY
    }

    /// Publishes some more, after the last fault, and comes to rest: what is late now has no excuse.
    pub(crate) async fn stop(mut self) -> Result<Seen> {
        self.shared.stopped.send_replace(true);
        let rng = StdRng::seed_from_u64(self.seed);
        let mut busy = Busy { shared: Arc::clone(&self.shared), rng };
        for n in 0..LAST_EVENTS {
            busy.publish_with_key(NEWS, &format!("last-{n}")).await?;
        }
        while let Some(task) = self.tasks.join_next().await {
            task.context("a task of the crowd")??;
        }
        busy.adopt().await?;
        let account = self.shared.nodes[0].clone();
        let Log { publications, subscribers, pauses, replays, .. } =
            std::mem::take(&mut *self.shared.log());
        Ok(Seen { account, publications, subscribers, pauses, replays })
    }
}

impl Seen {
    /// Waits until nothing is pending and every event has reached everybody that it must reach. Says
    /// so when that does not come: the checker tells what is missing.
    pub(crate) async fn settle(&self, within: Duration) -> Result<()> {
        let deadline = Instant::now() + within;
        loop {
            let records = StoreRecords::outline(&self.account).await?;
            let pending: u64 = records.endpoints.iter().map(|endpoint| endpoint.pending).sum();
            let reached = loss::all_are_reached(&self.publications, &self.subscribers, &records);
            if pending == 0 && reached {
                return Ok(());
            }
            if Instant::now() > deadline {
                eprintln!(
                    "the crowd is not settled: {pending} pending, all are reached: {reached}"
                );
                return Ok(());
            }
            tokio::time::sleep(READ_EVERY).await;
        }
    }
}

impl Shared {
    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_stopped(&self) -> bool {
        *self.stopped.borrow()
    }

    /// Rests, but not beyond the end.
    async fn rest(&self, duration: Duration) {
        let mut stopped = self.stopped.subscribe();
        let _ = tokio::time::timeout(duration, stopped.wait_for(|stopped| *stopped)).await;
    }

    fn hook(&self, name: &str) -> Hook {
        self.receiver.beside(&format!("crowd-{name}"))
    }

    /// Creates endpoints, and gives their ids.
    async fn gather(
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

/// What a call to a node that may be away came to.
enum Came {
    /// An answer of success.
    To(Answer),
    /// Nothing: it was not sent, or refused.
    Nothing,
    /// Nobody knows.
    Unknown,
}

impl Came {
    fn of(answer: Result<Answer>) -> Result<Self> {
        match answer {
            Ok(answer) => match answer.status {
                200..=299 => Ok(Self::To(answer)),
                429 | 503 => Ok(Self::Nothing),
                504 => Ok(Self::Unknown),
                _ => bail!("the crowd: {answer}"),
            },
            Err(error) => match error.downcast_ref::<reqwest::Error>() {
                Some(error) if error.is_connect() => Ok(Self::Nothing),
                _ => Ok(Self::Unknown),
            },
        }
    }
}

/// One of those who are busy.
struct Busy {
    shared: Arc<Shared>,
    rng: StdRng,
}

impl Busy {
    fn at_some_node(&mut self) -> Account {
        self.shared.nodes.choose(&mut self.rng).expect("a node").clone()
    }

    /// Events for all, and batches for many.
    async fn publish(mut self) -> Result<()> {
        for n in 0_usize.. {
            self.shared.rest(self.shared.habits.publish_every).await;
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

    /// Asks once: when no answer comes, nobody knows what became of it.
    async fn publish_once(&mut self, event_type: &str, name: &str, count: usize) -> Result<()> {
        let payloads: Vec<_> = (0..count).map(|n| payload(&format!("{name}-{n}"))).collect();
        let mut publication = Publication::new(event_type, &payloads, None);
        let outcome = publication.ask(&self.at_some_node()).await?;
        is_in_order(&outcome)?;
        let mut log = self.shared.log();
        log.batches += usize::from(count > 1 && matches!(outcome, Outcome::Accepted(_)));
        log.publications.push(publication);
        Ok(())
    }

    /// Asks until it is accepted.
    async fn publish_with_key(&mut self, event_type: &str, name: &str) -> Result<()> {
        let mut publication = Publication::new(event_type, &[payload(name)], Some(name));
        self.until_accepted(&mut publication).await?;
        self.shared.log().publications.push(publication);
        Ok(())
    }

    async fn until_accepted(&mut self, publication: &mut Publication) -> Result<()> {
        let deadline = Instant::now() + ANSWERED_WITHIN;
        loop {
            let outcome = publication.ask(&self.at_some_node()).await?;
            is_in_order(&outcome)?;
            if matches!(outcome, Outcome::Accepted(_)) {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "nobody accepts {:?}", publication.idempotency_key);
            tokio::time::sleep(AWAY_PAUSE).await;
        }
    }

    /// Changes between `*` and the names of all types that matter.
    async fn move_about(mut self, movers: Vec<String>) -> Result<()> {
        while !self.shared.is_stopped() {
            self.shared.rest(MOVED_EVERY).await;
            let mover = movers.choose(&mut self.rng).expect("a mover");
            let types: &[&str] =
                if self.rng.random_bool(0.5) { &["*"] } else { &[NEWS, BULK, KEYED] };
            self.subscribe(mover, types).await?;
        }
        Ok(())
    }

    /// Changes the types of an endpoint, and tells whether that is certain.
    async fn subscribe(&mut self, endpoint: &str, types: &[&str]) -> Result<bool> {
        let account = self.at_some_node();
        let path = account.path(&format!("/endpoints/{endpoint}"));
        let asked = self.announce(endpoint, types);
        let came = Came::of(account.api.patch(&path, &json!({"event_types": types})).await)?;
        self.came(endpoint, asked, &came);
        Ok(matches!(came, Came::To(_)))
    }

    /// Notes what an endpoint is going to be subscribed to.
    fn announce(&self, endpoint: &str, types: &[&str]) -> usize {
        let event_types = types.iter().map(|&name| name.to_owned()).collect();
        let new = Subscription { asked: Timestamp::now(), answered: None, event_types };
        let mut log = self.shared.log();
        let subscriptions = &mut log.subscriber(endpoint).subscriptions;
        subscriptions.push(new);
        subscriptions.len() - 1
    }

    /// Notes whether it is.
    fn came(&self, endpoint: &str, asked: usize, came: &Came) {
        let mut log = self.shared.log();
        let subscriptions = &mut log.subscriber(endpoint).subscriptions;
        match came {
            Came::To(_) => subscriptions[asked].answered = Some(Timestamp::now()),
            Came::Nothing => drop(subscriptions.remove(asked)),
            Came::Unknown => {}
        }
    }

    /// Creates endpoints, disables and enables them, and deletes them.
    async fn come_and_go(mut self) -> Result<()> {
        let mut guests: Vec<String> = Vec::new();
        let mut asleep: HashMap<String, Timestamp> = HashMap::new();
        for n in 0_usize.. {
            self.shared.rest(GUESTS_CHANGE_EVERY).await;
            if self.shared.is_stopped() {
                break;
            }
            let (guest, sleeps) = match guests.choose(&mut self.rng) {
                Some(guest) => (guest.clone(), asleep.contains_key(guest)),
                None => (String::new(), false),
            };
            match n % 4 {
                0 | 2 if guests.len() < MOST_GUESTS => guests.extend(self.create(n).await?),
                0 | 2 => {
                    let oldest = guests.remove(0);
                    asleep.remove(&oldest);
                    self.delete(&oldest).await?;
                }
                _ if guest.is_empty() => {}
                _ if sleeps => {
                    let acknowledged = asleep.remove(&guest).context("it is asleep")?;
                    let enabled = Some(Timestamp::now());
                    let held = if self.rng.random_bool(0.5) { "resume" } else { "discard" };
                    let pause = Pause { endpoint: guest.clone(), acknowledged, enabled };
                    self.shared.log().pauses.push(pause);
                    self.command(&guest, "enable", &json!({"held": held})).await?;
                }
                _ => {
                    self.command(&guest, "disable", &json!({})).await?;
                    asleep.insert(guest, Timestamp::now());
                }
            }
        }
        let asleep = asleep.into_iter();
        let pauses =
            asleep.map(|(endpoint, acknowledged)| Pause { endpoint, acknowledged, enabled: None });
        self.shared.log().pauses.extend(pauses);
        Ok(())
    }

    async fn create(&mut self, n: usize) -> Result<Option<String>> {
        let name = format!("guest-{n}");
        let hook = self.shared.hook(&name);
        let types: &[&str] = if n % 8 < 4 { &["*"] } else { &[NEWS] };
        let account = self.at_some_node();
        let new = NewEndpoint::at(&hook.url()).named(&name).of_types(types);
        let event_types = types.iter().map(|&name| name.to_owned()).collect();
        let mut created = Subscription { asked: Timestamp::now(), answered: None, event_types };
        let came = Came::of(account.api.post(&account.path("/endpoints"), &new.body()).await)?;
        match came {
            Came::To(answer) => {
                created.answered = Some(Timestamp::now());
                let endpoint: Endpoint = answer.parse(201)?;
                let mut subscriber = Subscriber::new(&endpoint, &hook);
                subscriber.subscriptions = vec![created];
                self.shared.log().subscribers.push(subscriber);
                Ok(Some(endpoint.id))
            }
            Came::Unknown => {
                self.shared.log().lost.insert(name, (hook, created));
                Ok(None)
            }
            Came::Nothing => Ok(None),
        }
    }

    async fn delete(&mut self, guest: &str) -> Result<()> {
        let asked = self.announce(guest, &[]);
        let deadline = Instant::now() + ANSWERED_WITHIN;
        let mut may_be_done = false;
        loop {
            let account = self.at_some_node();
            let answer = account.api.delete(&account.path(&format!("/endpoints/{guest}"))).await;
            let gone = answer.as_ref().is_ok_and(|answer| answer.status == 404);
            let came = if gone && may_be_done { None } else { Some(Came::of(answer)?) };
            if matches!(came, None | Some(Came::To(_))) {
                let answered = Some(Timestamp::now());
                self.shared.log().subscriber(guest).subscriptions[asked].answered = answered;
                return Ok(());
            }
            may_be_done |= matches!(came, Some(Came::Unknown));
            ensure!(Instant::now() < deadline, "nobody could delete {guest}");
            tokio::time::sleep(AWAY_PAUSE).await;
        }
    }

    /// Asks one node after another until it is done.
    async fn command(&mut self, endpoint: &str, command: &str, body: &Value) -> Result<()> {
        let deadline = Instant::now() + ANSWERED_WITHIN;
        loop {
            let account = self.at_some_node();
            let path = account.path(&format!("/endpoints/{endpoint}/{command}"));
            if let Came::To(_) = Came::of(account.api.post(&path, body).await)? {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "nobody could {command} {endpoint}");
            tokio::time::sleep(AWAY_PAUSE).await;
        }
    }

    /// Replays what each repeater has received, when nothing more comes to it. The first is replayed
    /// whenever the crowd stops.
    async fn replay(mut self, repeaters: Vec<String>) -> Result<()> {
        for (n, repeater) in repeaters.into_iter().enumerate() {
            while self.shared.log().batches < BATCHES_TO_REPLAY + n {
                if self.shared.is_stopped() {
                    return Ok(());
                }
                self.shared.rest(LOOK_EVERY).await;
            }
            if n > 0 && self.shared.is_stopped() {
                return Ok(());
            }
            let deadline = Instant::now() + ANSWERED_WITHIN;
            while !self.subscribe(&repeater, &[]).await? {
                ensure!(Instant::now() < deadline, "nobody could change {repeater}");
                tokio::time::sleep(AWAY_PAUSE).await;
            }
            self.until_quiet(&repeater).await?;
            let run = self.replay_one(&repeater).await?;
            self.shared.log().replays.push(run);
        }
        Ok(())
    }

    /// Waits until an endpoint has nothing pending, and until every clock has gone by what it
    /// received: a replay takes what was made before it by their ids, which have the time in them.
    async fn until_quiet(&mut self, endpoint: &str) -> Result<()> {
        let deadline = Instant::now() + ANSWERED_WITHIN;
        loop {
            let read = self.at_some_node().endpoint(endpoint).await;
            if read.is_ok_and(|endpoint| endpoint.pending == 0) {
                break;
            }
            ensure!(Instant::now() < deadline, "{endpoint} does not come to rest");
            tokio::time::sleep(AWAY_PAUSE).await;
        }
        tokio::time::sleep(self.shared.habits.clocks_apart + millis(500)).await;
        Ok(())
    }

    async fn replay_one(&mut self, repeater: &str) -> Result<ReplayRun> {
        let past: Vec<Delivery> =
            self.until_listed(&format!("/endpoints/{repeater}/deliveries?")).await?;
        let past = past.into_iter().filter(|past| past.state == "delivered");
        let past: Vec<String> = past.map(|past| past.id).collect();
        let wanted = json!({"endpoint": repeater, "rate": REPLAY_RATE});
        let deadline = Instant::now() + ANSWERED_WITHIN;
        let asked = loop {
            let maker = match self.shared.habits.replay_at {
                Some(node) => self.shared.nodes[node].clone(),
                None => self.at_some_node(),
            };
            match Came::of(maker.api.post(&maker.path("/replays"), &wanted).await)? {
                Came::Nothing => {}
                came => break came,
            }
            ensure!(Instant::now() < deadline, "nobody makes a replay of {repeater}");
            tokio::time::sleep(AWAY_PAUSE).await;
        };
        let id = match asked {
            Came::To(answer) => Some(answer.parse::<Replay>(202)?.id),
            Came::Unknown | Came::Nothing => {
                let all: Vec<Replay> = self.until_listed("/replays?").await?;
                let of_it = |replay: &Replay| replay.endpoint.as_deref() == Some(repeater);
                all.into_iter().find(of_it).map(|replay| replay.id)
            }
        };
        let mut run = ReplayRun { endpoint: repeater.to_owned(), past, replay: None };
        if let Some(id) = id {
            run.replay = Some(self.until_completed(&id).await?);
        }
        Ok(run)
    }

    /// Waits until a replay has ended, or has had its time since the last fault.
    async fn until_completed(&mut self, id: &str) -> Result<Replay> {
        let mut calm_since = None;
        loop {
            let read = self.at_some_node().replay_progress(id).await;
            if read.as_ref().is_ok_and(|replay| replay.state == "completed") {
                return read;
            }
            if self.shared.is_stopped() {
                let since: &Instant = calm_since.get_or_insert_with(Instant::now);
                if since.elapsed() > REPLAYED_WITHIN {
                    return read;
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Reads a list at one node after another until one answers.
    async fn until_listed<T: DeserializeOwned>(&mut self, path: &str) -> Result<Vec<T>> {
        let deadline = Instant::now() + ANSWERED_WITHIN;
        loop {
            match self.at_some_node().list(path).await {
                Ok(list) => return Ok(list),
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => tokio::time::sleep(AWAY_PAUSE).await,
            }
        }
    }

    /// Publishes with a key, has a schema put that the payload violates, and repeats the key at each
    /// node: whoever had no answer the first time must be told what was accepted.
    async fn repeat_keys(mut self) -> Result<()> {
        for n in 0_usize.. {
            self.shared.rest(SCHEMA_CHANGES_EVERY).await;
            if self.shared.is_stopped() {
                break;
            }
            let name = format!("keyed-{n}");
            let mut publication = Publication::new(KEYED, &[payload(&name)], Some(&name));
            self.put_schema(&json!({})).await?;
            let deadline = Instant::now() + ANSWERED_WITHIN;
            loop {
                match publication.ask(&self.at_some_node()).await? {
                    Outcome::Accepted(_) => break,
                    // A call of the last round took effect late.
                    Outcome::Refused(422) => self.put_schema(&json!({})).await?,
                    Outcome::Refused(_) | Outcome::Unknown => {}
                }
                ensure!(Instant::now() < deadline, "nobody accepts {name}");
                tokio::time::sleep(AWAY_PAUSE).await;
            }
            self.put_schema(&json!({"required": ["what no payload has"]})).await?;
            for node in self.shared.nodes.clone() {
                publication.ask(&node).await?;
            }
            self.shared.log().publications.push(publication);
        }
        Ok(())
    }

    async fn put_schema(&mut self, schema: &Value) -> Result<()> {
        let example = json!({"what no payload has": 1});
        let deadline = Instant::now() + ANSWERED_WITHIN;
        loop {
            let operator = self.shared.operators.choose(&mut self.rng).expect("a node").clone();
            if operator.event_type_with_schema(KEYED, &example, schema).await.is_ok() {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "nobody takes a schema");
            tokio::time::sleep(AWAY_PAUSE).await;
        }
    }

    /// Finds out which endpoints exist that were asked for without an answer.
    async fn adopt(&mut self) -> Result<()> {
        let lost = std::mem::take(&mut self.shared.log().lost);
        let account = self.shared.nodes[0].clone();
        let endpoints: Vec<Endpoint> = account.list("/endpoints?").await?;
        for endpoint in endpoints {
            let Some((hook, asked)) = lost.get(&endpoint.name) else { continue };
            let secrets: Value =
                account.read(&format!("/endpoints/{}/secret", endpoint.id)).await?;
            let mut subscriber = Subscriber::new(&endpoint, hook);
            subscriber.secret = secrets["signing_secret"].as_str().unwrap_or_default().to_owned();
            subscriber.subscriptions = vec![asked.clone()];
            self.shared.log().subscribers.push(subscriber);
        }
        Ok(())
    }
}

impl Log {
    fn subscriber(&mut self, endpoint: &str) -> &mut Subscriber {
        let found = self.subscribers.iter_mut().find(|known| known.endpoint == endpoint);
        found.expect("an endpoint of the crowd")
    }
}

/// Refusals of a request that is in order are for now alone.
fn is_in_order(outcome: &Outcome) -> Result<()> {
    match *outcome {
        Outcome::Refused(status) => {
            ensure!(load::is_for_now(status), "an event of the crowd was refused: {status}");
            Ok(())
        }
        Outcome::Accepted(_) | Outcome::Unknown => Ok(()),
    }
}

fn payload(name: &str) -> String {
    format!(r#"{{"crowd": "{name}"}}"#)
}
