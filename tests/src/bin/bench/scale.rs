//! The memory of a node with many endpoints, one in a hundred of them active.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use postrider_tests::config::Config;

use crate::Options;
use crate::deployment::Deployment;
use crate::node::Bench;
use crate::process;
use crate::receiver::Receiver;

pub struct Scale {
    pub registered: usize,
    pub active: usize,
    pub memory_mib: (f64, f64),
}

pub async fn run(options: &Options, receiver: Arc<Receiver>) -> Result<Scale> {
    let deployment = Deployment::single(Config::new()).await?;
    let options = Options { endpoints: 1, ..options.clone() };
    let bench = Bench::start(&options, receiver, &deployment).await?;
    let active = options.registered / 100;
    bench.event_type("scale.idle").await?;
    bench.register("scale.idle", options.registered - active).await?;
    let groups = bench.register_groups(active).await?;
    let before = bench.receiver.count();
    bench.publish_to_groups(&groups).await?;
    bench.receiver.wait_for_count(before + active as u64, Duration::from_secs(60)).await?;
    let memory_mib = process::memory_mib(deployment.pids()?[0])?;
    Ok(Scale { registered: options.registered, active, memory_mib })
}
