//! The memory of a node with many endpoints, of which one in a hundred is active.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use futures::{StreamExt, TryStreamExt, stream};

use crate::Options;
use crate::node::Bench;
use crate::process;
use crate::receiver::Receiver;

/// Endpoints that share an event type.
const SHARE: usize = 100;

/// What the measurement came to.
pub struct Scale {
    pub registered: usize,
    pub active: usize,
    pub memory_mib: (f64, f64),
}

pub async fn run(options: &Options, receiver: Arc<Receiver>) -> Result<Scale> {
    let bench = Bench::start(&Options { endpoints: 1, ..options.clone() }, receiver).await?;
    let active = options.registered / 100;
    bench.event_type("scale.idle").await?;
    for number in 0..active.div_ceil(SHARE) {
        bench.event_type(&format!("scale.a{number}")).await?;
    }
    let names = (0..options.registered).map(|number| {
        if number < active { format!("scale.a{}", number / SHARE) } else { "scale.idle".to_owned() }
    });
    let registering = stream::iter(names).map(|name| {
        let bench = &bench;
        async move { bench.endpoint(&name).await }
    });
    registering.buffer_unordered(options.in_flight).try_collect::<()>().await?;
    let before = bench.receiver.count();
    for number in 0..active.div_ceil(SHARE) {
        let body = format!("{{\"event_type\":\"scale.a{number}\",\"payload\":{{}}}}");
        bench.call("POST", &format!("/accounts/{}/events", bench.account), body).await?;
    }
    bench.receiver.reached(before + active as u64, Duration::from_secs(60)).await?;
    let memory_mib = process::memory_mib(bench.pid()?)?;
    Ok(Scale { registered: options.registered, active, memory_mib })
}
