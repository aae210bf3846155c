//! Compares publishing by actor message with publishing over HTTP. Both send an idempotency key
//! with each call, because the client always does.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Result, anyhow};
use futures::{StreamExt, TryStreamExt, stream};
use hdrhistogram::Histogram;
use postrider_client::{Client, Cookie, NewEvent};
use postrider_tests::config::Config;
use postrider_tests::wait::seconds;
use tokio::time::Instant;

use crate::Options;
use crate::baseline::payload;
use crate::deployment::Deployment;
use crate::node::Bench;
use crate::receiver::Receiver;

/// The deadline for all published events to be delivered.
const DELIVERED_WITHIN: Duration = seconds(120);

/// Concurrent batches: few, so that they do not queue behind each other.
const CONCURRENT_BATCHES: usize = 8;

/// The results of one channel.
pub struct Channel {
    pub name: &'static str,
    /// Events per call.
    pub batch: usize,
    /// Concurrent calls.
    pub concurrency: usize,
    pub per_s: f64,
    /// Call latency in milliseconds.
    pub p50: f64,
    pub p99: f64,
}

/// Measures each channel with single events and with batches.
pub async fn run(options: &Options, nodes: usize, receiver: Arc<Receiver>) -> Result<Vec<Channel>> {
    let deployment = Deployment::cluster(&Config::new(), nodes).await?;
    let bench = Bench::start(options, receiver, &deployment).await?;
    let client = join(&deployment).await?;
    let account =
        bench.account.parse().map_err(|_| anyhow!("{} is not an account id", bench.account))?;
    let (bench, client) = (&bench, &client);
    let by_message = async |numbers: Vec<u64>| {
        let mut events: Vec<_> = numbers.iter().map(|number| event(bench, *number)).collect();
        match events.len() {
            1 => client.publish(account, events.remove(0), None).await.map(drop),
            _ => client.publish_batch(account, events, None).await.map(drop),
        }?;
        anyhow::Ok(())
    };
    let call = AtomicU64::new(0);
    let over_http = async |numbers: Vec<u64>| {
        let key = format!("http-{}", call.fetch_add(1, Ordering::Relaxed));
        bench.publish_at(bench.next_base(), &numbers, Some(&key)).await
    };
    let mut channels = Vec::new();
    for batch in [1, options.batch] {
        channels.push(measure(bench, "over HTTP", batch, over_http).await?);
        channels.push(measure(bench, "by actor message", batch, by_message).await?);
    }
    client.leave().await;
    deployment.stop().await?;
    Ok(channels)
}

async fn join(deployment: &Deployment) -> Result<Client> {
    let (seed, cookie) = deployment.seed()?;
    let options = postrider_client::Options {
        name: "bench".to_owned(),
        seeds: vec![seed],
        cookie: Cookie::read(&cookie)?,
        tls: None,
    };
    Ok(Client::join(options).await?)
}

fn event(bench: &Bench, number: u64) -> NewEvent {
    let payload = payload(number, bench.options.body).into();
    NewEvent { event_type: bench.event_type_of(number), payload }
}

/// Publishes all events and waits until they are delivered.
async fn measure<F>(
    bench: &Bench,
    name: &'static str,
    batch: usize,
    publish: impl Fn(Vec<u64>) -> F,
) -> Result<Channel>
where
    F: Future<Output = Result<()>>,
{
    let Options { events, in_flight, .. } = bench.options;
    let concurrency = if batch == 1 { in_flight } else { in_flight.min(CONCURRENT_BATCHES) };
    let (before, start) = (bench.receiver.count(), Instant::now());
    let calls = (0..events).step_by(batch).map(|first| {
        let numbers = (first..events.min(first + batch as u64)).collect();
        let call = publish(numbers);
        async move {
            let began = Instant::now();
            call.await?;
            anyhow::Ok(began.elapsed())
        }
    });
    let took: Vec<_> = stream::iter(calls).buffer_unordered(concurrency).try_collect().await?;
    let per_s = events as f64 / start.elapsed().as_secs_f64();
    bench.receiver.wait_for_count(before + events, DELIVERED_WITHIN).await?;
    let mut histogram = Histogram::<u64>::new(3)?;
    for duration in took {
        histogram.record(u64::try_from(duration.as_micros())?)?;
    }
    let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1000.0;
    Ok(Channel { name, batch, concurrency, per_s, p50: at(0.5), p99: at(0.99) })
}
