//! Measures a durable node against a bare loop that makes the same requests without any store,
//! in one run, with the same bodies, the same receiver and the same number in flight.
//!
//! Who takes part: this process is the client and the receiver; the node is the real binary.
//! What is measured on so few processors is the cost of a delivery as a whole: accepting it
//! over HTTP, making it durable, sending it, and recording what came of it.

mod bare;
mod latency;
mod node;
mod process;
mod receiver;
mod report;
mod scale;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use clap::Parser;

use receiver::Receiver;
use report::Report;

/// Measures a durable node against a bare request loop, and prints what came out.
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
}

impl Options {
    fn duration(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::parse();
    let receiver = Arc::new(Receiver::start().await?);
    let mut report = Report::new(&options);

    let bare = bare::run(&options, &receiver).await?;
    report.bare(&bare);
    let node = node::Bench::start(&options, receiver.clone()).await?;
    let single = node.throughput(1).await?;
    report.node("one event per request", &single, &bare);
    let half = latency::run(&node, single.delivered_per_s / 2.0).await?;
    report.latency(&half);
    let batched = node.throughput(options.batch).await?;
    report.node(&format!("batches of {}", options.batch), &batched, &bare);
    // The machine may have drifted meanwhile.
    report.bare(&bare::run(&options, &receiver).await?);
    drop(node);
    if options.registered > 0 {
        report.scale(&scale::run(&options, receiver).await?);
    }
    report.goals();
    Ok(())
}
