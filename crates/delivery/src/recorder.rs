//! Group commit for finished attempts: callers submit an attempt and wait; attempts that arrive
//! while transactions are running are committed together in the next one.

use std::sync::Arc;
use std::time::Duration;

use postrider_domain::transition::Rules;
use postrider_net::tasks::Tasks;
use postrider_store::kv::Error;
use postrider_store::{Applied, FencedAttempt, Records};
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::permits::MAX_UNRECORDED;

/// Maximum attempts in one transaction. Even with the largest attempt records, about 50 KB each, a
/// transaction stays within the store's limit.
const MAX_BATCH: usize = 64;
/// Maximum concurrent transactions. The store groups concurrent commits, and together they hold all
/// attempts that a node can have in flight.
const MAX_TRANSACTIONS: usize = 32;
/// Maximum queued attempts. There cannot be more, since each holds a permit.
const QUEUE_CAPACITY: usize = MAX_UNRECORDED;
/// Delay before a failed transaction is retried.
const RETRY_DELAY: Duration = Duration::from_millis(500);

/// A handle to the recorder. Clones share it.
#[derive(Clone)]
pub(crate) struct Recorder {
    sender: mpsc::Sender<Entry>,
}

struct Entry {
    attempt: FencedAttempt,
    reply: oneshot::Sender<Option<Applied>>,
}

impl Recorder {
    /// Starts the recorder. It stops when the last handle is dropped and everything is recorded.
    pub(crate) fn start(records: Records, rules: Arc<Rules>, tasks: &Tasks) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE_CAPACITY);
        tasks.spawn("recorder", run(receiver, records, rules));
        Self { sender }
    }

    /// Records an attempt and returns the result once it is durable, waiting while the store is
    /// unavailable. Returns `None` if the attempt cannot be recorded.
    pub(crate) async fn record(&self, attempt: FencedAttempt) -> Option<Applied> {
        let (reply, applied) = oneshot::channel();
        // Both fail only if a recorder task panicked.
        self.sender.send(Entry { attempt, reply }).await.ok()?;
        applied.await.ok()?
    }
}

async fn run(mut receiver: mpsc::Receiver<Entry>, records: Records, rules: Arc<Rules>) {
    let transactions = Arc::new(Semaphore::new(MAX_TRANSACTIONS));
    loop {
        let permit = transactions.clone().acquire_owned().await.expect("never closed");
        let mut entries = Vec::with_capacity(MAX_BATCH);
        if receiver.recv_many(&mut entries, MAX_BATCH).await == 0 {
            return;
        }
        let (records, rules) = (records.clone(), rules.clone());
        tokio::spawn(async move {
            apply(entries, &records, &rules).await;
            drop(permit);
        });
    }
}

async fn apply(entries: Vec<Entry>, records: &Records, rules: &Rules) {
    let (batch, replies): (Vec<_>, Vec<_>) =
        entries.into_iter().map(|entry| (entry.attempt, entry.reply)).unzip();
    for (reply, applied) in replies.into_iter().zip(record(&batch, records, rules).await) {
        // Ignore a closed channel: the attempt's task has ended.
        let _ = reply.send(applied);
    }
}

/// Records a batch. A batch that cannot be recorded is bisected down to the attempt at fault, so
/// that it does not block the others.
async fn record(batch: &[FencedAttempt], records: &Records, rules: &Rules) -> Vec<Option<Applied>> {
    let mut warned = false;
    loop {
        match records.apply(batch, rules).await {
            Ok(applied) => return applied.into_iter().map(Some).collect(),
            Err(error @ (Error::TooLarge { .. } | Error::Corrupt(_))) => {
                if let [attempt] = batch {
                    tracing::error!(%error, delivery = %attempt.delivery, "recording an attempt failed permanently");
                    return vec![None];
                }
                let (left, right) = batch.split_at(batch.len() / 2);
                let mut applied = Box::pin(record(left, records, rules)).await;
                applied.extend(Box::pin(record(right, records, rules)).await);
                return applied;
            }
            Err(error) => {
                if !std::mem::replace(&mut warned, true) {
                    tracing::warn!(%error, attempts = batch.len(), "recording attempts failed; retrying until it succeeds");
                }
                tokio::time::sleep(RETRY_DELAY).await;
            }
        }
    }
}
