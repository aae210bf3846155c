//! Joins a cluster, publishes events by actor message, prints throughput and latency, and polls the
//! endpoints until everything is delivered.
//!
//! ```sh
//! cargo run --release -p postrider-client --example publish -- \
//!     --seed 127.0.0.1:7946 --cookie-file postrider-data/cluster.cookie \
//!     --account acct_… --event-type application.created --endpoint ep_…
//! ```

use std::net::SocketAddr;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use futures::{StreamExt, TryStreamExt, stream};
use hdrhistogram::Histogram;
use postrider_client::{Client, Cookie, NewEvent, Options, Tls};
use postrider_domain::ids::{AccountId, EndpointId};
use tokio::time::{Instant, sleep};

/// How long to wait until everything is delivered.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(120);
/// How often to poll the endpoints.
const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// Publishes events by actor message.
#[derive(Parser)]
struct Arguments {
    /// Address of a node; may be given more than once.
    #[arg(long = "seed", required = true)]
    seeds: Vec<SocketAddr>,
    /// File with the cluster's cookie.
    #[arg(long)]
    cookie_file: PathBuf,
    /// Certificate authority of the nodes (PEM).
    #[arg(long, requires_all = ["tls_cert", "tls_key"])]
    tls_ca: Option<PathBuf>,
    /// Client certificate (PEM).
    #[arg(long, requires = "tls_ca")]
    tls_cert: Option<PathBuf>,
    /// Private key of the client certificate (PEM).
    #[arg(long, requires = "tls_ca")]
    tls_key: Option<PathBuf>,
    /// Account that publishes the events.
    #[arg(long)]
    account: AccountId,
    /// Event type.
    #[arg(long, default_value = "application.created")]
    event_type: String,
    /// Number of events.
    #[arg(long, default_value_t = 10_000)]
    events: u32,
    /// Events per call, 1 to 1,000.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    batch: u32,
    /// Number of concurrent calls.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    concurrency: u32,
    /// Endpoint to poll until it has no pending deliveries; may be given more than once.
    #[arg(long = "endpoint")]
    endpoints: Vec<EndpointId>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let client = Client::join(Options {
        name: "publish-example".to_owned(),
        seeds: arguments.seeds.clone(),
        cookie: Cookie::read(&arguments.cookie_file)?,
        tls: tls(&arguments)?,
    })
    .await?;
    let cluster = client.cluster_status().await?;
    println!("joined: {} nodes, {} shards", cluster.nodes.len(), cluster.shards);
    publish(&client, &arguments).await?;
    wait_until_delivered(&client, &arguments).await?;
    client.leave().await;
    Ok(())
}

fn tls(arguments: &Arguments) -> Result<Option<Tls>> {
    match (&arguments.tls_ca, &arguments.tls_cert, &arguments.tls_key) {
        (Some(ca), Some(cert), Some(key)) => Ok(Some(Tls::load(ca, cert, key)?)),
        _ => Ok(None),
    }
}

async fn publish(client: &Client, arguments: &Arguments) -> Result<()> {
    let began = Instant::now();
    let starts = (0..arguments.events).step_by(usize::try_from(arguments.batch)?);
    let calls = stream::iter(starts).map(async |start| {
        let numbers = start..arguments.events.min(start + arguments.batch);
        let began = Instant::now();
        let deliveries = publish_some(client, arguments, numbers).await?;
        Ok::<_, anyhow::Error>((began.elapsed(), deliveries))
    });
    let calls = calls.buffer_unordered(usize::try_from(arguments.concurrency)?);
    let done: Vec<_> = calls.try_collect().await?;
    let took = began.elapsed();
    let mut latency = Histogram::<u64>::new(3)?;
    for (elapsed, _) in &done {
        latency.record(u64::try_from(elapsed.as_micros())?)?;
    }
    let deliveries: u64 = done.iter().map(|(_, deliveries)| deliveries).sum();
    let events = arguments.events;
    let rate = f64::from(events) / took.as_secs_f64();
    let calls = done.len();
    println!("published {events} events in {took:.2?} ({rate:.0}/s) in {calls} calls");
    println!("deliveries: {deliveries}");
    let at = |quantile| Duration::from_micros(latency.value_at_quantile(quantile));
    let (p50, p99, max) = (at(0.5), at(0.99), Duration::from_micros(latency.max()));
    println!("call latency: p50 {p50:.2?}, p99 {p99:.2?}, max {max:.2?}");
    Ok(())
}

/// Publishes the events with these numbers. Returns the number of deliveries.
async fn publish_some(client: &Client, arguments: &Arguments, numbers: Range<u32>) -> Result<u64> {
    let mut events = numbers.map(|number| NewEvent {
        event_type: arguments.event_type.clone(),
        payload: format!(r#"{{"application_id":"a{number}","name":"Ada"}}"#).into(),
    });
    if arguments.batch == 1 {
        let event = events.next().context("the range is empty")?;
        return Ok(client.publish(arguments.account, event, None).await?.deliveries);
    }
    let receipts = client.publish_batch(arguments.account, events.collect(), None).await?;
    Ok(receipts.iter().map(|receipt| receipt.deliveries).sum())
}

/// Polls the endpoints until nothing is pending.
async fn wait_until_delivered(client: &Client, arguments: &Arguments) -> Result<()> {
    let began = Instant::now();
    for endpoint in &arguments.endpoints {
        loop {
            let status = client.endpoint_status(arguments.account, *endpoint).await?;
            ensure!(
                status.held == 0,
                "{} is disabled with {} held deliveries",
                status.name,
                status.held
            );
            if status.pending == 0 {
                println!("{endpoint} {}: no pending deliveries", status.name);
                break;
            }
            if began.elapsed() > DELIVERY_TIMEOUT {
                bail!("{endpoint} still has {} deliveries pending", status.pending);
            }
            sleep(POLL_INTERVAL).await;
        }
    }
    println!("all delivered {:.2?} after the last event was published", began.elapsed());
    Ok(())
}
