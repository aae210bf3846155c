//! A client that publishes continuously while nodes fail. It logs each call before sending it, and
//! its response.
//!
//! Three kinds of publications, mixed by a seed:
//! - with an idempotency key, repeated until accepted (some once more after that);
//! - without a key, sent once: without a response, the outcome is unknown;
//! - batches, sent once: accepted as a whole or not at all.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use parking_lot::{Mutex, MutexGuard};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::client::{Account, Answer};

/// Concurrent publishers.
const WORKERS: u64 = 4;
/// The default pause of a worker between publications; limits the amount of data to check.
const PAUSE: Duration = Duration::from_millis(30);
/// The delay before retrying a call.
const RETRY_DELAY: Duration = Duration::from_millis(20);
/// The deadline for the last calls to be accepted once the load is stopped.
const ACCEPTED_WITHIN: Duration = Duration::from_secs(30);
/// Events in a batch.
const BATCH: usize = 5;

/// Events published together.
#[derive(Clone, Debug)]
pub struct Publication {
    pub event_type: String,
    /// Payloads, unique within a load.
    pub payloads: Vec<String>,
    pub idempotency_key: Option<String>,
    /// All calls, in order.
    pub calls: Vec<Call>,
}

/// A call and its response.
#[derive(Clone, Debug)]
pub struct Call {
    /// The time at which it was sent.
    pub sent_at: Timestamp,
    /// The time of the response.
    pub answered: Option<Timestamp>,
    pub outcome: Outcome,
}

/// The known outcome of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Accepted, with one receipt for each event.
    Accepted(Vec<Receipt>),
    /// Rejected with this status, without any effect.
    Refused(u16),
    /// No response, or none yet.
    Unknown,
}

/// The receipt of an accepted event.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Receipt {
    pub id: String,
    /// The number of endpoints that receive it.
    pub deliveries: u64,
}

/// A running load.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    workers: JoinSet<Result<()>>,
}

#[derive(Debug)]
struct Shared {
    /// The account at each node.
    accounts: Vec<Account>,
    pause: Duration,
    event_type: String,
    log: Mutex<Vec<Publication>>,
    stopped: AtomicBool,
}

impl Load {
    /// Starts publishing events of `event_type`; `seed` determines the mix.
    #[must_use]
    pub fn start(account: Account, event_type: &str, seed: u64) -> Self {
        Self::start_at_each(vec![account], event_type, seed, PAUSE)
    }

    /// Like [`Self::start`], over several nodes. Each worker stays with a node until a call fails,
    /// and then continues at the next one, with the same idempotency key.
    #[must_use]
    pub fn start_at_each(
        accounts: Vec<Account>,
        event_type: &str,
        seed: u64,
        pause: Duration,
    ) -> Self {
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
            let node = usize::try_from(worker).unwrap_or_default();
            let worker = Worker { shared: Arc::clone(&shared), number: worker, node };
            workers.spawn(worker.run(rng));
        }
        Self { shared, workers }
    }

    /// The number of events accepted so far.
    #[must_use]
    pub fn accepted(&self) -> usize {
        accepted(&self.shared.log())
    }

    /// Stops publishing, waits for outstanding responses, and returns the log.
    pub async fn stop(mut self) -> Result<Vec<Publication>> {
        self.shared.stopped.store(true, Ordering::Relaxed);
        while let Some(worker) = self.workers.join_next().await {
            worker.context("join a load worker")??;
        }
        Ok(self.shared.log().clone())
    }
}

struct Worker {
    shared: Arc<Shared>,
    number: u64,
    /// The current node, counting up with each failover.
    node: usize,
}

impl Worker {
    async fn run(mut self, mut rng: StdRng) -> Result<()> {
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
        let index = self.shared.log_publication(&payloads, None);
        let events: Vec<_> =
            payloads.iter().map(|text| (self.shared.event_type.as_str(), text.as_str())).collect();
        let call = self.shared.log_call(index);
        let outcome = outcome_or_unknown(self.account().try_publish_batch(&events).await)?;
        self.fail_over_unless_accepted(&outcome);
        self.shared.log_outcome(index, call, outcome);
        Ok(())
    }

    async fn single(&mut self, name: &str, key: Option<&str>) -> Result<(usize, Outcome)> {
        let payloads = [payload(name)];
        let index = self.shared.log_publication(&payloads, key);
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
                if since.elapsed() > ACCEPTED_WITHIN {
                    bail!(
                        "{key} was not accepted within {ACCEPTED_WITHIN:?} after the load stopped: {outcome:?}"
                    );
                }
            }
            tokio::time::sleep(RETRY_DELAY).await;
            outcome = self.call(index, &payload(name), Some(&key)).await?;
        }
        if once_more {
            self.call(index, &payload(name), Some(&key)).await?;
        }
        Ok(())
    }

    async fn call(&mut self, index: usize, payload: &str, key: Option<&str>) -> Result<Outcome> {
        let call = self.shared.log_call(index);
        let answer = self.account().try_publish(&self.shared.event_type, payload, key).await;
        let outcome = outcome_or_unknown(answer)?;
        self.fail_over_unless_accepted(&outcome);
        self.shared.log_outcome(index, call, outcome.clone());
        Ok(outcome)
    }

    /// The account at the current node.
    fn account(&self) -> &Account {
        &self.shared.accounts[self.node % self.shared.accounts.len()]
    }

    fn fail_over_unless_accepted(&mut self, outcome: &Outcome) {
        if !matches!(outcome, Outcome::Accepted(_)) {
            self.node += 1;
        }
    }
}

impl Shared {
    fn log_publication(&self, payloads: &[String], key: Option<&str>) -> usize {
        let mut log = self.log();
        log.push(Publication::new(&self.event_type, payloads, key));
        log.len() - 1
    }

    fn log_call(&self, index: usize) -> usize {
        let calls = &mut self.log()[index].calls;
        let sent_at = Timestamp::now();
        calls.push(Call { sent_at, answered: None, outcome: Outcome::Unknown });
        calls.len() - 1
    }

    fn log_outcome(&self, index: usize, call: usize, outcome: Outcome) {
        let call = &mut self.log()[index].calls[call];
        call.answered = (outcome != Outcome::Unknown).then(Timestamp::now);
        call.outcome = outcome;
    }

    fn log(&self) -> MutexGuard<'_, Vec<Publication>> {
        self.log.lock()
    }
}

impl Publication {
    /// Publishes an event outside the load; it must be accepted.
    pub async fn publish(account: &Account, event_type: &str, payload: &str) -> Result<Self> {
        let sent_at = Timestamp::now();
        let answer = account.try_publish(event_type, payload, None).await?;
        answer.expect(202)?;
        Self::answered(event_type, payload, sent_at, &answer)
    }

    /// A publication with this response.
    pub fn answered(
        event_type: &str,
        payload: &str,
        sent_at: Timestamp,
        answer: &Answer,
    ) -> Result<Self> {
        let outcome = outcome(answer)?;
        Ok(Self {
            event_type: event_type.to_owned(),
            payloads: vec![payload.to_owned()],
            idempotency_key: None,
            calls: vec![Call { sent_at, answered: Some(Timestamp::now()), outcome }],
        })
    }

    /// A publication without any calls yet.
    #[must_use]
    pub fn new(event_type: &str, payloads: &[String], idempotency_key: Option<&str>) -> Self {
        Self {
            event_type: event_type.to_owned(),
            payloads: payloads.to_vec(),
            idempotency_key: idempotency_key.map(str::to_owned),
            calls: Vec::new(),
        }
    }

    /// Sends one call and logs the response. Several payloads are sent as a batch without a key.
    ///
    /// # Errors
    /// If the response is neither an acceptance nor a proper rejection.
    pub async fn ask(&mut self, account: &Account) -> Result<Outcome> {
        let (event_type, key) = (self.event_type.as_str(), self.idempotency_key.as_deref());
        let sent_at = Timestamp::now();
        let answer = match &self.payloads[..] {
            [payload] => account.try_publish(event_type, payload, key).await,
            payloads => {
                let events: Vec<_> = payloads.iter().map(|text| (event_type, &text[..])).collect();
                account.try_publish_batch(&events).await
            }
        };
        let outcome = answer.map_or(Ok(Outcome::Unknown), |answer| Outcome::of(&answer))?;
        let answered = (outcome != Outcome::Unknown).then(Timestamp::now);
        self.calls.push(Call { sent_at, answered, outcome: outcome.clone() });
        Ok(outcome)
    }

    /// The known outcome after all calls.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        let outcomes = || self.calls.iter().map(|call| &call.outcome);
        let accepted = outcomes().find(|outcome| matches!(outcome, Outcome::Accepted(_)));
        let unknown = outcomes().find(|&outcome| *outcome == Outcome::Unknown);
        accepted.or(unknown).or(outcomes().next_back()).cloned().unwrap_or(Outcome::Unknown)
    }

    /// The receipts of the first acceptance; empty without one.
    #[must_use]
    pub fn receipts(&self) -> &[Receipt] {
        let accepted = self.calls.iter().find_map(|call| match &call.outcome {
            Outcome::Accepted(receipts) => Some(receipts.as_slice()),
            Outcome::Refused(_) | Outcome::Unknown => None,
        });
        accepted.unwrap_or_default()
    }

    /// The interval in which it was accepted, if it was: from the first call to the first accepting
    /// response.
    #[must_use]
    pub fn accepted_within(&self) -> Option<(Timestamp, Timestamp)> {
        let accepted = |call: &&Call| matches!(call.outcome, Outcome::Accepted(_));
        let answered = self.calls.iter().find(accepted)?.answered?;
        Some((self.calls.first()?.sent_at, answered))
    }
}

impl Outcome {
    /// Fails if the response is neither an acceptance nor a proper rejection.
    pub fn of(answer: &Answer) -> Result<Self> {
        match answer.status {
            202 => receipts(&answer.expect(202)?).map(Self::Accepted),
            // The store became unavailable during the request.
            504 => Ok(Self::Unknown),
            status @ (400..=499 | 503) => Ok(Self::Refused(status)),
            _ => bail!("{answer}"),
        }
    }
}

/// The outcome of a call that may have no response.
fn outcome_or_unknown(answer: Result<Answer>) -> Result<Outcome> {
    answer.map_or(Ok(Outcome::Unknown), |answer| outcome(&answer))
}

/// The outcome of a call of the load. All its events are valid, so a node accepts them or rejects
/// them temporarily.
fn outcome(answer: &Answer) -> Result<Outcome> {
    match Outcome::of(answer)? {
        Outcome::Refused(status) if !is_temporary(status) => {
            bail!("a valid event was rejected: {answer}")
        }
        outcome => Ok(outcome),
    }
}

/// The number of accepted events.
#[must_use]
pub fn accepted(publications: &[Publication]) -> usize {
    publications.iter().map(|publication| publication.receipts().len()).sum()
}

/// Whether a rejection with this status is temporary, so that the call can be retried.
#[must_use]
pub fn is_temporary(status: u16) -> bool {
    matches!(status, 429 | 503)
}

fn receipts(body: &Value) -> Result<Vec<Receipt>> {
    let receipt = |event: &Value| {
        let id = event["id"].as_str().context("no id in the receipt")?.to_owned();
        let deliveries =
            event["deliveries"].as_u64().context("no number of deliveries in the receipt")?;
        Ok(Receipt { id, deliveries })
    };
    match body["data"].as_array() {
        Some(events) => events.iter().map(receipt).collect(),
        None => Ok(vec![receipt(body)?]),
    }
}

fn payload(name: &str) -> String {
    // The odd whitespace must be preserved too.
    format!(r#"{{ "name":"{name}",  "amount": 1.50 }}"#)
}
