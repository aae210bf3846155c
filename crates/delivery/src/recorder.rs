//! Groups finished attempts into few transactions: whoever has one hands it in and waits;
//! what has come together meanwhile goes into the store at once.

use std::sync::Arc;
use std::time::Duration;

use postrider_domain::machine::Rules;
use postrider_net::tasks::Tasks;
use postrider_store::kv::Error;
use postrider_store::{Applied, Finished, Records};
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::permits::NODE;

/// Most attempts in one transaction. With the largest record of an attempt, some 50 KB, a
/// transaction stays within the store's bound.
const GROUP: usize = 64;
/// Transactions under way at once; the store makes durable together what comes together, so
/// that together they take all that a node has in flight.
const TRANSACTIONS: usize = 32;
/// Attempts that wait: more cannot come, since each holds one of the node's permits.
const WAITING: usize = NODE;
/// The pause after a transaction failed, while the store is away.
const PAUSE: Duration = Duration::from_millis(500);

/// A handle on the recorder. Clones share it.
#[derive(Clone)]
pub(crate) struct Recorder {
    sender: mpsc::Sender<Entry>,
}

struct Entry {
    finished: Finished,
    reply: oneshot::Sender<Option<Applied>>,
}

impl Recorder {
    /// Starts the recorder. It ends when the last handle is dropped and all is recorded.
    pub(crate) fn start(records: Records, rules: Arc<Rules>, tasks: &Tasks) -> Self {
        let (sender, receiver) = mpsc::channel(WAITING);
        tasks.spawn("recorder", run(receiver, records, rules));
        Self { sender }
    }

    /// Puts an attempt on record, and gives what became of it once that is durable. While the
    /// store is away this waits. None when it cannot be recorded.
    pub(crate) async fn record(&self, finished: Finished) -> Option<Applied> {
        let (reply, applied) = oneshot::channel();
        // Both fail only if a task of the recorder panicked.
        self.sender.send(Entry { finished, reply }).await.ok()?;
        applied.await.ok()?
    }
}

async fn run(mut receiver: mpsc::Receiver<Entry>, records: Records, rules: Arc<Rules>) {
    let transactions = Arc::new(Semaphore::new(TRANSACTIONS));
    loop {
        let permit = transactions.clone().acquire_owned().await.expect("never closed");
        let mut entries = Vec::with_capacity(GROUP);
        if receiver.recv_many(&mut entries, GROUP).await == 0 {
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
        entries.into_iter().map(|entry| (entry.finished, entry.reply)).unzip();
    for (reply, applied) in replies.into_iter().zip(record(&batch, records, rules).await) {
        // Whoever asked may have ended, as a task does when its actor fails.
        let _ = reply.send(applied);
    }
}

/// Records a group; one that cannot be recorded as a whole is halved, down to the attempt
/// that is to blame, so that it stops nobody else.
async fn record(batch: &[Finished], records: &Records, rules: &Rules) -> Vec<Option<Applied>> {
    let mut told = false;
    loop {
        match records.apply(batch, rules).await {
            Ok(applied) => return applied.into_iter().map(Some).collect(),
            Err(error @ (Error::TooLarge { .. } | Error::Corrupt(_))) => {
                if let [finished] = batch {
                    tracing::error!(%error, delivery = %finished.delivery, "an attempt cannot be recorded");
                    return vec![None];
                }
                let (left, right) = batch.split_at(batch.len() / 2);
                let mut applied = Box::pin(record(left, records, rules)).await;
                applied.extend(Box::pin(record(right, records, rules)).await);
                return applied;
            }
            Err(error) => {
                if !std::mem::replace(&mut told, true) {
                    tracing::warn!(%error, attempts = batch.len(), "attempts cannot be recorded; trying until they are");
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}
