//! Measures durable transactions per second on the LMDB engine: 64 tasks; each transaction makes
//! six checked reads, eight writes and an atomic add. `cargo run --release --example commits [dir]`

use std::sync::Arc;
use std::time::Duration;

use postrider_kv::lmdb::Lmdb;
use postrider_kv::{Error, Store, Tx};
use tokio::time::Instant;

const TASKS: u64 = 64;
const DURATION: Duration = Duration::from_secs(3);
const ENDPOINTS: u64 = 10_000;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir =
        std::env::args().nth(1).map_or_else(|| std::env::temp_dir().join("commits"), Into::into);
    let engine = Arc::new(Lmdb::open(&dir)?);
    let store = Store::new(engine.clone(), 1);
    let begun = Instant::now();
    let tasks: Vec<_> =
        (0..TASKS).map(|task| tokio::spawn(work(store.clone(), task, begun))).collect();
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await??);
    }
    let seconds = begun.elapsed().as_secs_f64();
    latencies.sort_unstable();
    let at = |part: f64| latencies[((latencies.len() - 1) as f64 * part) as usize];
    let stats = store.stats();
    println!("{:.0} transactions/s", latencies.len() as f64 / seconds);
    println!("latency: median {:?}, 99 % {:?}, longest {:?}", at(0.5), at(0.99), at(1.0));
    println!("{:.1} transactions per group", stats.transactions as f64 / stats.groups as f64);
    println!("{:?} per commit", stats.commit_time_total / u32::try_from(stats.groups)?);
    println!(
        "{:.0} % of the time spent in commits",
        stats.commit_time_total.as_secs_f64() / seconds * 100.0
    );
    println!("{} conflicts", stats.conflicts);
    Ok(())
}

async fn work(store: Store, task: u64, begun: Instant) -> Result<Vec<Duration>, Error> {
    let mut latencies = Vec::new();
    let mut number = 0;
    while begun.elapsed() < DURATION {
        let started = Instant::now();
        number += 1;
        store.transact(|tx, _| step(tx, task, number)).await?;
        latencies.push(started.elapsed());
    }
    Ok(latencies)
}

/// Roughly the reads and writes of one delivery attempt.
async fn step(tx: Tx, task: u64, number: u64) -> Result<(), Error> {
    let endpoint = (number * TASKS + task) % ENDPOINTS;
    let key = |kind: &str, number: u64| format!("{kind}/{endpoint:08}/{number:08}");
    tx.get("shard/0/owner").await?;
    tx.get(key("endpoint", 0)).await?;
    tx.get(key("delivery", number)).await?;
    tx.get(key("event", number)).await?;
    tx.get(key("queue", number)).await?;
    tx.get(key("due", 0)).await?;
    tx.set(key("endpoint", 0), vec![1; 300]);
    tx.set(key("delivery", number), vec![2; 200]);
    tx.set(key("event", number), vec![3; 500]);
    tx.set(key("attempt", number), vec![4; 200]);
    tx.clear(key("queue", number));
    tx.set(key("queue", number + 1), vec![5; 20]);
    tx.set(key("due", 0), vec![6; 20]);
    tx.set(key("expiry", number), vec![7; 8]);
    tx.add("counter", 1);
    Ok(())
}
