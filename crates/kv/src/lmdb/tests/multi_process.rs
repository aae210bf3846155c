//! Tests with several processes on one store: they see each other's writes, take turns writing, and
//! survive each other's deaths.

use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::thread::JoinHandle;

use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, waitpid};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio::time::error::Elapsed;

use super::super::failpoint::{Failpoint, HANDLER};
use super::super::process::of_thread;
use super::super::reader_table::ReaderTable;
use super::*;

/// Longer than the watchdog takes to kill a stalled process.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Increments a row shared with other processes. No increment is lost only if commits validate
/// reads.
async fn increment(store: &Store, times: usize) -> Result<(), Error> {
    for _ in 0..times {
        let body = |tx: Tx, _| async move {
            let before = counter(tx.get("n").await?.as_deref());
            tx.set("n", (before + 1).to_le_bytes().to_vec());
            Ok::<_, Error>(())
        };
        store.transact(body).await?;
    }
    Ok(())
}

#[tokio::test]
async fn processes_that_share_a_store_see_each_other() -> TestResult {
    let dir = tempfile::tempdir()?;
    let store = open(dir.path());
    let children: Vec<Child> = (0..2)
        .map(|_| child("lmdb::tests::multi_process::child_that_increments", dir.path()))
        .collect::<Result<_, _>>()?;
    increment(&store, 100).await?;
    for child in children {
        let output = tokio::task::spawn_blocking(|| child.wait_with_output()).await??;
        let stdout = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{stdout}");
    }
    let total = store.read(|tx| async move { tx.get("n").await }).await?;
    assert_eq!(counter(total.as_deref()), 300);
    Ok(())
}

#[tokio::test]
async fn child_that_increments() -> TestResult {
    let Some(dir) = std::env::var_os(DIR) else {
        return Ok(());
    };
    increment(&open(Path::new(&dir)), 100).await?;
    Ok(())
}

#[tokio::test]
async fn processes_may_create_a_store_at_the_same_time() -> TestResult {
    for _ in 0..5 {
        let dir = tempfile::tempdir()?;
        let dir = dir.path().join("created/by/the/first/process");
        let children: Vec<Child> = (0..4)
            .map(|_| child("lmdb::tests::multi_process::child_that_opens", &dir))
            .collect::<Result<_, _>>()?;
        for child in children {
            let output = child.wait_with_output()?;
            let stdout = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "{stdout}");
        }
        let count = open(&dir).read(|tx| async move { tx.get("count").await }).await?;
        assert_eq!(counter(count.as_deref()), 4);
    }
    Ok(())
}

#[tokio::test]
async fn child_that_opens() -> TestResult {
    let Some(dir) = std::env::var_os(DIR) else {
        return Ok(());
    };
    write_durably(&open(Path::new(&dir)), "key.".to_owned()).await?;
    Ok(())
}

#[tokio::test]
async fn a_store_is_open_once_in_a_process() -> TestResult {
    let dir = tempfile::tempdir()?;
    let store = open(dir.path());
    Lmdb::open(dir.path()).expect_err("the store is already open");
    // The rejected attempt must not release the locks of the first.
    let mut child = child("lmdb::tests::multi_process::child_that_opens", dir.path())?;
    set(&store, "a".to_owned(), vec![1]).await?;
    assert!(child.wait()?.success());
    assert!(has(&store, "key.").await?);
    drop(store);
    assert!(has(&open(dir.path()), "key.").await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_take_turns_writing() -> TestResult {
    let dir = tempfile::tempdir()?;
    let engine = Arc::new(Lmdb::open(dir.path())?);
    let store = Store::new(engine.clone(), 1);
    let flood = BusyChild::start("lmdb::tests::multi_process::child_that_floods", dir.path())?;
    let mut tasks = flood_with(&store);
    let seen = share_of_groups(&engine).await;
    // An engine aborts the process when its directory is removed, so stop all tasks before that.
    tasks.shutdown().await;
    let (mine, all) = seen?;
    assert!((all / 5..=all * 4 / 5).contains(&mine), "{mine} groups of {all}");
    flood.kill()?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_occasional_writer_is_not_starved() -> TestResult {
    let dir = tempfile::tempdir()?;
    let engine = Arc::new(Lmdb::open(dir.path())?);
    let store = Store::new(engine.clone(), 1);
    let floods = [
        BusyChild::start("lmdb::tests::multi_process::child_that_floods", dir.path())?,
        BusyChild::start("lmdb::tests::multi_process::child_that_floods", dir.path())?,
    ];
    let mut waits = Vec::new();
    for number in 0..40 {
        let (version, begun) = (engine.version(), Instant::now());
        set(&store, number.to_string(), vec![1]).await?;
        waits.push((engine.version() - version, begun.elapsed()));
        while engine.version() < version + 8 {
            tokio::task::yield_now().await;
        }
    }
    waits.sort_unstable();
    // The group being written, one per process already waiting, and our own. On a busy machine a
    // thread may be late to take its place in the queue.
    assert!(waits[waits.len() / 2].0 <= 5, "{waits:?}");
    let longest = waits.iter().map(|(_, wait)| *wait).max().expect("there are waits");
    assert!(longest < Duration::from_secs(2), "{waits:?}");
    for flood in floods {
        flood.kill()?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_that_floods() -> TestResult {
    let Some(dir) = std::env::var_os(DIR) else {
        return Ok(());
    };
    let store = open(Path::new(&dir));
    let mut tasks = flood_with(&store);
    write_durably(&store, format!("{}.", std::process::id())).await?;
    while tasks.join_next().await.is_some() {}
    Ok(())
}

/// Always has more to commit than fits in a group, and so requests the lock again at once.
fn flood_with(store: &Store) -> JoinSet<Result<(), Error>> {
    let flood = |task: u32| {
        let store = store.clone();
        async move {
            loop {
                set(&store, task.to_string(), vec![7]).await?;
            }
        }
    };
    (0..1500).map(flood).collect()
}

/// This process's groups and all processes' groups, over a period.
async fn share_of_groups(engine: &Lmdb) -> Result<(u64, u64), Elapsed> {
    tokio::time::timeout(TIMEOUT, has_written(engine, 1)).await?;
    let (groups, version) = (engine.stats().groups, engine.version());
    tokio::time::timeout(TIMEOUT, has_written(engine, version + 200)).await?;
    Ok((engine.stats().groups - groups, engine.version() - version))
}

async fn has_written(engine: &Lmdb, version: u64) {
    while engine.stats().groups == 0 || engine.version() < version {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_stops_within_a_group_is_killed() -> TestResult {
    let dir = tempfile::tempdir()?;
    let store = open(dir.path());
    let (child, acknowledged) =
        spawn_until_stopped("lmdb::tests::multi_process::child_that_stops_in_a_group", dir.path())?;
    let key = "written after all".to_owned();
    tokio::time::timeout(TIMEOUT, set(&store, key, vec![1])).await??;
    assert_killed(child)?;
    assert_holds(&store, &acknowledged).await?;
    assert!(!has(&store, "not committed.").await?);
    Ok(())
}

#[tokio::test]
async fn child_that_stops_in_a_group() -> TestResult {
    child_with_failpoint(|failpoint| {
        if failpoint == Failpoint::GroupApplied {
            stop_forever();
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_hangs_within_a_group_is_killed() -> TestResult {
    let dir = tempfile::tempdir()?;
    let store = open(dir.path());
    let mut child =
        ChildGuard(child("lmdb::tests::multi_process::child_that_hangs_in_a_group", dir.path())?);
    let lines: Vec<_> = durable(&mut child.0).take(2).collect();
    assert_eq!(lines, ["committed.", "hanging."]);
    let written = async {
        // Each write times out before the watchdog acts.
        while set(&store, "a".to_owned(), vec![1]).await.is_err() {}
    };
    tokio::time::timeout(TIMEOUT, written).await?;
    assert_killed(child)?;
    assert!(has(&store, "committed.").await?);
    assert!(!has(&store, "not committed.").await?);
    Ok(())
}

#[tokio::test]
async fn child_that_hangs_in_a_group() -> TestResult {
    child_with_failpoint(|failpoint| {
        if failpoint == Failpoint::GroupApplied {
            println!("durable hanging.");
            park_forever();
        }
    })
    .await
}

/// Processes that are only opening the store must be unblocked too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_stops_with_the_queue_lock_is_killed() -> TestResult {
    let dir = tempfile::tempdir()?;
    let (child, acknowledged) = spawn_until_stopped(
        "lmdb::tests::multi_process::child_that_stops_with_the_queue_lock",
        dir.path(),
    )?;
    let path = dir.path().to_owned();
    let store = tokio::task::spawn_blocking(move || open(&path));
    let store = tokio::time::timeout(TIMEOUT, store).await??;
    assert_killed(child)?;
    assert_holds(&store, &acknowledged).await?;
    Ok(())
}

#[tokio::test]
async fn child_that_stops_with_the_queue_lock() -> TestResult {
    child_with_failpoint(|failpoint| {
        if failpoint == Failpoint::Queued {
            stop_forever();
        }
    })
    .await
}

/// There is no failpoint inside LMDB: the child is stopped repeatedly until it holds the mutex.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_stops_as_a_snapshot_begins_is_killed() -> TestResult {
    let dir = tempfile::tempdir()?;
    let store = open(dir.path());
    let child =
        ChildGuard(child("lmdb::tests::multi_process::child_that_only_begins", dir.path())?);
    let reader_table = ReaderTable::new(Arc::new(File::open(dir.path().join("lock.mdb"))?));
    let begun = Instant::now();
    loop {
        assert!(begun.elapsed() < TIMEOUT, "the child never held the mutex");
        kill_process(pid(&child.0), Signal::STOP)?;
        waitpid(Some(pid(&child.0)), WaitOptions::UNTRACED)?;
        if let Some(thread) = reader_table.lock_holder_thread()? {
            assert_eq!(of_thread(thread)?, pid(&child.0));
            break;
        }
        kill_process(pid(&child.0), Signal::CONT)?;
        tokio::task::yield_now().await;
    }
    // In a separate task, as it blocks its thread.
    let reading = tokio::spawn(async move { has(&store, "a").await });
    assert!(!tokio::time::timeout(TIMEOUT, reading).await???);
    assert_killed(child)?;
    // Closing the file would release this process's locks on it.
    std::mem::forget(reader_table);
    Ok(())
}

#[tokio::test]
async fn child_that_only_begins() -> TestResult {
    let Some(dir) = std::env::var_os(DIR) else {
        return Ok(());
    };
    let engine = Lmdb::open(Path::new(&dir))?;
    loop {
        drop(engine.begin().await?);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_stops_elsewhere_is_left_alone() -> TestResult {
    let dir = tempfile::tempdir()?;
    let store = open(dir.path());
    let (mut child, acknowledged) =
        spawn_until_stopped("lmdb::tests::multi_process::child_that_stops_at_rest", dir.path())?;
    let busy = BusyChild::start(CHILD_THAT_WRITES, dir.path())?;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(4) {
        set(&store, "a".to_owned(), vec![1]).await?;
    }
    std::fs::write(dir.path().join("go"), "")?;
    kill_process(pid(&child.0), Signal::CONT)?;
    let status = child.0.wait()?;
    assert!(status.success(), "{status:?}");
    assert!(has(&store, "after the stop.").await?);
    assert_holds(&store, &acknowledged).await?;
    busy.kill()?;
    Ok(())
}

#[tokio::test]
async fn child_that_stops_at_rest() -> TestResult {
    let Some(dir) = std::env::var_os(DIR) else {
        return Ok(());
    };
    let store = open(Path::new(&dir));
    write_durably(&store, "before the stop.".to_owned()).await?;
    stop();
    while !Path::new(&dir).join("go").exists() {
        tokio::task::yield_now().await;
    }
    write_durably(&store, "after the stop.".to_owned()).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_process_does_not_affect_others() -> TestResult {
    let dir = tempfile::tempdir()?;
    let store = open(dir.path());
    let others = [
        BusyChild::start(CHILD_THAT_WRITES, dir.path())?,
        BusyChild::start(CHILD_THAT_WRITES, dir.path())?,
    ];
    let mut acknowledged = Vec::new();
    for round in 0..8 {
        let victim = child(CHILD_THAT_WRITES, dir.path())?;
        acknowledged.extend(kill_after(victim, 20 + 37 * round)?);
        tokio::time::timeout(TIMEOUT, set(&store, "mine".to_owned(), vec![1])).await??;
    }
    for other in others {
        let keys = other.kill()?;
        assert!(!keys.is_empty());
        acknowledged.extend(keys);
    }
    assert_holds(&store, &acknowledged).await?;
    Ok(())
}

const CHILD_THAT_WRITES: &str = "lmdb::tests::child_that_writes_until_killed";

/// A child that writes continuously until this is dropped.
struct BusyChild {
    child: ChildGuard,
    acknowledged: JoinHandle<Vec<String>>,
}

/// Kills the child even if the test fails.
struct ChildGuard(Child);

impl Drop for ChildGuard {
    fn drop(&mut self) {
        // The child may already have exited and been reaped.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl BusyChild {
    /// Returns once the child is writing.
    fn start(test: &str, dir: &Path) -> std::io::Result<Self> {
        let mut child = child(test, dir)?;
        let mut lines = durable(&mut child);
        let first = lines.next().expect("the child writes");
        let acknowledged = std::thread::spawn(|| std::iter::once(first).chain(lines).collect());
        Ok(Self { child: ChildGuard(child), acknowledged })
    }

    /// Kills the child, which must still be running, and returns the keys that it wrote.
    fn kill(mut self) -> std::io::Result<Vec<String>> {
        assert_eq!(self.child.0.try_wait()?, None, "the child is still writing");
        self.child.0.kill()?;
        self.child.0.wait()?;
        Ok(self.acknowledged.join().expect("no panic"))
    }
}

/// Starts a child that stops itself, and waits for that. Returns the keys written before.
fn spawn_until_stopped(test: &str, dir: &Path) -> std::io::Result<(ChildGuard, Vec<String>)> {
    let mut child = child(test, dir)?;
    let mut lines = durable(&mut child);
    let acknowledged = lines.by_ref().take(1).collect();
    let (_, status) = waitpid(Some(pid(&child)), WaitOptions::UNTRACED)?.expect("waitpid blocks");
    assert!(status.stopped(), "{status:?}");
    // Keep reading the pipe: the child writes again after it continues.
    std::thread::spawn(|| lines.count());
    Ok((ChildGuard(child), acknowledged))
}

fn pid(child: &Child) -> Pid {
    Pid::from_child(child)
}

fn assert_killed(mut child: ChildGuard) -> std::io::Result<()> {
    let status = child.0.wait()?;
    assert_eq!(status.signal(), Some(Signal::KILL.as_raw()), "{status:?}");
    Ok(())
}

/// Writes once, sets the failpoint handler, and writes again.
async fn child_with_failpoint(handler: fn(Failpoint)) -> TestResult {
    let Some(dir) = std::env::var_os(DIR) else {
        return Ok(());
    };
    let store = open(Path::new(&dir));
    write_durably(&store, "committed.".to_owned()).await?;
    HANDLER.set(handler).expect("the handler is set once");
    write_durably(&store, "not committed.".to_owned()).await?;
    Ok(())
}

/// The signal is sent to the process, so this thread may continue for a moment.
fn stop() {
    kill_process(getpid(), Signal::STOP).expect("a process may stop itself");
}

/// Stops the process, and parks this thread until the signal takes effect.
fn stop_forever() {
    stop();
    park_forever();
}

fn park_forever() {
    loop {
        std::thread::park();
    }
}
