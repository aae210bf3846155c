//! Measures a node over the embedded store and over FoundationDB, one after the other, with the
//! same binary, receiver and load.
//!
//! Besides throughput and latency, the report has the store's work from the node's metrics:
//! commits, each of a group of transactions, and transactions retried after a conflict. Background
//! work of the node, such as lease renewals, is included.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use postrider_tests::config::Config;
use postrider_tests::wait;

use crate::Options;
use crate::deployment::Deployment;
use crate::latency::{self, Latency};
use crate::metrics::{COMMITS, CONFLICTS, DELIVERIES_FINISHED, TRANSACTIONS};
use crate::node::Bench;
use crate::receiver::Receiver;
use crate::report::Report;

/// Events per second at low load: each is delivered before the next one is published.
const LOW_RATE: f64 = 20.0;
/// The deadline for the last deliveries to be recorded.
const RECORDED_WITHIN: Duration = Duration::from_secs(60);

/// The results of one engine.
pub struct EngineResult {
    pub name: &'static str,
    pub low: (Latency, StoreWork),
    pub half: (Latency, StoreWork),
    /// Deliveries per second and the store's work.
    pub high: (f64, StoreWork),
}

/// The store's work for a number of deliveries.
#[derive(Clone, Copy)]
pub struct StoreWork {
    pub deliveries: f64,
    pub commits: f64,
    pub transactions: f64,
    pub conflicts: f64,
}

impl StoreWork {
    async fn total(bench: &Bench) -> Result<Self> {
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

    pub fn commits_per_delivery(self) -> f64 {
        self.commits / self.deliveries
    }

    pub fn transactions_per_delivery(self) -> f64 {
        self.transactions / self.deliveries
    }

    pub fn conflicts_per_delivery(self) -> f64 {
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
) -> Result<EngineResult> {
    let deployment = Deployment::single(config).await?;
    let bench = Bench::start(options, receiver, &deployment).await?;
    let low = at_rate(&bench, LOW_RATE).await?;
    let before = StoreWork::total(&bench).await?;
    let high = bench.throughput(1, &deployment).await?;
    let high = (high.delivered_per_s, once_recorded(&bench, before, high.accepted).await?);
    let half = at_rate(&bench, high.0 / 2.0).await?;
    deployment.stop().await?;
    Ok(EngineResult { name, low, half, high })
}

async fn at_rate(bench: &Bench, rate: f64) -> Result<(Latency, StoreWork)> {
    let before = StoreWork::total(bench).await?;
    let latency = latency::run(bench, rate).await?;
    let work = once_recorded(bench, before, latency.events).await?;
    Ok((latency, work))
}

/// The work since `before`, once this number of deliveries has been recorded.
async fn once_recorded(bench: &Bench, before: StoreWork, deliveries: u64) -> Result<StoreWork> {
    let done = async || {
        let work = StoreWork::total(bench).await?.since(before);
        Ok((work.deliveries >= deliveries as f64).then_some(work))
    };
    wait::until("all deliveries are recorded", RECORDED_WITHIN, done).await
}

/// The version that fdbserver reports.
fn version() -> Result<String> {
    let output = Command::new("fdbserver").arg("--version").output().context("run fdbserver")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text.lines().take(2).collect::<Vec<_>>().join(", "))
}
