//! Measures a node over the embedded store and one over FoundationDB, with the same binary, the same
//! receiver and the same load, one after the other.
//!
//! Beside the load and the latencies stands what the store did for them, as the node's metrics tell:
//! commits, each of a group of transactions, and the transactions that had to run again. What the
//! node does by itself meanwhile, such as renewing its lease, is counted with it.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use postrider_tests::config::Config;
use postrider_tests::wait;

use crate::Options;
use crate::latency::{self, Latency};
use crate::metrics::{COMMITS, CONFLICTS, DELIVERIES_FINISHED, TRANSACTIONS};
use crate::node::Bench;
use crate::receiver::Receiver;
use crate::report::Report;
use crate::service::Service;

/// Events a second at low load: each is delivered before the next one comes.
const LOW_RATE: f64 = 20.0;
/// How long the last deliveries may take until they are on record.
const ON_RECORD_WITHIN: Duration = Duration::from_secs(60);

/// What one engine came to.
pub struct Engine {
    pub name: &'static str,
    pub low: (Latency, Work),
    pub half: (Latency, Work),
    /// And how many deliveries a second that were.
    pub high: (f64, Work),
}

/// What the store did for a number of deliveries.
#[derive(Clone, Copy)]
pub struct Work {
    pub deliveries: f64,
    pub commits: f64,
    pub transactions: f64,
    pub conflicts: f64,
}

impl Work {
    async fn so_far(bench: &Bench) -> Result<Self> {
        let sum = async |name| anyhow::Ok(bench.metric(name).await?.into_iter().sum::<f64>());
        Ok(Self {
            deliveries: sum(DELIVERIES_FINISHED).await?,
            commits: sum(COMMITS).await?,
            transactions: sum(TRANSACTIONS).await?,
            conflicts: sum(CONFLICTS).await?,
        })
    }

    fn since(self, earlier: Self) -> Self {
        Self {
            deliveries: self.deliveries - earlier.deliveries,
            commits: self.commits - earlier.commits,
            transactions: self.transactions - earlier.transactions,
            conflicts: self.conflicts - earlier.conflicts,
        }
    }

    pub fn commits_each(self) -> f64 {
        self.commits / self.deliveries
    }

    pub fn transactions_each(self) -> f64 {
        self.transactions / self.deliveries
    }

    pub fn conflicts_each(self) -> f64 {
        self.conflicts / self.deliveries
    }

    pub fn conflicts_per_1000(self) -> f64 {
        1000.0 * self.conflicts / (self.transactions + self.conflicts)
    }
}

pub async fn run(
    options: &Options,
    cluster_file: &Path,
    receiver: Arc<Receiver>,
    report: &mut Report,
) -> Result<()> {
    report.server(&version()?);
    let embedded = Config::new().set("store", "kind", "embedded");
    let foundationdb = Config::new().in_foundationdb(cluster_file);
    report.engine(&measure(options, "embedded", embedded, receiver.clone()).await?);
    let engine = measure(options, "foundationdb", foundationdb, receiver).await?;
    report.engine(&engine);
    report.engine_goals(&engine);
    Ok(())
}

async fn measure(
    options: &Options,
    name: &'static str,
    config: Config,
    receiver: Arc<Receiver>,
) -> Result<Engine> {
    let service = Service::alone(config).await?;
    let bench = Bench::start(options, receiver, &service).await?;
    let low = at_rate(&bench, LOW_RATE).await?;
    let before = Work::so_far(&bench).await?;
    let high = bench.throughput(1, &service).await?;
    let high = (high.delivered_per_s, on_record(&bench, before, high.accepted).await?);
    let half = at_rate(&bench, high.0 / 2.0).await?;
    service.stop().await?;
    Ok(Engine { name, low, half, high })
}

async fn at_rate(bench: &Bench, rate: f64) -> Result<(Latency, Work)> {
    let before = Work::so_far(bench).await?;
    let latency = latency::run(bench, rate).await?;
    let work = on_record(bench, before, latency.events).await?;
    Ok((latency, work))
}

/// What was done since `before`, as soon as so many deliveries have come on record.
async fn on_record(bench: &Bench, before: Work, deliveries: u64) -> Result<Work> {
    let done = async || {
        let work = Work::so_far(bench).await?.since(before);
        Ok((work.deliveries >= deliveries as f64).then_some(work))
    };
    wait::until("all deliveries are on record", ON_RECORD_WITHIN, done).await
}

/// Which server it is, as it says itself.
fn version() -> Result<String> {
    let output = Command::new("fdbserver").arg("--version").output().context("run fdbserver")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text.lines().take(2).collect::<Vec<_>>().join(", "))
}
