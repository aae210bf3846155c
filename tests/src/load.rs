//! A client under way while nodes die: it publishes without pause, and logs what it asks
//! before it asks, and what it was answered.
//!
//! Three kinds of publications, mixed by a seed:
//! - with an idempotency key, asked again until an answer comes (and some once more after it);
//! - without a key, asked once: when no answer comes, nobody knows what became of it;
//! - batches, asked once: all of it or nothing must have happened.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::client::{Account, Answer};

/// How many publish side by side.
const WORKERS: u64 = 4;
/// How long a worker rests between two publications, unless said otherwise; bounds what must be
/// checked later.
const PAUSE: Duration = Duration::from_millis(30);
/// How long it rests when no node answers.
const AWAY_PAUSE: Duration = Duration::from_millis(20);
/// How long the last answers may take once the load is stopped.
const ANSWERED_WITHIN: Duration = Duration::from_secs(30);
/// Events in a batch.
const BATCH: usize = 5;

/// Events that were asked to be published together.
#[derive(Clone, Debug)]
pub struct Publication {
    /// Their type.
    pub event_type: String,
    /// Their payloads; no two of a load are the same.
    pub payloads: Vec<String>,
    /// The key, if it has one.
    pub idempotency_key: Option<String>,
    /// Every call, in order.
    pub calls: Vec<Call>,
}

/// One call and its answer.
#[derive(Clone, Debug)]
pub struct Call {
    /// When it was asked.
    pub asked: Timestamp,
    /// When it was answered.
    pub answered: Option<Timestamp>,
    /// How.
    pub outcome: Outcome,
}

/// What is known after a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Accepted, with one receipt for each event.
    Accepted(Vec<Receipt>),
    /// Refused with this status: nothing happened.
    Refused(u16),
    /// No answer came, or has come yet.
    Unknown,
}

/// What the publisher of an event is told.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Receipt {
    /// The event's id.
    pub id: String,
    /// How many endpoints receive it.
    pub deliveries: u64,
}

/// The load, while it runs.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    workers: JoinSet<Result<()>>,
}

#[derive(Debug)]
struct Shared {
    /// At each node.
    accounts: Vec<Account>,
    pause: Duration,
    event_type: String,
    log: Mutex<Vec<Publication>>,
    stopped: AtomicBool,
}

impl Load {
    /// Starts to publish events of `event_type`; `seed` decides which kind follows which.
    #[must_use]
    pub fn start(account: Account, event_type: &str, seed: u64) -> Self {
        Self::over(vec![account], event_type, seed, PAUSE)
    }

    /// The same over several nodes. Each worker stays with a node until that does not accept,
    /// and goes on to the next, with the same idempotency key.
    #[must_use]
    pub fn over(accounts: Vec<Account>, event_type: &str, seed: u64, pause: Duration) -> Self {
        let shared = Arc::new(Shared {
            accounts,
            pause,
            event_type: event_type.to_owned(),
            log: Mutex::default(),
            stopped: AtomicBool::new(false),
        });
        let mut workers = JoinSet::new();
        for worker in 0..WORKERS {
            let rng = StdRng::seed_from_u64(seed.wrapping_add(worker));
            let at = usize::try_from(worker).unwrap_or_default();
            let worker = Worker { shared: Arc::clone(&shared), number: worker, at };
            workers.spawn(worker.work(rng));
        }
        Self { shared, workers }
    }

    /// How many events were accepted so far.
    #[must_use]
    pub fn accepted(&self) -> usize {
        accepted(&self.shared.log())
    }

    /// Publishes nothing new, waits for the answers that are still to come, and gives the log.
    pub async fn stop(mut self) -> Result<Vec<Publication>> {
        self.shared.stopped.store(true, Ordering::Relaxed);
        while let Some(worker) = self.workers.join_next().await {
            worker.context("a worker of the load")??;
        }
        Ok(self.shared.log().clone())
    }
}

/// One of those who publish.
struct Worker {
    shared: Arc<Shared>,
    number: u64,
    /// Counts the nodes that it has gone on to.
    at: usize,
}

impl Worker {
    async fn work(mut self, mut rng: StdRng) -> Result<()> {
        for round in 0_u64.. {
            if self.shared.stopped.load(Ordering::Relaxed) {
                break;
            }
            let name = format!("{}-{round}", self.number);
            match rng.random_range(0..8) {
                0 => self.batch(&name).await?,
                1 | 2 => self.single(&name, None).await.map(|_| ())?,
                _ => self.until_answered(&name, rng.random_ratio(1, 10)).await?,
            }
            tokio::time::sleep(self.shared.pause).await;
        }
        Ok(())
    }

    async fn batch(&mut self, name: &str) -> Result<()> {
        let payloads: Vec<_> = (0..BATCH).map(|n| payload(&format!("{name}-{n}"))).collect();
        let index = self.shared.announce(&payloads, None);
        let events: Vec<_> =
            payloads.iter().map(|text| (self.shared.event_type.as_str(), text.as_str())).collect();
        let asked = self.shared.ask(index);
        let outcome = known(self.account().try_publish_batch(&events).await)?;
        self.learn(&outcome);
        self.shared.answered(index, asked, outcome);
        Ok(())
    }

    async fn single(&mut self, name: &str, key: Option<&str>) -> Result<(usize, Outcome)> {
        let payloads = [payload(name)];
        let index = self.shared.announce(&payloads, key);
        let outcome = self.call(index, &payloads[0], key).await?;
        Ok((index, outcome))
    }

    async fn until_answered(&mut self, name: &str, once_more: bool) -> Result<()> {
        let key = format!("key-{name}");
        let (index, mut outcome) = self.single(name, Some(&key)).await?;
        let mut stopped_at = None;
        while !matches!(outcome, Outcome::Accepted(_)) {
            if self.shared.stopped.load(Ordering::Relaxed) {
                let since: &Instant = stopped_at.get_or_insert_with(Instant::now);
                if since.elapsed() > ANSWERED_WITHIN {
                    bail!("no answer to {key} within {ANSWERED_WITHIN:?} of calm: {outcome:?}");
                }
            }
            tokio::time::sleep(AWAY_PAUSE).await;
            outcome = self.call(index, &payload(name), Some(&key)).await?;
        }
        if once_more {
            self.call(index, &payload(name), Some(&key)).await?;
        }
        Ok(())
    }

    async fn call(&mut self, index: usize, payload: &str, key: Option<&str>) -> Result<Outcome> {
        let asked = self.shared.ask(index);
        let answer = self.account().try_publish(&self.shared.event_type, payload, key).await;
        let outcome = known(answer)?;
        self.learn(&outcome);
        self.shared.answered(index, asked, outcome.clone());
        Ok(outcome)
    }

    /// At the node that it talks to now.
    fn account(&self) -> &Account {
        &self.shared.accounts[self.at % self.shared.accounts.len()]
    }

    /// Goes on to the next node after anything but success.
    fn learn(&mut self, outcome: &Outcome) {
        if !matches!(outcome, Outcome::Accepted(_)) {
            self.at += 1;
        }
    }
}

impl Shared {
    fn announce(&self, payloads: &[String], key: Option<&str>) -> usize {
        let mut log = self.log();
        log.push(Publication::new(&self.event_type, payloads, key));
        log.len() - 1
    }

    fn ask(&self, index: usize) -> usize {
        let calls = &mut self.log()[index].calls;
        let asked = Timestamp::now();
        calls.push(Call { asked, answered: None, outcome: Outcome::Unknown });
        calls.len() - 1
    }

    fn answered(&self, index: usize, call: usize, outcome: Outcome) {
        let call = &mut self.log()[index].calls[call];
        call.answered = (outcome != Outcome::Unknown).then(Timestamp::now);
        call.outcome = outcome;
    }

    fn log(&self) -> MutexGuard<'_, Vec<Publication>> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Publication {
    /// One event, published and accepted beside the load.
    pub async fn publish(account: &Account, event_type: &str, payload: &str) -> Result<Self> {
        let asked = Timestamp::now();
        let answer = account.try_publish(event_type, payload, None).await?;
        answer.expect(202)?;
        Self::answered(event_type, payload, asked, &answer)
    }

    /// The same, answered so, whatever the answer is.
    pub fn answered(
        event_type: &str,
        payload: &str,
        asked: Timestamp,
        answer: &Answer,
    ) -> Result<Self> {
        let outcome = outcome(answer)?;
        Ok(Self {
            event_type: event_type.to_owned(),
            payloads: vec![payload.to_owned()],
            idempotency_key: None,
            calls: vec![Call { asked, answered: Some(Timestamp::now()), outcome }],
        })
    }

    /// Publications that nobody has asked for yet.
    #[must_use]
    pub fn new(event_type: &str, payloads: &[String], idempotency_key: Option<&str>) -> Self {
        Self {
            event_type: event_type.to_owned(),
            payloads: payloads.to_vec(),
            idempotency_key: idempotency_key.map(str::to_owned),
            calls: Vec::new(),
        }
    }

    /// Asks once, and notes the answer. Several payloads are a batch, which has no key here.
    ///
    /// # Errors
    /// When the answer is neither an acceptance nor an orderly refusal.
    pub async fn ask(&mut self, account: &Account) -> Result<Outcome> {
        let (event_type, key) = (self.event_type.as_str(), self.idempotency_key.as_deref());
        let asked = Timestamp::now();
        let answer = match &self.payloads[..] {
            [payload] => account.try_publish(event_type, payload, key).await,
            payloads => {
                let events: Vec<_> = payloads.iter().map(|text| (event_type, &text[..])).collect();
                account.try_publish_batch(&events).await
            }
        };
        let outcome = answer.map_or(Ok(Outcome::Unknown), |answer| Outcome::of(&answer))?;
        let answered = (outcome != Outcome::Unknown).then(Timestamp::now);
        self.calls.push(Call { asked, answered, outcome: outcome.clone() });
        Ok(outcome)
    }

    /// What is known of it after all its calls.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        let outcomes = || self.calls.iter().map(|call| &call.outcome);
        let accepted = outcomes().find(|outcome| matches!(outcome, Outcome::Accepted(_)));
        let unknown = outcomes().find(|&outcome| *outcome == Outcome::Unknown);
        accepted.or(unknown).or(outcomes().next_back()).cloned().unwrap_or(Outcome::Unknown)
    }

    /// The receipts of its first acceptance; none when no answer said that it was accepted.
    #[must_use]
    pub fn receipts(&self) -> &[Receipt] {
        let accepted = self.calls.iter().find_map(|call| match &call.outcome {
            Outcome::Accepted(receipts) => Some(receipts.as_slice()),
            Outcome::Refused(_) | Outcome::Unknown => None,
        });
        accepted.unwrap_or_default()
    }

    /// The times between which it was accepted, if it was: from the first call to the first answer
    /// that said so.
    #[must_use]
    pub fn accepted_within(&self) -> Option<(Timestamp, Timestamp)> {
        let accepted = |call: &&Call| matches!(call.outcome, Outcome::Accepted(_));
        let answered = self.calls.iter().find(accepted)?.answered?;
        Some((self.calls.first()?.asked, answered))
    }
}

impl Outcome {
    /// Reads an answer.
    ///
    /// # Errors
    /// When it is neither an acceptance nor an orderly refusal.
    pub fn of(answer: &Answer) -> Result<Self> {
        match answer.status {
            202 => receipts(&answer.expect(202)?).map(Self::Accepted),
            // The store went away in the midst of it.
            504 => Ok(Self::Unknown),
            status @ (400..=499 | 503) => Ok(Self::Refused(status)),
            _ => bail!("{answer}"),
        }
    }
}

/// What is known after a call that may have got no answer.
fn known(answer: Result<Answer>) -> Result<Outcome> {
    answer.map_or(Ok(Outcome::Unknown), |answer| outcome(&answer))
}

/// Reads an answer to the load, all of whose events are in order: they are accepted, or the node
/// cannot take them now.
fn outcome(answer: &Answer) -> Result<Outcome> {
    match Outcome::of(answer)? {
        Outcome::Refused(status) if !is_for_now(status) => bail!("the load: {answer}"),
        outcome => Ok(outcome),
    }
}

/// How many events of these publications were accepted.
#[must_use]
pub fn accepted(publications: &[Publication]) -> usize {
    publications.iter().map(|publication| publication.receipts().len()).sum()
}

/// Whether a refusal with this status says nothing of the request itself: it may be repeated.
#[must_use]
pub fn is_for_now(status: u16) -> bool {
    matches!(status, 429 | 503)
}

fn receipts(body: &Value) -> Result<Vec<Receipt>> {
    let receipt = |event: &Value| {
        let id = event["id"].as_str().context("an id")?.to_owned();
        let deliveries = event["deliveries"].as_u64().context("a number of deliveries")?;
        Ok(Receipt { id, deliveries })
    };
    match body["data"].as_array() {
        Some(events) => events.iter().map(receipt).collect(),
        None => Ok(vec![receipt(body)?]),
    }
}

fn payload(name: &str) -> String {
    // The odd spacing must survive too.
    format!(r#"{{ "name":"{name}",  "amount": 1.50 }}"#)
}
