use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use postrider_domain::ids::{BootId, Id};

use super::*;
use crate::codec::Record;
use crate::kv::lmdb::Lmdb;
use crate::kv::memory::{Faults, Memory};
use crate::kv::{Engine, MAX_VALUE, Transaction};
use crate::{Lease, OpenError, Owner, Probe, Records};

const SHARDS: u16 = 8;
/// Enough rows of many sizes for several batches.
const BIG: u64 = 40;
const SMALL: u64 = 6_000;

/// An engine that fails after a number of transactions.
struct DyingEngine {
    engine: Arc<dyn Engine>,
    left: AtomicU64,
}

#[async_trait]
impl Engine for DyingEngine {
    async fn begin(&self) -> Result<Box<dyn Transaction>, Error> {
        let left =
            self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
        left.map_err(|_| Error::Unavailable("killed".to_owned()))?;
        self.engine.begin().await
    }
}

fn memory() -> Store {
    Store::new(Arc::new(Memory::new()), 1)
}

fn open_lmdb(dir: &Path) -> Store {
    Store::new(Arc::new(Lmdb::open(dir).unwrap()), 1)
}

async fn put(store: &Store, key: &[u8], value: Bytes) {
    let value = &value;
    store
        .transact(|tx, _| async move {
            tx.set(key, value.clone());
            Ok::<_, Error>(())
        })
        .await
        .unwrap();
}

/// Fills the store as if by a node that left a lease behind.
async fn fill(store: &Store) {
    let records = Records::open(store.clone(), SHARDS).await.unwrap();
    let shards: Vec<_> = (0..SHARDS).collect();
    for node in [BootId::MIN, BootId::MAX] {
        records.claim(&shards, node).await.unwrap();
    }
    let (name, version) = ("one".to_owned(), "1".to_owned());
    let (address, draining, revision) = (None, false, 7);
    let lease =
        Lease { node: BootId::MAX, name, address, version, draining, revision, is_readable: true };
    records.renew_lease(&lease).await.unwrap();
    Probe::new(store.clone(), 5).write(1, Bytes::from_static(b"left behind")).await.unwrap();
    let small = |n: u64| ([b"a-small-".as_slice(), &n.to_be_bytes()].concat(), n.to_be_bytes());
    store
        .transact(|tx, _| async move {
            for (key, value) in (0..SMALL).map(small) {
                tx.set(key, value.to_vec());
            }
            Ok::<_, Error>(())
        })
        .await
        .unwrap();
    for n in 0..BIG {
        let length = MAX_VALUE - usize::try_from(n * 1_000).unwrap();
        put(store, &[b"a-big-".as_slice(), &n.to_be_bytes()].concat(), vec![7; length].into())
            .await;
    }
}

async fn rows(store: &Store) -> Vec<Pair> {
    let all = Range::new([], prefix_end(&[]));
    let all = &all;
    store.read(|tx| async move { tx.snap_range(all.clone()).await }).await.unwrap() as Vec<Pair>
}

/// All rows that are copied.
async fn copied(store: &Store) -> Vec<Pair> {
    let mut rows = rows(store).await;
    rows.retain(|(key, _)| !key.starts_with(&lease::all()) && !key.starts_with(&probe::all()));
    rows
}

async fn copy_silently(from: &Store, to: &Store) -> Result<CopySummary, CopyError> {
    copy(from, to, &|_| ()).await
}

#[tokio::test]
async fn everything_but_leases_and_probes_is_copied() {
    let (from, to) = (memory(), memory());
    fill(&from).await;
    let before = rows(&from).await;
    let seen = Mutex::new(Vec::new());
    let done = copy(&from, &to, &|progress| seen.lock().push(progress)).await.unwrap();
    assert_eq!(rows(&from).await, before, "the source is only read");
    assert_eq!(rows(&to).await, copied(&from).await);
    assert_eq!((done.source, done.resumed_rows), (done.target, 0));
    assert_eq!(done.source.rows as usize, before.len() - 2);

    let seen = seen.into_inner();
    for stage in [Stage::Reading, Stage::Copying, Stage::Comparing] {
        let in_stage: Vec<_> = seen.iter().filter(|progress| progress.stage == stage).collect();
        assert!(in_stage.len() > 4, "{stage:?} in several steps");
        assert!(in_stage.is_sorted_by_key(|progress| progress.rows));
        assert_eq!(in_stage.last().unwrap().rows, done.source.rows);
    }
}

#[tokio::test]
async fn epochs_continue_and_no_node_is_alive() {
    let (from, to) = (memory(), memory());
    fill(&from).await;
    copy_silently(&from, &to).await.unwrap();
    let records = Records::open(to, SHARDS).await.unwrap();
    assert_eq!(records.leases().await.unwrap(), []);
    let owners = records.ownership(None).await.unwrap().unwrap().owners;
    assert_eq!(owners, vec![Some(Owner { epoch: 2, node: BootId::MAX }); usize::from(SHARDS)]);
    let seen: Vec<_> = (0..).zip(owners).collect();
    let fences = records.take_over(&seen, BootId::from_bytes([9; 16])).await.unwrap();
    assert!(fences.len() == usize::from(SHARDS) && fences.iter().all(|fence| fence.epoch == 3));
}

#[tokio::test]
async fn an_interrupted_copy_resumes_at_any_point() {
    let from = memory();
    fill(&from).await;
    let wanted = copied(&from).await;
    for limit in 0.. {
        let engine: Arc<dyn Engine> = Arc::new(Memory::new());
        let dying = DyingEngine { engine: engine.clone(), left: AtomicU64::new(limit) };
        let first = copy_silently(&from, &Store::new(Arc::new(dying), 1)).await;
        let to = Store::new(engine, 1);
        let has_begun = !rows(&to).await.is_empty();
        let opened = if has_begun { Some(Records::open(to.clone(), SHARDS).await) } else { None };
        match first {
            Ok(_) => assert!(opened.unwrap().is_ok()),
            Err(CopyError::Target(_)) => {
                assert!(matches!(opened, None | Some(Err(OpenError::Unfinished))), "{opened:?}");
            }
            Err(other) => panic!("{other}"),
        }
        let resumed = copy_silently(&from, &to).await.unwrap();
        assert_eq!(rows(&to).await, wanted, "killed after {limit} transactions");
        assert!(Records::open(to, SHARDS).await.is_ok());
        if first.is_ok() {
            assert!(limit > 10, "in several steps");
            assert_eq!(
                resumed.resumed_rows, resumed.source.rows,
                "the copy had finished, and reports it"
            );
            return;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn conflicts_and_unknown_commits_are_harmless() {
    let from = memory();
    fill(&from).await;
    for seed in 0..8 {
        let (conflict, lost) = (0.2, 0.2);
        let delay = Duration::from_millis(20);
        let faults = Faults { conflict, lost_before_commit: lost, lost_after_commit: lost, delay };
        let memory = Memory::with_faults(seed, faults);
        let to = Store::new(Arc::new(memory.clone()), seed);
        copy_silently(&from, &to).await.unwrap();
        assert_eq!(rows(&to).await, copied(&from).await, "seed {seed}");
    }
}

#[tokio::test]
async fn copies_from_one_directory_to_another() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [from, to] = [open_lmdb(dirs[0].path()), open_lmdb(dirs[1].path())];
    fill(&from).await;
    let done = copy_silently(&from, &to).await.unwrap();
    assert_eq!(done.source, done.target);
    assert_eq!(rows(&to).await, copied(&from).await);
    assert_eq!(copy_silently(&from, &to).await.unwrap().resumed_rows, done.source.rows);
}

#[tokio::test]
async fn a_target_that_is_not_empty_is_rejected() {
    let from = memory();
    fill(&from).await;
    for foreign in [&b"A"[..], b"g\x06", b"g\x09", b"z"] {
        let to = memory();
        put(&to, foreign, Bytes::new()).await;
        let before = rows(&to).await;
        let rejected = copy_silently(&from, &to).await;
        assert_eq!(rejected, Err(CopyRejected::TargetNotEmpty.into()), "{foreign:?}");
        assert_eq!(rows(&to).await, before);
    }
    let to = memory();
    Records::open(to.clone(), SHARDS).await.unwrap();
    assert_eq!(copy_silently(&from, &to).await, Err(CopyRejected::TargetNotEmpty.into()));

    let to = memory();
    Probe::new(to.clone(), 1).write(1, Bytes::new()).await.unwrap();
    assert!(copy_silently(&from, &to).await.is_ok(), "probes are ignored");
}

#[tokio::test]
async fn a_copy_of_a_changed_source_does_not_resume() {
    let from = memory();
    fill(&from).await;
    let engine: Arc<dyn Engine> = Arc::new(Memory::new());
    let dying = DyingEngine { engine: engine.clone(), left: AtomicU64::new(3) };
    copy_silently(&from, &Store::new(Arc::new(dying), 1)).await.unwrap_err();
    put(&from, b"a-big-", Bytes::new()).await;
    let to = Store::new(engine, 1);
    let before = rows(&to).await;
    assert_eq!(copy_silently(&from, &to).await, Err(CopyRejected::SourceMismatch.into()));
    assert_eq!(rows(&to).await, before);
    assert_eq!(
        copy_silently(&to, &memory()).await,
        Err(CopyRejected::SourceUnfinished.into()),
        "an unfinished copy is not a source"
    );
}

#[tokio::test]
async fn a_source_without_records_of_this_version_is_rejected() {
    assert_eq!(copy_silently(&memory(), &memory()).await, Err(CopyRejected::EmptySource.into()));
    let (from, to) = (memory(), memory());
    let meta = Meta { format: FORMAT + 1, shards: 1 };
    put(&from, &meta::key(), meta.encode()).await;
    let rejected = copy_silently(&from, &to).await;
    assert_eq!(rejected, Err(CopyRejected::Newer { found: FORMAT + 1 }.into()));
    assert_eq!(rows(&to).await, []);
}

#[tokio::test]
async fn a_target_that_differs_after_the_copy_cannot_be_opened() {
    let (from, to) = (memory(), memory());
    fill(&from).await;
    let intruder = to.clone();
    let on_progress = |progress: Progress| {
        if progress.stage == Stage::Comparing && progress.rows == 0 {
            let intruder = intruder.clone();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
            let write = move || {
                runtime.unwrap().block_on(put(&intruder, b"a-meddled", Bytes::new()));
            };
            std::thread::spawn(write).join().unwrap();
        }
    };
    let failed = copy(&from, &to, &on_progress).await;
    assert!(matches!(failed, Err(CopyError::Differs { .. })), "{failed:?}");
    let opened = Records::open(to, SHARDS).await;
    assert!(matches!(opened, Err(OpenError::Unfinished)), "{opened:?}");
}
