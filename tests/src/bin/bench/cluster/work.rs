//! What endpoints cost that have work.
//!
//! Each endpoint has one delivery, and the receiver answers none of them. So every node makes as
//! many requests as it has permits for, and all other endpoints have an actor that waits for its
//! turn. Attempts may take as long as the configuration allows, so that none ends meanwhile. Then
//! the receiver answers again, and everything is delivered.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use postrider_tests::config::Config;
use postrider_tests::wait::{millis, seconds};
use tokio::time::Instant;

use crate::Options;
use crate::metrics::{DELIVERIES_FINISHED, ENDPOINTS_ACTIVE};
use crate::node::Bench;
use crate::process;
use crate::receiver::{Manner, Receiver};
use crate::report::Report;
use crate::service::Service;

/// The longest time for an attempt that can be configured.
const TIMEOUT: Duration = seconds(60);
/// Endpoints all have an actor within; attempts begin to time out later.
const STARTED_WITHIN: Duration = seconds(50);
/// How long everything may take to be delivered. What takes longer is told, and ends the wait.
const DONE_WITHIN: Duration = seconds(300);
/// And how long the actors may then take to go.
const AT_REST_WITHIN: Duration = seconds(30);
/// How often the nodes are asked.
const PAUSE: Duration = millis(200);

/// The nodes before the deliveries are due and while they are.
pub struct Cost {
    pub registered: usize,
    /// Requests that the receiver did not answer when memory was read.
    pub in_flight: u64,
    pub idle: Moment,
    pub working: Moment,
}

/// The nodes after the receiver has answered again.
pub struct Recovery {
    pub registered: usize,
    /// Deliveries that are on record as done.
    pub delivered: f64,
    /// From the receiver's first answer to the last of them.
    pub took: Duration,
    pub done: Moment,
}

/// The nodes at one moment.
#[derive(Clone, Default)]
pub struct Moment {
    /// Endpoints with an actor.
    pub active: Vec<f64>,
    pub memory_mib: Vec<(f64, f64)>,
}

impl Moment {
    pub fn active(&self) -> f64 {
        self.active.iter().sum()
    }

    /// Memory that is no mapped file, of all nodes.
    pub fn anonymous_mib(&self) -> f64 {
        self.memory_mib.iter().map(|(_, anonymous)| anonymous).sum()
    }
}

impl Cost {
    /// What an endpoint costs by having work, in KiB.
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
    let service = Service::cluster(&config, nodes).await?;
    let options = Options { endpoints: 0, ..options.clone() };
    let bench = Bench::start(&options, receiver, &service).await?;
    let groups = bench.register_groups(options.registered).await?;
    report.work(&work(&bench, &service, &groups).await?);
    report.recovery(&recover(&bench, &service).await?);
    service.stop().await
}

async fn work(bench: &Bench, service: &Service, groups: &[String]) -> Result<Cost> {
    let registered = bench.options.registered;
    let idle = look(bench, service).await?;
    let before = bench.receiver.count();
    bench.receiver.answer(Manner::Later);
    bench.publish_to_groups(groups).await?;
    let working = most_active(bench, service).await?;
    let in_flight = bench.receiver.count() - before;
    Ok(Cost { registered, in_flight, idle, working })
}

async fn recover(bench: &Bench, service: &Service) -> Result<Recovery> {
    let registered = bench.options.registered;
    let opened = Instant::now();
    bench.receiver.answer(Manner::AtOnce);
    let (delivered, took) = loop {
        let delivered: f64 = bench.metric(DELIVERIES_FINISHED).await?.into_iter().sum();
        let took = opened.elapsed();
        if delivered >= registered as f64 || took > DONE_WITHIN {
            break (delivered, took);
        }
        tokio::time::sleep(PAUSE).await;
    };
    Ok(Recovery { registered, delivered, took, done: at_rest(bench, service).await? })
}

/// The moment at which all endpoints have an actor, or the most that do.
async fn most_active(bench: &Bench, service: &Service) -> Result<Moment> {
    let deadline = Instant::now() + STARTED_WITHIN;
    let mut most = Moment::default();
    while most.active() < bench.options.registered as f64 && Instant::now() < deadline {
        tokio::time::sleep(PAUSE).await;
        let now = look(bench, service).await?;
        if now.active() > most.active() {
            most = now;
        }
    }
    Ok(most)
}

/// The moment at which no endpoint has an actor any more, or the last that was waited for.
async fn at_rest(bench: &Bench, service: &Service) -> Result<Moment> {
    let deadline = Instant::now() + AT_REST_WITHIN;
    loop {
        let now = look(bench, service).await?;
        if now.active() < 1.0 || Instant::now() > deadline {
            return Ok(now);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn look(bench: &Bench, service: &Service) -> Result<Moment> {
    let active = bench.metric(ENDPOINTS_ACTIVE).await?;
    let memory_mib = service.pids()?.into_iter().map(process::memory_mib).collect::<Result<_>>()?;
    Ok(Moment { active, memory_mib })
}
