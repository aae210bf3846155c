//! Which way to learn of work on FoundationDB costs less: looking at every shard now and then, or a
//! bell for each shard, which every accepting transaction rings and its owner watches.
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
const FOR: Duration = Duration::from_secs(5);

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
        try_join_all((0..SHARDS).map(|shard| look(&database, shard))).await?;
    }
    println!("looking at {SHARDS} shards: {:?}", begun.elapsed() / ROUNDS);

    let (silent, _) = commits(&database, false).await?;
    println!("commits without bells: {silent:.0}/s");
    let heard = Arc::new(AtomicU64::new(0));
    let owners: Vec<_> = (0..SHARDS)
        .map(|shard| tokio::spawn(listen(database.clone(), shard, heard.clone())))
        .collect();
    let (ringing, rung) = commits(&database, true).await?;
    println!("commits with bells: {ringing:.0}/s, {:.2} of that", ringing / silent);
    println!("{rung} rung, {} heard", heard.load(Ordering::Relaxed));
    for owner in owners {
        owner.abort();
    }
    clear(&database).await?;
    Ok(())
}

/// The first pointer of a shard, as its owner looks for it.
async fn look(database: &Database, shard: u64) -> FdbResult<()> {
    let (begin, end) = (key("due", shard), key("due", shard + 1));
    let options = RangeOption {
        limit: Some(1),
        mode: StreamingMode::WantAll,
        ..RangeOption::from((begin, end))
    };
    database.create_trx()?.get_range(&options, 1, true).await.map(drop)
}

/// Commits of a few rows, from many tasks: how many a second, and how many in all.
async fn commits(database: &Arc<Database>, ring: bool) -> Result<(f64, u64)> {
    let begun = Instant::now();
    let tasks = (0..TASKS).map(|task| {
        let database = database.clone();
        tokio::spawn(async move {
            let mut done = 0;
            while begun.elapsed() < FOR {
                let transaction = database.create_trx()?;
                for row in 0..4 {
                    transaction.set(&key("row", task * 8 + row), &[7; 100]);
                }
                if ring {
                    let bell = key("bell", (task + done) % SHARDS);
                    transaction.atomic_op(&bell, &1_u64.to_le_bytes(), MutationType::Add);
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

/// Watches a bell, again and again.
async fn listen(database: Arc<Database>, shard: u64, heard: Arc<AtomicU64>) -> FdbResult<()> {
    loop {
        let transaction = database.create_trx()?;
        let rung = transaction.watch(&key("bell", shard));
        transaction.commit().await.map_err(|error| *error)?;
        rung.await?;
        heard.fetch_add(1, Ordering::Relaxed);
        look(&database, shard).await?;
    }
}

async fn clear(database: &Database) -> FdbResult<()> {
    let transaction = database.create_trx()?;
    transaction.clear_range(b"wakeups/", b"wakeups0");
    transaction.commit().await.map(drop).map_err(|error| *error)
}

fn key(what: &str, number: u64) -> Vec<u8> {
    [b"wakeups/", what.as_bytes(), b"/", &number.to_be_bytes()].concat()
}
