//! Measures a durable node against a bare loop that makes the same requests without any store,
//! in one run, with the same bodies, the same receiver and the same number in flight.
//!
//! Who takes part: this process is the client and the receiver; the node is the real binary.
//! What is measured on so few processors is the cost of a delivery as a whole: accepting it
//! over HTTP, making it durable, sending it, and recording what came of it.
//!
//! Then it measures how fast the dashboard's pages are; see [`pages`].
//!
//! With `--nodes` it measures a cluster instead; see [`cluster`]. With `--store foundationdb` it
//! measures the two engines beside each other; see [`engines`].

mod bare;
mod cluster;
mod engines;
mod latency;
mod metrics;
mod node;
mod pages;
mod process;
mod receiver;
mod report;
mod scale;
mod service;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, ValueEnum};
use postrider_tests::config::Config;
use postrider_tests::foundationdb;

use receiver::Receiver;
use report::Report;
use service::Service;

/// Measures a durable node against a bare request loop, a cluster against one node, or FoundationDB
/// against the embedded store, and prints what came out.
#[derive(Clone, Parser)]
struct Options {
    /// Seconds that each throughput measurement lasts.
    #[arg(long, default_value_t = 8)]
    seconds: u64,
    /// Endpoints that share the load.
    #[arg(long, default_value_t = 100)]
    endpoints: usize,
    /// Requests in flight.
    #[arg(long, default_value_t = 64)]
    in_flight: usize,
    /// Bytes of each event's payload.
    #[arg(long, default_value_t = 1024)]
    body: usize,
    /// Events of a batch.
    #[arg(long, default_value_t = 100)]
    batch: usize,
    /// Endpoints that are registered for the memory measurement; 0 leaves it out.
    #[arg(long, default_value_t = 100_000)]
    registered: usize,
    /// Deliveries that the endpoint has behind it whose page is asked for.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(2_000..))]
    history: u64,
    /// What is measured, of what such a run measures; everything if it is not given.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Part>,
    /// Which store the nodes use. A single node is then measured over both.
    #[arg(long, value_enum, default_value_t = Store::Embedded)]
    store: Store,
    /// Measure this many nodes over one store instead.
    #[arg(long, value_parser = clap::value_parser!(u8).range(2..=9))]
    nodes: Option<u8>,
    /// Nodes that are killed, one after another.
    #[arg(long, default_value_t = 50, help_heading = CLUSTER)]
    kills: usize,
    /// Decides which; drawn if it is not given.
    #[arg(long, help_heading = CLUSTER)]
    seed: Option<u64>,
    /// Events that are published by actor message and over HTTP.
    #[arg(long, default_value_t = 10_000, help_heading = CLUSTER)]
    events: u64,
    /// Small numbers, which show that the benchmark works and nothing else.
    #[arg(long)]
    quick: bool,
}

const CLUSTER: &str = "Options with --nodes";

/// Where nodes keep their records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Store {
    Embedded,
    #[value(name = "foundationdb")]
    FoundationDb,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Deliveries a second: of one node beside the bare loop, with their latency at half that; of
    /// several nodes beside one.
    Throughput,
    /// One node: its memory with many endpoints.
    Memory,
    /// One node: how fast the dashboard's pages are.
    Pages,
    /// Several nodes: how long endpoints wait when a node is killed.
    Takeover,
    /// Several nodes: what endpoints with work cost.
    Work,
    /// Several nodes: actor messages beside HTTP.
    Publishing,
}

impl Part {
    /// As the command line has it.
    fn name(&self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

impl Options {
    fn duration(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }

    /// The parts that such a run consists of.
    fn parts(&self) -> &'static [Part] {
        match (self.nodes, self.store) {
            (Some(_), _) => &[Part::Throughput, Part::Publishing, Part::Takeover, Part::Work],
            (None, Store::Embedded) => &[Part::Throughput, Part::Memory, Part::Pages],
            (None, Store::FoundationDb) => &[],
        }
    }

    /// Ends the process if a part is asked for that such a run does not have.
    fn check(&self) {
        let known = self.parts();
        if let Some(part) = self.only.iter().find(|part| !known.contains(part)) {
            let text = match known {
                [] => "a run over both stores has no parts".to_owned(),
                known => {
                    let known: Vec<_> = known.iter().map(Part::name).collect();
                    format!(
                        "{} is no part of this run, which has {}",
                        part.name(),
                        known.join(", ")
                    )
                }
            };
            Self::command().error(ErrorKind::ArgumentConflict, text).exit();
        }
    }

    /// Whether a part is to be measured.
    fn wants(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }

    /// The same, no larger than a quick run wants.
    fn in_size(self) -> Self {
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
    let options = Options::parse().in_size();
    options.check();
    let chosen = foundationdb::chosen()?;
    let wanted = options.store == Store::FoundationDb;
    ensure!(chosen.is_some() == wanted, "start the benchmark by scripts/bench");
    let receiver = Arc::new(Receiver::start().await?);
    let mut report = Report::new(&options);
    match (options.nodes, chosen) {
        (Some(nodes), _) => cluster::run(&options, nodes.into(), receiver, &mut report).await?,
        (None, Some(file)) => engines::run(&options, &file, receiver, &mut report).await?,
        (None, None) => alone(&options, receiver, &mut report).await?,
    }
    report.goals();
    Ok(())
}

async fn alone(options: &Options, receiver: Arc<Receiver>, report: &mut Report) -> Result<()> {
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
    let bare = bare::run(options, &receiver).await?;
    report.bare(&bare);
    let service = Service::alone(Config::new()).await?;
    let node = node::Bench::start(options, receiver.clone(), &service).await?;
    let single = node.throughput(1, &service).await?;
    report.node("one event per request", &single, &bare);
    let half = latency::run(&node, single.delivered_per_s / 2.0).await?;
    report.latency(&half);
    let batched = node.throughput(options.batch, &service).await?;
    report.node(&format!("batches of {}", options.batch), &batched, &bare);
    // The machine may have drifted meanwhile.
    report.bare(&bare::run(options, &receiver).await?);
    Ok(())
}
