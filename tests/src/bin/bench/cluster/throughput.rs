//! Deliveries a second with one node and with all of them, under the same load.

use std::sync::Arc;

use anyhow::Result;
use postrider_tests::config::Config;

use crate::Options;
use crate::bare::{self, Bare};
use crate::node::{Bench, Throughput};
use crate::receiver::Receiver;
use crate::report::Report;
use crate::service::Service;

/// One set-up, between two runs of the bare loop.
pub struct Measured {
    pub name: String,
    pub nodes: usize,
    /// The mean of the bare loop before and after.
    pub bare: Bare,
    pub single: Throughput,
    pub batched: Throughput,
}

pub async fn run(
    options: &Options,
    nodes: usize,
    receiver: Arc<Receiver>,
    report: &mut Report,
) -> Result<()> {
    let mut before = bare::run(options, &receiver).await?;
    report.bare(&before);
    let mut all = Vec::new();
    for setup in [Setup::Alone, Setup::Clustered(1), Setup::Clustered(nodes)] {
        let (single, batched) = measure(options, setup, receiver.clone()).await?;
        let after = bare::run(options, &receiver).await?;
        let bare = Bare { per_s: f64::midpoint(before.per_s, after.per_s) };
        let (name, nodes) = (setup.name(), setup.nodes());
        let measured = Measured { name, nodes, bare, single, batched };
        report.throughput(options.batch, &measured);
        report.bare(&after);
        all.push(measured);
        before = after;
    }
    report.speedups(options.batch, &all);
    Ok(())
}

#[derive(Clone, Copy)]
enum Setup {
    Alone,
    Clustered(usize),
}

impl Setup {
    fn name(self) -> String {
        match self {
            Self::Alone => "1 node, alone".to_owned(),
            Self::Clustered(1) => "1 node with [cluster]".to_owned(),
            Self::Clustered(nodes) => format!("{nodes} nodes"),
        }
    }

    fn nodes(self) -> usize {
        match self {
            Self::Alone => 1,
            Self::Clustered(nodes) => nodes,
        }
    }

    async fn start(self) -> Result<Service> {
        match self {
            Self::Alone => Service::alone(Config::new()).await,
            Self::Clustered(nodes) => Service::cluster(&Config::new(), nodes).await,
        }
    }
}

async fn measure(
    options: &Options,
    setup: Setup,
    receiver: Arc<Receiver>,
) -> Result<(Throughput, Throughput)> {
    let service = setup.start().await?;
    let bench = Bench::start(options, receiver, &service).await?;
    let single = bench.throughput(1, &service).await?;
    let batched = bench.throughput(options.batch, &service).await?;
    service.stop().await?;
    Ok((single, batched))
}
