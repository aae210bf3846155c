//! Monitors a running cluster: shard ownership as reported by any node that responds, the resource
//! usage of the processes, and the speed of the disk.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::task::JoinHandle;

use super::ProcessTable;
use crate::client::Operator;
use crate::evidence::{ClusterSample, Flush, Usage, since};
use crate::wait::{millis, seconds};

/// Sampling interval.
const INTERVAL: Duration = millis(300);
/// A flush of a few bytes that takes this long is slow.
const SLOW: Duration = millis(300);
/// Timeout of a call to one node before the next one is tried.
const CALL_TIMEOUT: Duration = seconds(1);

/// Samples until it is stopped.
#[derive(Debug)]
pub struct ClusterMonitor {
    seen: Arc<Mutex<Observations>>,
    sampling: JoinHandle<()>,
    flushing: JoinHandle<()>,
}

#[derive(Clone, Debug, Default)]
pub struct Observations {
    /// Shard ownership.
    pub cluster_samples: Vec<ClusterSample>,
    pub usage: Vec<Usage>,
    pub slow_flushes: Vec<Flush>,
}

impl ClusterMonitor {
    /// Samples the nodes with their APIs at `bases`, and the processes in `process_table`.
    #[must_use]
    pub fn start(operator: &Operator, bases: &[String], process_table: ProcessTable) -> Self {
        let api = operator.api.with_timeout(CALL_TIMEOUT);
        let operators: Vec<_> = bases.iter().map(|base| Operator::new(api.at(base))).collect();
        let seen = Arc::<Mutex<Observations>>::default();
        let sampling = tokio::spawn(sample(Arc::clone(&seen), operators, process_table));
        let flushing = tokio::spawn(flush(Arc::clone(&seen)));
        Self { seen, sampling, flushing }
    }

    /// Stops and returns all samples.
    #[must_use]
    pub fn stop(self) -> Observations {
        self.sampling.abort();
        self.flushing.abort();
        self.seen.lock().clone()
    }
}

async fn sample(
    seen: Arc<Mutex<Observations>>,
    operators: Vec<Operator>,
    process_table: ProcessTable,
) {
    for operator in operators.iter().cycle() {
        for (name, pid) in process_table.running() {
            // The process may have exited meanwhile.
            seen.lock().usage.extend(Usage::of(&name, pid).ok());
        }
        if let Ok(cluster) = operator.cluster().await {
            seen.lock().cluster_samples.push(ClusterSample { at: Timestamp::now(), cluster });
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Writes to the disk that the nodes use, and records slow flushes.
async fn flush(seen: Arc<Mutex<Observations>>) {
    // Without a file no flush is recorded, so none can excuse a delay.
    let Ok(mut file) = tempfile::tempfile() else { return };
    loop {
        let from = Timestamp::now();
        let flushing = tokio::task::spawn_blocking(move || {
            let flushed = file.write_all(b"flushed").and_then(|()| file.sync_data());
            flushed.map(|()| file)
        });
        let Ok(Ok(back)) = flushing.await else { return };
        file = back;
        let flush = Flush { from, to: Timestamp::now() };
        if since(flush.to, flush.from) >= SLOW {
            seen.lock().slow_flushes.push(flush);
        }
        tokio::time::sleep(INTERVAL).await;
    }
}
