//! What holds when several processes have the store open: they see each other, write in turn, and
//! outlive each other, however one of them ends.

use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::thread::JoinHandle;

use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, waitpid};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio::time::error::Elapsed;

use super::super::hook::{HOOK, Stage};
use super::super::process::of_thread;
use super::super::readers::Readers;
use super::*;

/// Longer than a watchdog watches before it kills.
const PATIENCE: Duration = Duration::from_secs(30);

/// Reads and writes what the others do: nothing is lost only if reads are checked at the commit.
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
        .map(|_| child("lmdb::tests::shared::child_that_increments", dir.path()))
        .collect::<Result<_, _>>()?;
    increment(&store, 100).await?;
    for child in children {
        let output = tokio::task::spawn_blocking(|| child.wait_with_output()).await??;
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said}");
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
async fn processes_may_make_a_store_at_the_same_time() -> TestResult {
    for _ in 0..5 {
        let dir = tempfile::tempdir()?;
        let dir = dir.path().join("made/by/whoever/comes/first");
        let children: Vec<Child> = (0..4)
            .map(|_| child("lmdb::tests::shared::child_that_opens", &dir))
            .collect::<Result<_, _>>()?;
        for child in children {
            let output = child.wait_with_output()?;
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "{said}");
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
    Embedded::open(dir.path()).expect_err("it is open");
    // The refused attempt must not have cost the first its locks.
    let mut child = child("lmdb::tests::shared::child_that_opens", dir.path())?;
    set(&store, "a".to_owned(), vec![1]).await?;
    assert!(child.wait()?.success());
    assert!(has(&store, "key.").await?);
    drop(store);
    assert!(has(&open(dir.path()), "key.").await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_write_in_turn() -> TestResult {
    let dir = tempfile::tempdir()?;
    let engine = Arc::new(Embedded::open(dir.path())?);
    let store = Store::new(engine.clone(), 1);
    let flood = Busy::start("lmdb::tests::shared::child_that_floods", dir.path())?;
    let mut tasks = flood_with(&store);
    let seen = share_of_the_turns(&engine).await;
    // An engine ends its process when its directory is gone, so no task may keep it until then.
    tasks.shutdown().await;
    let (mine, all) = seen?;
    assert!((all / 5..=all * 4 / 5).contains(&mine), "{mine} groups of {all}");
    flood.kill()?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_writes_now_and_then_is_not_overtaken() -> TestResult {
    let dir = tempfile::tempdir()?;
    let engine = Arc::new(Embedded::open(dir.path())?);
    let store = Store::new(engine.clone(), 1);
    let floods = [
        Busy::start("lmdb::tests::shared::child_that_floods", dir.path())?,
        Busy::start("lmdb::tests::shared::child_that_floods", dir.path())?,
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
    // The group that is being written, one of each that waits already, and one's own. Where the
    // machine is busy, a thread may be late for its place in the queue.
    assert!(waits[waits.len() / 2].0 <= 5, "{waits:?}");
    let longest = waits.iter().map(|(_, wait)| *wait).max().expect("there were some");
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

/// Always has more to commit than goes into a group, and so wants the lock again at once.
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

/// How many of the next groups of all processes are this one's.
async fn share_of_the_turns(engine: &Embedded) -> Result<(u64, u64), Elapsed> {
    tokio::time::timeout(PATIENCE, has_written(engine, 1)).await?;
    let (groups, version) = (engine.stats().groups, engine.version());
    tokio::time::timeout(PATIENCE, has_written(engine, version + 200)).await?;
    Ok((engine.stats().groups - groups, engine.version() - version))
}

async fn has_written(engine: &Embedded, version: u64) {
    while engine.stats().groups == 0 || engine.version() < version {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_stops_within_a_group_is_killed() -> TestResult {
    let dir = tempfile::tempdir()?;
    let store = open(dir.path());
    let (child, acknowledged) =
        stopped("lmdb::tests::shared::child_that_stops_in_a_group", dir.path())?;
    let key = "written after all".to_owned();
    tokio::time::timeout(PATIENCE, set(&store, key, vec![1])).await??;
    assert_killed(child)?;
    assert_holds(&store, &acknowledged).await?;
    assert!(!has(&store, "not committed.").await?);
    Ok(())
}

#[tokio::test]
async fn child_that_stops_in_a_group() -> TestResult {
    child_that_stops(|stage| {
        if stage == Stage::Group {
            stop_for_good();
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_hangs_within_a_group_is_killed() -> TestResult {
    let dir = tempfile::tempdir()?;
    let store = open(dir.path());
    let mut child = Ended(child("lmdb::tests::shared::child_that_hangs_in_a_group", dir.path())?);
    let lines: Vec<_> = durable(&mut child.0).take(2).collect();
    assert_eq!(lines, ["committed.", "hanging."]);
    let written = async {
        // Each of them gives up before the watchdog does.
        while set(&store, "a".to_owned(), vec![1]).await.is_err() {}
    };
    tokio::time::timeout(PATIENCE, written).await?;
    assert_killed(child)?;
    assert!(has(&store, "committed.").await?);
    assert!(!has(&store, "not committed.").await?);
    Ok(())
}

#[tokio::test]
async fn child_that_hangs_in_a_group() -> TestResult {
    child_that_stops(|stage| {
        if stage == Stage::Group {
            println!("durable hanging.");
            stay();
        }
    })
    .await
}

/// The others are to be let in even when they have only come to open the store.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_stops_with_the_turn_is_killed() -> TestResult {
    let dir = tempfile::tempdir()?;
    let (child, acknowledged) =
        stopped("lmdb::tests::shared::child_that_stops_with_the_turn", dir.path())?;
    let path = dir.path().to_owned();
    let store = tokio::task::spawn_blocking(move || open(&path));
    let store = tokio::time::timeout(PATIENCE, store).await??;
    assert_killed(child)?;
    assert_holds(&store, &acknowledged).await?;
    Ok(())
}

#[tokio::test]
async fn child_that_stops_with_the_turn() -> TestResult {
    child_that_stops(|stage| {
        if stage == Stage::Turn {
            stop_for_good();
        }
    })
    .await
}

/// No hook reaches into LMDB: the child is stopped again and again, until it has the lock.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_stops_as_a_snapshot_begins_is_killed() -> TestResult {
    let dir = tempfile::tempdir()?;
    let store = open(dir.path());
    let child = Ended(child("lmdb::tests::shared::child_that_only_begins", dir.path())?);
    let readers = Readers::new(Arc::new(File::open(dir.path().join("lock.mdb"))?));
    let begun = Instant::now();
    loop {
        assert!(begun.elapsed() < PATIENCE, "the child never had the lock");
        kill_process(pid(&child.0), Signal::STOP)?;
        waitpid(Some(pid(&child.0)), WaitOptions::UNTRACED)?;
        if let Some(thread) = readers.thread()? {
            assert_eq!(of_thread(thread)?, pid(&child.0));
            break;
        }
        kill_process(pid(&child.0), Signal::CONT)?;
        tokio::task::yield_now().await;
    }
    // On a thread of its own, as it blocks.
    let reading = tokio::spawn(async move { has(&store, "a").await });
    assert!(!tokio::time::timeout(PATIENCE, reading).await???);
    assert_killed(child)?;
    // To close the file ends this process's locks on it.
    std::mem::forget(readers);
    Ok(())
}

#[tokio::test]
async fn child_that_only_begins() -> TestResult {
    let Some(dir) = std::env::var_os(DIR) else {
        return Ok(());
    };
    let engine = Embedded::open(Path::new(&dir))?;
    loop {
        drop(engine.begin().await?);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_stops_elsewhere_is_left_alone() -> TestResult {
    let dir = tempfile::tempdir()?;
    let store = open(dir.path());
    let (mut child, acknowledged) =
        stopped("lmdb::tests::shared::child_that_stops_at_rest", dir.path())?;
    let busy = Busy::start(WRITES, dir.path())?;
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
async fn a_kill_harms_nobody_else() -> TestResult {
    let dir = tempfile::tempdir()?;
    let store = open(dir.path());
    let others = [Busy::start(WRITES, dir.path())?, Busy::start(WRITES, dir.path())?];
    let mut acknowledged = Vec::new();
    for round in 0..8 {
        let victim = child(WRITES, dir.path())?;
        acknowledged.extend(kill_after(victim, 20 + 37 * round)?);
        tokio::time::timeout(PATIENCE, set(&store, "mine".to_owned(), vec![1])).await??;
    }
    for other in others {
        let keys = other.kill()?;
        assert!(!keys.is_empty());
        acknowledged.extend(keys);
    }
    assert_holds(&store, &acknowledged).await?;
    Ok(())
}

const WRITES: &str = "lmdb::tests::child_that_writes_until_killed";

/// A child that writes as fast as it can, until this is dropped.
struct Busy {
    child: Ended,
    acknowledged: JoinHandle<Vec<String>>,
}

/// A child that does not outlive a test that fails.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // It may have ended, and been waited for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Busy {
    /// When this returns, the child is writing.
    fn start(test: &str, dir: &Path) -> std::io::Result<Self> {
        let mut child = child(test, dir)?;
        let mut lines = durable(&mut child);
        let first = lines.next().expect("the child writes");
        let acknowledged = std::thread::spawn(|| std::iter::once(first).chain(lines).collect());
        Ok(Self { child: Ended(child), acknowledged })
    }

    /// Ends the child, which must still be there, and tells what it has written.
    fn kill(mut self) -> std::io::Result<Vec<String>> {
        assert_eq!(self.child.0.try_wait()?, None, "it was writing");
        self.child.0.kill()?;
        self.child.0.wait()?;
        Ok(self.acknowledged.join().expect("no panic"))
    }
}

/// Starts a child that stops itself, and waits until it has; with the keys it wrote before.
fn stopped(test: &str, dir: &Path) -> std::io::Result<(Ended, Vec<String>)> {
    let mut child = child(test, dir)?;
    let mut lines = durable(&mut child);
    let acknowledged = lines.by_ref().take(1).collect();
    let (_, status) = waitpid(Some(pid(&child)), WaitOptions::UNTRACED)?.expect("it blocks");
    assert!(status.stopped(), "{status:?}");
    // The pipe must stay open: the child writes on when it goes on.
    std::thread::spawn(|| lines.count());
    Ok((Ended(child), acknowledged))
}

fn pid(child: &Child) -> Pid {
    Pid::from_child(child)
}

fn assert_killed(mut child: Ended) -> std::io::Result<()> {
    let status = child.0.wait()?;
    assert_eq!(status.signal(), Some(Signal::KILL.as_raw()), "{status:?}");
    Ok(())
}

/// Writes, and then again with the hook in place.
async fn child_that_stops(hook: fn(Stage)) -> TestResult {
    let Some(dir) = std::env::var_os(DIR) else {
        return Ok(());
    };
    let store = open(Path::new(&dir));
    write_durably(&store, "committed.".to_owned()).await?;
    HOOK.set(hook).expect("this process has no other test");
    write_durably(&store, "not committed.".to_owned()).await?;
    Ok(())
}

/// The signal is the process's, and this thread may run on before it stops.
fn stop() {
    kill_process(getpid(), Signal::STOP).expect("a process may stop itself");
}

/// Where the signal finds this thread, however late it comes.
fn stop_for_good() {
    stop();
    stay();
}

fn stay() {
    loop {
        std::thread::park();
    }
}
