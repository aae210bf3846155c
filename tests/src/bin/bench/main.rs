//! Compares a durable node with a bare loop that sends the same requests without a store, in one
//! run, with the same bodies, receiver and number in flight.
//!
//! This process is the client and the receiver; the node is the real binary. On few processors,
//! this measures the total cost of a delivery: accepting it over HTTP, making it durable, sending
//! it, and recording the attempt.
//!
//! It also measures the latency of the dashboard's pages; see [`pages`]. With `--nodes` it measures
//! a cluster instead; see [`cluster`]. With `--store foundationdb` it compares the two engines; see
//! [`engines`].

mod baseline;
mod cluster;
mod deployment;
mod engines;
mod latency;
mod metrics;
mod node;
mod pages;
mod process;
mod receiver;
mod report;
mod scale;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, ValueEnum};
use postrider_tests::config::Config;
use postrider_tests::foundationdb;

use deployment::Deployment;
use receiver::Receiver;
use report::Report;

/// Compare a durable node with a bare request loop, a cluster with one node, or FoundationDB with
/// the embedded store, and print the results.
#[derive(Clone, Parser)]
struct Options {
    /// Duration of each throughput measurement, in seconds.
    #[arg(long, default_value_t = 8)]
    seconds: u64,
    /// Number of endpoints that share the load.
    #[arg(long, default_value_t = 100)]
    endpoints: usize,
    /// Requests in flight.
    #[arg(long, default_value_t = 64)]
    in_flight: usize,
    /// Size of each event's payload, in bytes.
    #[arg(long, default_value_t = 1024)]
    body: usize,
    /// Events per batch.
    #[arg(long, default_value_t = 100)]
    batch: usize,
    /// Endpoints registered for the memory measurement; 0 skips it.
    #[arg(long, default_value_t = 100_000)]
    registered: usize,
    /// Past deliveries of the endpoint whose page is measured.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(2_000..))]
    history: u64,
    /// Run only these parts; by default all parts of this kind of run.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Part>,
    /// Store of the nodes. With `foundationdb`, a single node is measured over both stores.
    #[arg(long, value_enum, default_value_t = Store::Embedded)]
    store: Store,
    /// Measure this many nodes over one store instead.
    #[arg(long, value_parser = clap::value_parser!(u8).range(2..=9))]
    nodes: Option<u8>,
    /// Number of node kills, one after another.
    #[arg(long, default_value_t = 50, help_heading = CLUSTER)]
    kills: usize,
    /// Seed for the choice of killed nodes; random by default.
    #[arg(long, help_heading = CLUSTER)]
    seed: Option<u64>,
    /// Events published by actor message and over HTTP.
    #[arg(long, default_value_t = 10_000, help_heading = CLUSTER)]
    events: u64,
    /// Small numbers, only to check that the benchmark works.
    #[arg(long)]
    quick: bool,
}

const CLUSTER: &str = "Options with --nodes";

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Store {
    Embedded,
    #[value(name = "foundationdb")]
    FoundationDb,
}

/// A part of the benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Deliveries per second: one node compared with the bare loop, with the latency at half that
    /// rate; several nodes compared with one.
    Throughput,
    /// One node: memory with many endpoints.
    Memory,
    /// One node: latency of the dashboard's pages.
    Pages,
    /// Several nodes: how long deliveries wait when a node is killed.
    Takeover,
    /// Several nodes: memory of endpoints with work.
    Work,
    /// Several nodes: actor messages compared with HTTP.
    Publishing,
}

impl Part {
    /// The name on the command line.
    fn name(&self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

impl Options {
    fn duration(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }

    /// The parts of this kind of run.
    fn parts(&self) -> &'static [Part] {
        match (self.nodes, self.store) {
            (Some(_), _) => &[Part::Throughput, Part::Publishing, Part::Takeover, Part::Work],
            (None, Store::Embedded) => &[Part::Throughput, Part::Memory, Part::Pages],
            (None, Store::FoundationDb) => &[],
        }
    }

    /// Exits with a usage error if a selected part does not exist in this kind of run.
    fn check(&self) {
        let available = self.parts();
        if let Some(part) = self.only.iter().find(|part| !available.contains(part)) {
            let text = match available {
                [] => "a run over both stores has no separate parts".to_owned(),
                available => {
                    let available: Vec<_> = available.iter().map(Part::name).collect();
                    format!(
                        "this kind of run has no part {}; it has {}",
                        part.name(),
                        available.join(", ")
                    )
                }
            };
            Self::command().error(ErrorKind::ArgumentConflict, text).exit();
        }
    }

    /// Whether a part is selected.
    fn wants(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }

    /// Reduces the sizes for a quick run.
    fn scaled_down(self) -> Self {
        if !self.quick {
            return self;
        }
        Self {
            seconds: self.seconds.min(2),
            registered: self.registered.min(2_000),
            history: self.history.min(2_000),
            kills: self.kills.min(3),
            events: self.events.min(1_000),
            ..self
        }
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::parse().scaled_down();
    options.check();
    let chosen = foundationdb::chosen()?;
    let wanted = options.store == Store::FoundationDb;
    ensure!(
        chosen.is_some() == wanted,
        "the store does not match POSTRIDER_TEST_STORE: use scripts/bench"
    );
    let receiver = Arc::new(Receiver::start().await?);
    let mut report = Report::new(&options);
    match (options.nodes, chosen) {
        (Some(nodes), _) => cluster::run(&options, nodes.into(), receiver, &mut report).await?,
        (None, Some(file)) => engines::run(&options, &file, receiver, &mut report).await?,
        (None, None) => single_node(&options, receiver, &mut report).await?,
    }
    report.goals();
    Ok(())
}

async fn single_node(
    options: &Options,
    receiver: Arc<Receiver>,
    report: &mut Report,
) -> Result<()> {
    if options.wants(Part::Throughput) {
        throughput(options, receiver.clone(), report).await?;
    }
    if options.wants(Part::Memory) && options.registered > 0 {
        report.scale(&scale::run(options, receiver.clone()).await?);
    }
    if options.wants(Part::Pages) {
        pages::run(options, &receiver, report).await?;
    }
    Ok(())
}

async fn throughput(options: &Options, receiver: Arc<Receiver>, report: &mut Report) -> Result<()> {
    let bare = baseline::run(options, &receiver).await?;
    report.bare(&bare);
    let deployment = Deployment::single(Config::new()).await?;
    let node = node::Bench::start(options, receiver.clone(), &deployment).await?;
    let single = node.throughput(1, &deployment).await?;
    report.node("one event per request", &single, &bare);
    let half = latency::run(&node, single.delivered_per_s / 2.0).await?;
    report.latency(&half);
    let batched = node.throughput(options.batch, &deployment).await?;
    report.node(&format!("batches of {}", options.batch), &batched, &bare);
    // Repeated because the machine's speed may have changed.
    report.bare(&baseline::run(options, &receiver).await?);
    Ok(())
}
