//! Guarantees specific to the LMDB engine: durability through kills and on a full disk.
//!
//! Tests that kill, stop or starve a process run this test binary again as a child, with the name
//! of a `child_…` test. Run without a parent, those tests do nothing.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::Lmdb;
use super::committer::CommitterMsg;
use crate::{Engine, Error, Store, Tx, counter};

mod multi_process;
mod room;

type TestResult = Result<(), Box<dyn std::error::Error>>;

/// Concurrent transactions: many more than can begin or commit together.
const FLOOD: usize = 5_000;

/// The environment variable with a child's store directory.
const DIR: &str = "POSTRIDER_STORE_TEST_DIR";

fn open(dir: &Path) -> Store {
    Store::new(Arc::new(Lmdb::open(dir).expect("the directory opens")), 1)
}

fn child(test: &str, dir: &Path) -> std::io::Result<Child> {
    // The shell ignores SIGXFSZ, which stays ignored across exec.
    Command::new("sh")
        .args(["-c", "trap '' XFSZ; exec \"$@\"", "sh"])
        .arg(std::env::current_exe()?)
        .args(["--exact", "--nocapture", "--test-threads=1", test])
        .env(DIR, dir)
        .stdout(Stdio::piped())
        .spawn()
}

async fn set(store: &Store, key: String, value: Vec<u8>) -> Result<(), Error> {
    let body = |tx: Tx, _| {
        tx.set(key.clone(), value.clone());
        async { Ok(()) }
    };
    store.transact(body).await
}

async fn has(store: &Store, key: &str) -> Result<bool, Error> {
    store.read(|tx| async move { Ok(tx.get(key).await?.is_some()) }).await
}

#[tokio::test]
async fn an_engine_whose_committer_panics_has_failed() -> TestResult {
    let dir = tempfile::tempdir()?;
    let engine = Lmdb::open(dir.path())?;
    let failed = async |within| tokio::time::timeout(within, engine.failed()).await;
    failed(Duration::from_millis(50)).await.expect_err("the engine is running");
    engine.submissions.send(CommitterMsg::Panic)?;
    failed(Duration::from_secs(20)).await?;
    Ok(())
}

#[tokio::test]
async fn an_urgent_transaction_overtakes_queued_ones() -> TestResult {
    let dir = tempfile::tempdir()?;
    let store = open(dir.path());
    let mut flood = tokio::task::JoinSet::new();
    for n in 0..FLOOD {
        let store = store.clone();
        flood.spawn(async move { set(&store, format!("flood-{n}"), vec![0; 1_000]).await });
    }
    // All of them have begun or are waiting to begin.
    tokio::task::yield_now().await;
    store
        .transact_urgently(|tx: Tx, _| {
            tx.set("urgent", vec![1]);
            async { Ok::<_, Error>(()) }
        })
        .await?;
    let mut committed = 0;
    while let Some(done) = flood.try_join_next() {
        done??;
        committed += 1;
    }
    assert!(committed < FLOOD / 2, "{committed} of {FLOOD} committed first");
    while let Some(done) = flood.join_next().await {
        done??;
    }
    Ok(())
}

#[tokio::test]
async fn a_reopened_store_keeps_its_data() -> TestResult {
    let dir = tempfile::tempdir()?;
    let store = open(dir.path());
    set(&store, "a".to_owned(), vec![1]).await?;
    drop(store);
    assert!(has(&open(dir.path()), "a").await?);
    Ok(())
}

#[tokio::test]
async fn a_truncated_store_is_rejected() -> TestResult {
    let dir = tempfile::tempdir()?;
    let store = open(dir.path());
    for number in 0..10 {
        set(&store, format!("row/{number}"), vec![1; 80_000]).await?;
    }
    drop(store);
    let data = std::fs::OpenOptions::new().write(true).open(dir.path().join("data.mdb"))?;
    for length in [400_000, 8192, 8191, 1] {
        data.set_len(length)?;
        let error = Lmdb::open(dir.path()).expect_err("truncated");
        let cause = std::error::Error::source(&error).expect("a cause").to_string();
        assert!(cause.contains("restore it from a backup"), "{length}: {cause}");
    }
    Ok(())
}

#[tokio::test]
async fn an_empty_data_file_is_a_new_store() -> TestResult {
    let dir = tempfile::tempdir()?;
    std::fs::write(dir.path().join("data.mdb"), "")?;
    set(&open(dir.path()), "a".to_owned(), vec![1]).await.map_err(Into::into)
}

#[test]
fn the_lock_file_is_allocated() -> TestResult {
    use std::os::unix::fs::MetadataExt;

    let dir = tempfile::tempdir()?;
    let _engine = Lmdb::open(dir.path())?;
    let lock = std::fs::metadata(dir.path().join("lock.mdb"))?;
    assert!(lock.blocks() * 512 >= lock.len(), "{} blocks of {}", lock.blocks(), lock.len());
    assert_eq!(lock.mode() & 0o777, 0o600);
    Ok(())
}

#[tokio::test]
async fn an_open_transaction_does_not_block_closing() -> TestResult {
    let dir = tempfile::tempdir()?;
    let engine = Lmdb::open(dir.path())?;
    let tx = engine.begin().await?;
    tx.set("a".into(), "1".into());
    drop(engine);
    assert!(matches!(tx.commit().await, Err(Error::Unavailable(_))));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_transactions_share_a_commit() -> TestResult {
    let dir = tempfile::tempdir()?;
    let engine = Arc::new(Lmdb::open(dir.path())?);
    let store = Store::new(engine.clone(), 1);
    let tasks = (0..64).map(|task| {
        let store = store.clone();
        tokio::spawn(async move {
            for number in 0..8 {
                set(&store, format!("{task}/{number}"), vec![]).await?;
            }
            Ok::<_, Error>(())
        })
    });
    for task in futures::future::join_all(tasks).await {
        task??;
    }
    let stats = engine.stats();
    assert_eq!(stats.transactions, 64 * 8);
    assert!(stats.groups < 64 * 8 / 2, "{stats:?}");
    assert!(!stats.commit_time_total.is_zero());
    Ok(())
}

#[tokio::test]
async fn acknowledged_writes_survive_a_kill() -> TestResult {
    let dir = tempfile::tempdir()?;
    for round in 0..3_u32 {
        let child = child("lmdb::tests::child_that_writes_until_killed", dir.path())?;
        let acknowledged = kill_after(child, 200 * (1 + round as usize))?;
        assert_holds(&open(dir.path()), &acknowledged).await?;
    }
    Ok(())
}

/// Kills a child after `answers` acknowledged writes, and returns all acknowledged keys.
fn kill_after(mut child: Child, answers: usize) -> std::io::Result<Vec<String>> {
    let mut lines = durable(&mut child);
    let mut acknowledged: Vec<_> = lines.by_ref().take(answers).collect();
    assert_eq!(acknowledged.len(), answers, "the child writes until it is killed");
    child.kill()?;
    child.wait()?;
    acknowledged.extend(lines);
    Ok(acknowledged)
}

/// The keys that a child reports as durable. The test's name may precede the first, and the last
/// may be cut off, so keys end in a dot.
fn durable(child: &mut Child) -> impl Iterator<Item = String> + use<> {
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    lines.map_while(Result::ok).filter_map(|line| {
        let (_, key) = line.split_once("durable ")?;
        key.ends_with('.').then(|| key.to_owned())
    })
}

async fn assert_holds(store: &Store, acknowledged: &[String]) -> Result<(), Error> {
    for key in acknowledged {
        assert!(has(store, key).await?, "{key} was acknowledged but lost");
    }
    let count = store.read(|tx| async move { tx.get("count").await }).await?;
    let sum = counter(count.as_deref());
    assert!(sum >= acknowledged.len() as i64, "adds are durable too");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_that_writes_until_killed() -> TestResult {
    let Some(dir) = std::env::var_os(DIR) else {
        return Ok(());
    };
    let store = open(Path::new(&dir));
    let tasks = (0..16).map(|task| {
        let store = store.clone();
        tokio::spawn(async move {
            for number in 0_u64.. {
                write_durably(&store, format!("{}-{task}-{number}.", std::process::id())).await?;
            }
            Ok::<_, Error>(())
        })
    });
    for task in futures::future::join_all(tasks).await {
        task??;
    }
    Ok(())
}

async fn write_durably(store: &Store, key: String) -> Result<(), Error> {
    let body = |tx: Tx, _| {
        tx.set(key.clone(), vec![7; 500]);
        tx.add("count", 1);
        async { Ok::<_, Error>(()) }
    };
    store.transact(body).await?;
    println!("durable {key}");
    Ok(())
}

#[test]
fn a_full_disk_loses_nothing_and_writes_resume() -> TestResult {
    let dir = tempfile::tempdir()?;
    let output = child("lmdb::tests::child_on_a_full_disk", dir.path())?.wait_with_output()?;
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{stdout}");
    assert!(stdout.contains("disk space is available again"), "{stdout}");
    Ok(())
}

/// A file size limit simulates a full disk for one process, including short writes.
#[tokio::test]
async fn child_on_a_full_disk() -> TestResult {
    let Some(dir) = std::env::var_os(DIR) else {
        return Ok(());
    };
    let store = open(Path::new(&dir));
    let unlimited = getrlimit(Resource::Fsize);
    // Not a whole number of pages, to cause a short write.
    let current = Some(40_000_100);
    setrlimit(Resource::Fsize, Rlimit { current, ..unlimited })?;

    let mut written = 0;
    while !store.is_nearly_full() {
        set(&store, format!("row/{written}"), vec![1; 80_000]).await?;
        written += 1;
    }
    // Accepted work finishes in the reserve.
    for number in 0..50 {
        set(&store, format!("small/{number}"), vec![2; 100]).await?;
    }
    let failed = loop {
        match set(&store, format!("row/{written}"), vec![1; 80_000]).await {
            Ok(()) => written += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(failed, Error::Full);
    assert_eq!(set(&store, "large".to_owned(), vec![1; 80_000]).await, Err(Error::Full));
    for number in 0..written {
        assert!(has(&store, &format!("row/{number}")).await?, "row {number} of {written}");
    }

    setrlimit(Resource::Fsize, unlimited)?;
    // An idle store also notices that disk space is available again.
    let space_available = async {
        while store.is_nearly_full() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), space_available).await?;
    set(&store, "large".to_owned(), vec![1; 80_000]).await?;
    assert!(!store.is_nearly_full());
    drop(store);
    assert!(has(&open(Path::new(&dir)), "large").await?);
    println!("disk space is available again");
    Ok(())
}
