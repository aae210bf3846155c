//! The memory of a node with many endpoints, of which one in a hundred is active.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use postrider_tests::config::Config;

use crate::Options;
use crate::node::Bench;
use crate::process;
use crate::receiver::Receiver;
use crate::service::Service;

/// What the measurement came to.
pub struct Scale {
    pub registered: usize,
    pub active: usize,
    pub memory_mib: (f64, f64),
}

pub async fn run(options: &Options, receiver: Arc<Receiver>) -> Result<Scale> {
    let service = Service::alone(Config::new()).await?;
    let options = Options { endpoints: 1, ..options.clone() };
    let bench = Bench::start(&options, receiver, &service).await?;
    let active = options.registered / 100;
    bench.event_type("scale.idle").await?;
    bench.register("scale.idle", options.registered - active).await?;
    let groups = bench.register_groups(active).await?;
    let before = bench.receiver.count();
    bench.publish_to_groups(&groups).await?;
    bench.receiver.reached(before + active as u64, Duration::from_secs(60)).await?;
    let memory_mib = process::memory_mib(service.pids()?[0])?;
    Ok(Scale { registered: options.registered, active, memory_mib })
}
