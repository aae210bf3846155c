//! Deliveries per second with one node and with all nodes, under the same load.

use std::sync::Arc;

use anyhow::Result;
use postrider_tests::config::Config;

use crate::Options;
use crate::baseline::{self, Baseline};
use crate::deployment::Deployment;
use crate::node::{Bench, Throughput};
use crate::receiver::Receiver;
use crate::report::Report;

/// One setup, measured between two runs of the bare loop.
pub struct Measured {
    pub name: String,
    pub nodes: usize,
    /// The mean of the bare loop before and after.
    pub bare: Baseline,
    pub single: Throughput,
    pub batched: Throughput,
}

pub async fn run(
    options: &Options,
    nodes: usize,
    receiver: Arc<Receiver>,
    report: &mut Report,
) -> Result<()> {
    let mut before = baseline::run(options, &receiver).await?;
    report.bare(&before);
    let mut all = Vec::new();
    for setup in [Setup::Single, Setup::Clustered(1), Setup::Clustered(nodes)] {
        let (single, batched) = measure(options, setup, receiver.clone()).await?;
        let after = baseline::run(options, &receiver).await?;
        let bare = Baseline { per_s: f64::midpoint(before.per_s, after.per_s) };
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
    Single,
    Clustered(usize),
}

impl Setup {
    fn name(self) -> String {
        match self {
            Self::Single => "1 node, alone".to_owned(),
            Self::Clustered(1) => "1 node with [cluster]".to_owned(),
            Self::Clustered(nodes) => format!("{nodes} nodes"),
        }
    }

    fn nodes(self) -> usize {
        match self {
            Self::Single => 1,
            Self::Clustered(nodes) => nodes,
        }
    }

    async fn start(self) -> Result<Deployment> {
        match self {
            Self::Single => Deployment::single(Config::new()).await,
            Self::Clustered(nodes) => Deployment::cluster(&Config::new(), nodes).await,
        }
    }
}

async fn measure(
    options: &Options,
    setup: Setup,
    receiver: Arc<Receiver>,
) -> Result<(Throughput, Throughput)> {
    let deployment = setup.start().await?;
    let bench = Bench::start(options, receiver, &deployment).await?;
    let single = bench.throughput(1, &deployment).await?;
    let batched = bench.throughput(options.batch, &deployment).await?;
    deployment.stop().await?;
    Ok((single, batched))
}
