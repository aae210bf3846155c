//! Latency from client to receiver under an open-loop load, with a rate independent of the node.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, Result};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use hdrhistogram::Histogram;
use tokio::time::Instant;

use crate::node::Bench;

/// Beyond the numbers used by throughput measurements.
const FIRST: u64 = 1 << 40;

/// Latencies in milliseconds.
pub struct Latency {
    pub rate: f64,
    pub events: u64,
    pub p50: f64,
    pub p99: f64,
    pub p999: f64,
}

/// Publishes `rate` events per second on schedule, without waiting for earlier responses. Latency
/// counts from the scheduled time.
pub async fn run(bench: &Bench, rate: f64) -> Result<Latency> {
    let count = (rate * bench.options.duration().as_secs_f64()) as u64;
    let mut arrivals = bench.receiver.watch();
    let start = Instant::now();
    let scheduled = |number: u64| start + Duration::from_secs_f64(number as f64 / rate);
    let mut publishing = FuturesUnordered::new();
    for number in 0..count {
        let due = scheduled(number);
        tokio::time::sleep_until(due).await;
        publishing.push(bench.publish_one(FIRST + number));
        while let Some(Some(published)) = futures::FutureExt::now_or_never(publishing.next()) {
            published?;
        }
    }
    while let Some(published) = publishing.next().await {
        published?;
    }
    let mut histogram = Histogram::<u64>::new_with_bounds(1, 600_000_000, 3)?;
    let mut seen = HashMap::new();
    while seen.len() < count as usize {
        let arrival = tokio::time::timeout(Duration::from_secs(60), arrivals.recv());
        let arrival =
            arrival.await.context("an event did not arrive")?.context("the receiver stopped")?;
        let number = arrival.number()?;
        if let Some(number) =
            number.checked_sub(FIRST).filter(|number| seen.insert(*number, ()).is_none())
        {
            let latency = arrival.at.saturating_duration_since(scheduled(number));
            histogram.record(u64::try_from(latency.as_micros())?.max(1))?;
        }
    }
    bench.receiver.unwatch();
    let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1000.0;
    Ok(Latency { rate, events: count, p50: at(0.5), p99: at(0.99), p999: at(0.999) })
}

impl Bench {
    async fn publish_one(&self, number: u64) -> Result<()> {
        self.publish(&[number]).await
    }
}
