use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use postrider_domain::ids::{BootId, Id};

use super::*;
use crate::codec::Record;
use crate::kv::lmdb::Embedded;
use crate::kv::memory::{Faults, Memory};
use crate::kv::{Engine, MAX_VALUE, Transaction};
use crate::{Lease, OpenError, Owner, Probe, Records};

const SHARDS: u16 = 8;
/// Enough rows of many sizes for several batches.
const BIG: u64 = 40;
const SMALL: u64 = 6_000;

/// An engine that lets so many more transactions begin.
struct Mortal {
    engine: Arc<dyn Engine>,
    left: AtomicU64,
}

#[async_trait]
impl Engine for Mortal {
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

fn embedded(dir: &Path) -> Store {
    Store::new(Arc::new(Embedded::open(dir).unwrap()), 1)
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

/// A store that a node has worked on, which left a lease behind.
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

/// All rows but those that stay behind.
async fn copied(store: &Store) -> Vec<Pair> {
    let mut rows = rows(store).await;
    rows.retain(|(key, _)| !key.starts_with(&lease::all()) && !key.starts_with(&probe::all()));
    rows
}

async fn quietly(from: &Store, to: &Store) -> Result<Copied, CopyError> {
    copy(from, to, &|_| ()).await
}

#[tokio::test]
async fn everything_is_there_but_leases_and_probes() {
    let (from, to) = (memory(), memory());
    fill(&from).await;
    let before = rows(&from).await;
    let seen = Mutex::new(Vec::new());
    let done = copy(&from, &to, &|progress| seen.lock().unwrap().push(progress)).await.unwrap();
    assert_eq!(rows(&from).await, before, "the source is only read");
    assert_eq!(rows(&to).await, copied(&from).await);
    assert_eq!((done.source, done.earlier), (done.target, 0));
    assert_eq!(done.source.rows as usize, before.len() - 2);

    let seen = seen.into_inner().unwrap();
    for stage in [Stage::Reading, Stage::Copying, Stage::Comparing] {
        let of_it: Vec<_> = seen.iter().filter(|progress| progress.stage == stage).collect();
        assert!(of_it.len() > 4, "{stage:?} in several steps");
        assert!(of_it.is_sorted_by_key(|progress| progress.rows));
        assert_eq!(of_it.last().unwrap().rows, done.source.rows);
    }
}

#[tokio::test]
async fn epochs_count_on_and_nobody_is_alive() {
    let (from, to) = (memory(), memory());
    fill(&from).await;
    quietly(&from, &to).await.unwrap();
    let records = Records::open(to, SHARDS).await.unwrap();
    assert_eq!(records.leases().await.unwrap(), []);
    let owners = records.ownership(None).await.unwrap().unwrap().owners;
    assert_eq!(owners, vec![Some(Owner { epoch: 2, node: BootId::MAX }); usize::from(SHARDS)]);
    let seen: Vec<_> = (0..).zip(owners).collect();
    let fences = records.take_over(&seen, BootId::from_bytes([9; 16])).await.unwrap();
    assert!(fences.len() == usize::from(SHARDS) && fences.iter().all(|fence| fence.epoch == 3));
}

#[tokio::test]
async fn it_goes_on_wherever_it_was_killed() {
    let from = memory();
    fill(&from).await;
    let wanted = copied(&from).await;
    for lives in 0.. {
        let engine: Arc<dyn Engine> = Arc::new(Memory::new());
        let mortal = Mortal { engine: engine.clone(), left: AtomicU64::new(lives) };
        let first = quietly(&from, &Store::new(Arc::new(mortal), 1)).await;
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
        let again = quietly(&from, &to).await.unwrap();
        assert_eq!(rows(&to).await, wanted, "killed after {lives} transactions");
        assert!(Records::open(to, SHARDS).await.is_ok());
        if first.is_ok() {
            assert!(lives > 10, "in several steps");
            assert_eq!(again.earlier, again.source.rows, "it had ended, and says so");
            return;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn conflicts_and_commits_of_unknown_result_do_no_harm() {
    let from = memory();
    fill(&from).await;
    for seed in 0..8 {
        let (conflict, lost) = (0.2, 0.2);
        let delay = Duration::from_millis(20);
        let faults = Faults { conflict, lost_before_commit: lost, lost_after_commit: lost, delay };
        let memory = Memory::with_faults(seed, faults);
        let to = Store::new(Arc::new(memory.clone()), seed);
        quietly(&from, &to).await.unwrap();
        assert_eq!(rows(&to).await, copied(&from).await, "seed {seed}");
    }
}

#[tokio::test]
async fn from_one_directory_into_another() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [from, to] = [embedded(dirs[0].path()), embedded(dirs[1].path())];
    fill(&from).await;
    let done = quietly(&from, &to).await.unwrap();
    assert_eq!(done.source, done.target);
    assert_eq!(rows(&to).await, copied(&from).await);
    assert_eq!(quietly(&from, &to).await.unwrap().earlier, done.source.rows);
}

#[tokio::test]
async fn a_target_with_something_in_it_is_left_alone() {
    let from = memory();
    fill(&from).await;
    for foreign in [&b"A"[..], b"g\x06", b"g\x09", b"z"] {
        let to = memory();
        put(&to, foreign, Bytes::new()).await;
        let before = rows(&to).await;
        let refused = quietly(&from, &to).await;
        assert_eq!(refused, Err(Refusal::Occupied.into()), "{foreign:?}");
        assert_eq!(rows(&to).await, before);
    }
    let to = memory();
    Records::open(to.clone(), SHARDS).await.unwrap();
    assert_eq!(quietly(&from, &to).await, Err(Refusal::Occupied.into()));

    let to = memory();
    Probe::new(to.clone(), 1).write(1, Bytes::new()).await.unwrap();
    assert!(quietly(&from, &to).await.is_ok(), "it was only tried out");
}

#[tokio::test]
async fn a_source_that_has_changed_is_not_gone_on_with() {
    let from = memory();
    fill(&from).await;
    let engine: Arc<dyn Engine> = Arc::new(Memory::new());
    let mortal = Mortal { engine: engine.clone(), left: AtomicU64::new(3) };
    quietly(&from, &Store::new(Arc::new(mortal), 1)).await.unwrap_err();
    put(&from, b"a-big-", Bytes::new()).await;
    let to = Store::new(engine, 1);
    let before = rows(&to).await;
    assert_eq!(quietly(&from, &to).await, Err(Refusal::OtherSource.into()));
    assert_eq!(rows(&to).await, before);
    assert_eq!(quietly(&to, &memory()).await, Err(Refusal::Unfinished.into()), "nor is a part");
}

#[tokio::test]
async fn a_source_without_records_of_this_version_is_refused() {
    assert_eq!(quietly(&memory(), &memory()).await, Err(Refusal::NothingThere.into()));
    let (from, to) = (memory(), memory());
    let meta = Meta { format: FORMAT + 1, shards: 1 };
    put(&from, &meta::key(), meta.encode()).await;
    let refused = quietly(&from, &to).await;
    assert_eq!(refused, Err(Refusal::Newer { found: FORMAT + 1 }.into()));
    assert_eq!(rows(&to).await, []);
}

#[tokio::test]
async fn a_target_that_holds_something_else_in_the_end_is_not_let_loose() {
    let (from, to) = (memory(), memory());
    fill(&from).await;
    let meddler = to.clone();
    let watch = |progress: Progress| {
        if progress.stage == Stage::Comparing && progress.rows == 0 {
            let meddler = meddler.clone();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
            let meddle = move || {
                runtime.unwrap().block_on(put(&meddler, b"a-meddled", Bytes::new()));
            };
            std::thread::spawn(meddle).join().unwrap();
        }
    };
    let failed = copy(&from, &to, &watch).await;
    assert!(matches!(failed, Err(CopyError::Differs { .. })), "{failed:?}");
    let opened = Records::open(to, SHARDS).await;
    assert!(matches!(opened, Err(OpenError::Unfinished)), "{opened:?}");
}
