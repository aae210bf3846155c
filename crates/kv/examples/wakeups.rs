//! Compares two ways for a shard's owner to discover work on FoundationDB: polling every shard, or
//! watching a notification key per shard, which every accepting transaction bumps.
//! `FDB_CLUSTER_FILE=… cargo run --release --features foundationdb --example wakeups`

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use foundationdb::options::{MutationType, StreamingMode};
use foundationdb::{Database, FdbResult, RangeOption};
use futures::future::try_join_all;
use postrider_kv::foundationdb::FoundationDb;
use tokio::time::Instant;

const SHARDS: u64 = 256;
const ROUNDS: u32 = 50;
const TASKS: u64 = 64;
const DURATION: Duration = Duration::from_secs(5);

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Result {
    let file = std::env::var_os("FDB_CLUSTER_FILE").ok_or("FDB_CLUSTER_FILE is not set")?;
    let file = PathBuf::from(file);
    // Starts the client and waits until the cluster answers.
    let _engine = FoundationDb::open(&file, "wakeups").await?;
    let database = Arc::new(Database::from_path(file.to_str().ok_or("a path in UTF-8")?)?);

    let begun = Instant::now();
    for _ in 0..ROUNDS {
        try_join_all((0..SHARDS).map(|shard| poll(&database, shard))).await?;
    }
    println!("polling {SHARDS} shards: {:?}", begun.elapsed() / ROUNDS);

    let (baseline, _) = commits(&database, false).await?;
    println!("commits without notifications: {baseline:.0}/s");
    let received = Arc::new(AtomicU64::new(0));
    let owners: Vec<_> = (0..SHARDS)
        .map(|shard| tokio::spawn(watch(database.clone(), shard, received.clone())))
        .collect();
    let (notifying, sent) = commits(&database, true).await?;
    println!("commits with notifications: {notifying:.0}/s, {:.2} of that", notifying / baseline);
    println!("{sent} notifications sent, {} received", received.load(Ordering::Relaxed));
    for owner in owners {
        owner.abort();
    }
    clear(&database).await?;
    Ok(())
}

/// Reads the first pointer of a shard, as its owner does.
async fn poll(database: &Database, shard: u64) -> FdbResult<()> {
    let (begin, end) = (key("due", shard), key("due", shard + 1));
    let options = RangeOption {
        limit: Some(1),
        mode: StreamingMode::WantAll,
        ..RangeOption::from((begin, end))
    };
    database.create_trx()?.get_range(&options, 1, true).await.map(drop)
}

/// Commits a few rows from many tasks. Returns commits per second and in total.
async fn commits(database: &Arc<Database>, notify: bool) -> Result<(f64, u64)> {
    let begun = Instant::now();
    let tasks = (0..TASKS).map(|task| {
        let database = database.clone();
        tokio::spawn(async move {
            let mut done = 0;
            while begun.elapsed() < DURATION {
                let transaction = database.create_trx()?;
                for row in 0..4 {
                    transaction.set(&key("row", task * 8 + row), &[7; 100]);
                }
                if notify {
                    let notification = key("notification", (task + done) % SHARDS);
                    transaction.atomic_op(&notification, &1_u64.to_le_bytes(), MutationType::Add);
                }
                transaction.commit().await.map_err(|error| *error)?;
                done += 1;
            }
            FdbResult::Ok(done)
        })
    });
    let mut all = 0;
    for done in try_join_all(tasks).await? {
        all += done?;
    }
    Ok((all as f64 / begun.elapsed().as_secs_f64(), all))
}

/// Watches a shard's notification key continuously.
async fn watch(database: Arc<Database>, shard: u64, received: Arc<AtomicU64>) -> FdbResult<()> {
    loop {
        let transaction = database.create_trx()?;
        let changed = transaction.watch(&key("notification", shard));
        transaction.commit().await.map_err(|error| *error)?;
        changed.await?;
        received.fetch_add(1, Ordering::Relaxed);
        poll(&database, shard).await?;
    }
}

async fn clear(database: &Database) -> FdbResult<()> {
    let transaction = database.create_trx()?;
    transaction.clear_range(b"wakeups/", b"wakeups0");
    transaction.commit().await.map(drop).map_err(|error| *error)
}

fn key(kind: &str, number: u64) -> Vec<u8> {
    [b"wakeups/", kind.as_bytes(), b"/", &number.to_be_bytes()].concat()
}
