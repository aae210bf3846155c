//! Measures the memory of endpoints with work.
//!
//! Each endpoint has one delivery, and the receiver hangs. Every node sends as many requests as it
//! has permits, and the actors of all other endpoints wait for a permit. The timeout is the longest
//! that can be configured, so that no attempt ends meanwhile. Then the receiver recovers, and
//! everything is delivered.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use postrider_tests::config::Config;
use postrider_tests::wait::{millis, seconds};
use tokio::time::Instant;

use crate::Options;
use crate::deployment::Deployment;
use crate::metrics::{DELIVERIES_FINISHED, ENDPOINTS_ACTIVE};
use crate::node::Bench;
use crate::process;
use crate::receiver::{Receiver, ResponseMode};
use crate::report::Report;

/// The longest timeout that can be configured.
const TIMEOUT: Duration = seconds(60);
/// The deadline for all endpoints to have an actor, before attempts begin to time out.
const STARTED_WITHIN: Duration = seconds(50);
/// The longest wait for all deliveries. If it is exceeded, the report shows the number so far.
const DONE_WITHIN: Duration = seconds(300);
/// The longest wait until all actors have stopped.
const IDLE_WITHIN: Duration = seconds(30);
/// Polling interval.
const POLL_INTERVAL: Duration = millis(200);

/// The nodes before and while the deliveries are due.
pub struct Cost {
    pub registered: usize,
    /// Requests in flight when memory was measured.
    pub in_flight: u64,
    pub idle: NodeSample,
    pub working: NodeSample,
}

/// The nodes after the receiver has recovered.
pub struct Recovery {
    pub registered: usize,
    /// Deliveries recorded as finished.
    pub delivered: f64,
    /// From the receiver's recovery to the last of them.
    pub took: Duration,
    pub end: NodeSample,
}

/// A sample of all nodes.
#[derive(Clone, Default)]
pub struct NodeSample {
    /// Endpoints with an actor.
    pub active: Vec<f64>,
    pub memory_mib: Vec<(f64, f64)>,
}

impl NodeSample {
    pub fn active(&self) -> f64 {
        self.active.iter().sum()
    }

    /// Anonymous memory of all nodes.
    pub fn anonymous_mib(&self) -> f64 {
        self.memory_mib.iter().map(|(_, anonymous)| anonymous).sum()
    }
}

impl Cost {
    /// The memory of an endpoint with work, in KiB.
    pub fn kib_per_endpoint(&self) -> f64 {
        let more = self.working.anonymous_mib() - self.idle.anonymous_mib();
        more * 1024.0 / self.working.active().max(1.0)
    }
}

pub async fn run(
    options: &Options,
    nodes: usize,
    receiver: Arc<Receiver>,
    report: &mut Report,
) -> Result<()> {
    let config = Config::new().timeout(&format!("{}s", TIMEOUT.as_secs()));
    let deployment = Deployment::cluster(&config, nodes).await?;
    let options = Options { endpoints: 0, ..options.clone() };
    let bench = Bench::start(&options, receiver, &deployment).await?;
    let groups = bench.register_groups(options.registered).await?;
    report.work(&work(&bench, &deployment, &groups).await?);
    report.recovery(&recover(&bench, &deployment).await?);
    deployment.stop().await
}

async fn work(bench: &Bench, deployment: &Deployment, groups: &[String]) -> Result<Cost> {
    let registered = bench.options.registered;
    let idle = sample(bench, deployment).await?;
    let before = bench.receiver.count();
    bench.receiver.respond(ResponseMode::Hanging);
    bench.publish_to_groups(groups).await?;
    let working = most_active(bench, deployment).await?;
    let in_flight = bench.receiver.count() - before;
    Ok(Cost { registered, in_flight, idle, working })
}

async fn recover(bench: &Bench, deployment: &Deployment) -> Result<Recovery> {
    let registered = bench.options.registered;
    let recovered = Instant::now();
    bench.receiver.respond(ResponseMode::Immediate);
    let (delivered, took) = loop {
        let delivered: f64 = bench.metric(DELIVERIES_FINISHED).await?.into_iter().sum();
        let took = recovered.elapsed();
        if delivered >= registered as f64 || took > DONE_WITHIN {
            break (delivered, took);
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    };
    Ok(Recovery { registered, delivered, took, end: once_idle(bench, deployment).await? })
}

/// A sample once all endpoints have an actor, or the one with the most actors.
async fn most_active(bench: &Bench, deployment: &Deployment) -> Result<NodeSample> {
    let deadline = Instant::now() + STARTED_WITHIN;
    let mut most = NodeSample::default();
    while most.active() < bench.options.registered as f64 && Instant::now() < deadline {
        tokio::time::sleep(POLL_INTERVAL).await;
        let now = sample(bench, deployment).await?;
        if now.active() > most.active() {
            most = now;
        }
    }
    Ok(most)
}

/// A sample once no endpoint has an actor, or the last one before the deadline.
async fn once_idle(bench: &Bench, deployment: &Deployment) -> Result<NodeSample> {
    let deadline = Instant::now() + IDLE_WITHIN;
    loop {
        let now = sample(bench, deployment).await?;
        if now.active() < 1.0 || Instant::now() > deadline {
            return Ok(now);
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

async fn sample(bench: &Bench, deployment: &Deployment) -> Result<NodeSample> {
    let active = bench.metric(ENDPOINTS_ACTIVE).await?;
    let memory_mib =
        deployment.pids()?.into_iter().map(process::memory_mib).collect::<Result<_>>()?;
    Ok(NodeSample { active, memory_mib })
}
