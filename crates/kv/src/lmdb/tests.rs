//! What only the embedded engine promises: durability, through kills and on a full disk.
//!
//! Some of the tests need a process to kill, to stop or to starve: they run this test binary again,
//! with the name of a test that plays the child's part and does nothing on its own.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::Embedded;
use super::committer::Message;
use crate::{Engine, Error, Store, Tx, counter};

mod shared;

type TestResult = Result<(), Box<dyn std::error::Error>>;

/// Transactions at once: many more than begin, or are committed, together.
const FLOOD: usize = 5_000;

/// Tells a child where its store is.
const DIR: &str = "POSTRIDER_STORE_TEST_DIR";

fn open(dir: &Path) -> Store {
    Store::new(Arc::new(Embedded::open(dir).expect("the directory opens")), 1)
}

fn child(test: &str, dir: &Path) -> std::io::Result<Child> {
    // The shell is there for the trap: a signal that is ignored stays so over an exec.
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
    let engine = Embedded::open(dir.path())?;
    let failed = async |within| tokio::time::timeout(within, engine.failed()).await;
    failed(Duration::from_millis(50)).await.expect_err("it goes on");
    engine.submissions.send(Message::Panic)?;
    failed(Duration::from_secs(20)).await?;
    Ok(())
}

#[tokio::test]
async fn an_urgent_transaction_goes_before_a_flood() -> TestResult {
    let dir = tempfile::tempdir()?;
    let store = open(dir.path());
    let mut flood = tokio::task::JoinSet::new();
    for n in 0..FLOOD {
        let store = store.clone();
        flood.spawn(async move { set(&store, format!("flood-{n}"), vec![0; 1_000]).await });
    }
    // All of them have begun, or wait to begin.
    tokio::task::yield_now().await;
    store
        .transact_urgently(|tx: Tx, _| {
            tx.set("urgent", vec![1]);
            async { Ok::<_, Error>(()) }
        })
        .await?;
    let mut through = 0;
    while let Some(done) = flood.try_join_next() {
        done??;
        through += 1;
    }
    assert!(through < FLOOD / 2, "{through} of {FLOOD} went before it");
    while let Some(done) = flood.join_next().await {
        done??;
    }
    Ok(())
}

#[tokio::test]
async fn a_store_is_found_again() -> TestResult {
    let dir = tempfile::tempdir()?;
    let store = open(dir.path());
    set(&store, "a".to_owned(), vec![1]).await?;
    drop(store);
    assert!(has(&open(dir.path()), "a").await?);
    Ok(())
}

#[tokio::test]
async fn a_store_that_was_cut_short_is_refused() -> TestResult {
    let dir = tempfile::tempdir()?;
    let store = open(dir.path());
    for number in 0..10 {
        set(&store, format!("row/{number}"), vec![1; 80_000]).await?;
    }
    drop(store);
    let data = std::fs::OpenOptions::new().write(true).open(dir.path().join("data.mdb"))?;
    for length in [400_000, 8192, 8191, 1] {
        data.set_len(length)?;
        let error = Embedded::open(dir.path()).expect_err("cut short");
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
fn the_lock_file_has_its_room() -> TestResult {
    use std::os::unix::fs::MetadataExt;

    let dir = tempfile::tempdir()?;
    let _engine = Embedded::open(dir.path())?;
    let lock = std::fs::metadata(dir.path().join("lock.mdb"))?;
    assert!(lock.blocks() * 512 >= lock.len(), "{} blocks of {}", lock.blocks(), lock.len());
    assert_eq!(lock.mode() & 0o777, 0o600);
    Ok(())
}

#[tokio::test]
async fn an_open_transaction_does_not_hold_up_the_end() -> TestResult {
    let dir = tempfile::tempdir()?;
    let engine = Embedded::open(dir.path())?;
    let tx = engine.begin().await?;
    tx.set("a".into(), "1".into());
    drop(engine);
    assert!(matches!(tx.commit().await, Err(Error::Unavailable(_))));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_that_wait_share_a_commit() -> TestResult {
    let dir = tempfile::tempdir()?;
    let engine = Arc::new(Embedded::open(dir.path())?);
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
async fn what_was_acknowledged_survives_a_kill() -> TestResult {
    let dir = tempfile::tempdir()?;
    for round in 0..3_u32 {
        let child = child("lmdb::tests::child_that_writes_until_killed", dir.path())?;
        let acknowledged = kill_after(child, 200 * (1 + round as usize))?;
        assert_holds(&open(dir.path()), &acknowledged).await?;
    }
    Ok(())
}

/// Kills a child when it has had so many answers, and gives all that it had.
fn kill_after(mut child: Child, answers: usize) -> std::io::Result<Vec<String>> {
    let mut lines = durable(&mut child);
    let mut acknowledged: Vec<_> = lines.by_ref().take(answers).collect();
    assert_eq!(acknowledged.len(), answers, "the child writes until it is killed");
    child.kill()?;
    child.wait()?;
    acknowledged.extend(lines);
    Ok(acknowledged)
}

/// The keys that a child says are durable. The test's name may stand before the first, and the last
/// may be torn, so that keys end in a dot.
fn durable(child: &mut Child) -> impl Iterator<Item = String> + use<> {
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    lines.map_while(Result::ok).filter_map(|line| {
        let (_, key) = line.split_once("durable ")?;
        key.ends_with('.').then(|| key.to_owned())
    })
}

async fn assert_holds(store: &Store, acknowledged: &[String]) -> Result<(), Error> {
    for key in acknowledged {
        assert!(has(store, key).await?, "{key} was acknowledged and lost");
    }
    let count = store.read(|tx| async move { tx.get("count").await }).await?;
    let sum = counter(count.as_deref());
    assert!(sum >= acknowledged.len() as i64, "adds are durable as well");
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
fn a_full_disk_loses_nothing_and_is_left_behind() -> TestResult {
    let dir = tempfile::tempdir()?;
    let output = child("lmdb::tests::child_on_a_full_disk", dir.path())?.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("there is room again"), "{said}");
    Ok(())
}

/// The limit on a file's size is what a full disk looks like to one process, short writes included.
#[tokio::test]
async fn child_on_a_full_disk() -> TestResult {
    let Some(dir) = std::env::var_os(DIR) else {
        return Ok(());
    };
    let store = open(Path::new(&dir));
    let unlimited = getrlimit(Resource::Fsize);
    // Not a whole number of pages, so that a write is cut short.
    let current = Some(40_000_100);
    setrlimit(Resource::Fsize, Rlimit { current, ..unlimited })?;

    let mut written = 0;
    while !store.is_nearly_full() {
        set(&store, format!("row/{written}"), vec![1; 80_000]).await?;
        written += 1;
    }
    // Work is finished in the reserve.
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
    // Nobody writes, and still the store finds that there is room.
    let emptied = async {
        while store.is_nearly_full() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), emptied).await?;
    set(&store, "large".to_owned(), vec![1; 80_000]).await?;
    assert!(!store.is_nearly_full());
    drop(store);
    assert!(has(&open(Path::new(&dir)), "large").await?);
    println!("there is room again");
    Ok(())
}
