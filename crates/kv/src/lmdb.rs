//! The LMDB engine: a local store shared by the processes of one host.
//!
//! Participants: transactions read from LMDB snapshots on the thread of their task, and buffer
//! their writes. One [`committer`] thread per process acquires the [write lock](write_lock),
//! validates and applies all queued transactions, and makes them durable in a single commit. One
//! [`watchdog`] thread per process inspects the [`process`] that holds the lock, and kills it on a
//! [`stall`]. [`files`] checks the files before they are mapped. [`disk_reserve`] keeps disk
//! space in reserve, and distinguishes a full disk from a failed one.
//!
//! Data flow: a commit sends the transaction's [`Buffer`] to the committer over a bounded channel
//! and waits for the reply. It releases the snapshot first, since an open snapshot keeps LMDB from
//! reusing pages freed after it.

mod committer;
mod disk_reserve;
#[cfg(test)]
mod failpoint;
mod files;
mod process;
mod reader_table;
mod stall;
#[cfg(test)]
mod tests;
mod watchdog;
mod write_lock;

use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use async_trait::async_trait;
use bytes::Bytes;
use heed::types::Bytes as Raw;
use heed::{AnyTls, CommitOrAbort, Env, EnvOpenOptions, MdbError, RoTxn, WithoutTls};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};

use crate::{
    Buffer, Counters, Engine, Error, FileStats, Pair, Range, Snapshot, Stats, Transaction,
};
use committer::{Committer, CommitterMsg, Submission, Urgent};
use disk_reserve::DiskReserve;
use files::FileError;
use watchdog::Watchdog;
use write_lock::{WriteGuard, WriteLock};

/// The size of the memory map. This is address space, not memory, and limits the file's size.
const MAP_SIZE: usize = 1 << 40;
/// The number of reader slots in the lock file, shared by all processes: enough for sixteen
/// processes.
const MAX_READERS: u32 = 4096;
/// The maximum number of open snapshots per process; further transactions wait to begin.
const MAX_SNAPSHOTS: usize = 256 - MAX_URGENT;
/// The maximum number of concurrent urgent transactions, from begin to commit; further ones wait to
/// begin.
const MAX_URGENT: usize = 16;
/// The maximum number of transactions queued for the committer; further ones are rejected.
const MAX_QUEUED: usize = 8192;

/// Held while this process opens a store, so that no store is opened twice.
static OPENING: Mutex<()> = Mutex::new(());

type Rows = heed::Database<'static, Raw, Raw>;

/// A store in a directory on the local disk.
pub struct Lmdb {
    /// Declared before `env`, so that it is dropped first. The store cannot be reopened while `env`
    /// exists; closing the lock files later would release the locks of the new [`WriteLock`].
    _watchdog: Watchdog,
    env: Env<WithoutTls>,
    rows: Rows,
    snapshots: Arc<Semaphore>,
    urgent_snapshots: Arc<Semaphore>,
    urgent: Urgent,
    status: Arc<Status>,
    submissions: SyncSender<CommitterMsg>,
    committer: Option<JoinHandle<()>>,
    /// Closed when the committer thread ends.
    committer_alive: watch::Receiver<()>,
    /// Declared after `env`, so that it is dropped after it: see [`files::allocate_lock_file`].
    lock_file: Arc<File>,
}

/// State that the committer publishes.
struct Status {
    counters: Counters,
    nearly_full: AtomicBool,
}

/// The directory could not be opened as a store.
#[derive(Debug, thiserror::Error)]
#[error("cannot open the store in {}", path.display())]
pub struct OpenError {
    path: PathBuf,
    source: FileError,
}

impl Lmdb {
    /// Opens the store in `dir`, creating both if necessary. A process may open a directory once;
    /// several processes may have it open at the same time. They must share a host and a pid
    /// namespace, as LMDB and the watchdog identify processes by pid. The disk must be local.
    ///
    /// A process that is stopped or frozen while it holds a lock of the store is killed by the
    /// others.
    ///
    /// # Errors
    /// If the directory or its files cannot be created, opened or locked, or do not form a store.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        Self::open_with(dir, MAP_SIZE)
    }

    fn open_with(dir: &Path, map_size: usize) -> Result<Self, OpenError> {
        Self::try_open(dir, map_size).map_err(|source| OpenError { path: dir.to_owned(), source })
    }

    fn try_open(dir: &Path, map_size: usize) -> Result<Self, FileError> {
        let _opening = OPENING.lock();
        std::fs::create_dir_all(dir)?;
        // Opening the files of a store that this process already has open would release its locks.
        if heed::env_closing_event(dir.canonicalize()?).is_some() {
            return Err(heed::Error::EnvAlreadyOpened.into());
        }
        let mut write_lock = WriteLock::open(dir)?;
        let watchdog = Watchdog::start(write_lock.files().clone())?;
        let guard = write_lock.acquire()?;
        let (env, rows, lock_file) = open_files(dir, map_size, &guard)?;
        let mut reserve = DiskReserve::new(env.clone())?;
        let nearly_full = AtomicBool::new(!reserve.ensure(&guard));
        drop(guard);
        watchdog.opened(env.clone(), lock_file.clone());
        let status = Arc::new(Status { counters: Counters::default(), nearly_full });
        let (submissions, waiting) = sync_channel(MAX_QUEUED);
        let urgent = Urgent::default();
        let committer = Committer::new(env.clone(), rows, reserve, status.clone(), urgent.clone());
        let (alive, committer_alive) = watch::channel(());
        let committer =
            std::thread::Builder::new().name("store-committer".to_owned()).spawn(move || {
                let _alive = alive;
                committer.run(write_lock, &waiting);
            })?;
        Ok(Self {
            _watchdog: watchdog,
            env,
            rows,
            snapshots: Arc::new(Semaphore::new(MAX_SNAPSHOTS)),
            urgent_snapshots: Arc::new(Semaphore::new(MAX_URGENT)),
            urgent,
            status,
            submissions,
            committer: Some(committer),
            committer_alive,
            lock_file,
        })
    }

    /// The number of commits by all processes.
    #[cfg(test)]
    fn version(&self) -> u64 {
        self.env.info().last_txn_id as u64
    }

    async fn begin_with(
        &self,
        snapshots: &Arc<Semaphore>,
        urgent: Option<Urgent>,
    ) -> Result<Box<dyn Transaction>, Error> {
        let permit = snapshots.clone().acquire_owned().await;
        let permit = permit.expect("the semaphore is never closed");
        let snapshot = self.snapshot().map_err(failure)?;
        let view = View { snapshot, rows: self.rows, _lock_file: self.lock_file.clone() };
        Ok(Box::new(LmdbTransaction {
            state: Mutex::new(TxState { view, buffer: Buffer::default(), permit }),
            submissions: self.submissions.clone(),
            urgent,
        }))
    }

    fn snapshot(&self) -> Result<RoTxn<'static, WithoutTls>, heed::Error> {
        match self.env.clone().static_read_txn() {
            // Free the slots left behind by killed processes.
            Err(heed::Error::Mdb(MdbError::ReadersFull)) => {
                self.env.clear_stale_readers()?;
                self.env.clone().static_read_txn()
            }
            snapshot => snapshot,
        }
    }
}

/// Opens the files, creating them if necessary; one process at a time.
fn open_files(
    dir: &Path,
    map_size: usize,
    _guard: &WriteGuard<'_>,
) -> Result<(Env<WithoutTls>, Rows, Arc<File>), FileError> {
    let lock_file = Arc::new(files::allocate_lock_file(dir, MAX_READERS)?);
    files::check_meta_pages(dir)?;
    let env = open_env(dir, map_size)?;
    files::check_length(&env)?;
    env.clear_stale_readers()?;
    let transaction = env.write_txn()?;
    let rows = env
        .create_databases_and_commit(transaction, |options, transaction| {
            options.create_database(transaction, None).map(CommitOrAbort::<_, ()>::Commit)
        })?
        .commit()
        .expect("the closure commits");
    Ok((env, rows, lock_file))
}

fn open_env(dir: &Path, map_size: usize) -> Result<Env<WithoutTls>, heed::Error> {
    let mut options = EnvOpenOptions::new().read_txn_without_tls();
    options.map_size(map_size).max_readers(MAX_READERS);
    // SAFETY: only LMDB writes the mapped file, under its own locking (`DiskReserve` extends the
    // file but never touches its content), and it is on a local disk, as `Lmdb::open` requires.
    #[allow(unsafe_code, reason = "mapping a file is unsafe; there is no other way to open LMDB")]
    unsafe {
        options.open(dir)
    }
}

impl Drop for Lmdb {
    /// Waits for submitted transactions, so that the directory can be reopened immediately.
    fn drop(&mut self) {
        // Ignore a closed channel: the committer has already stopped.
        let _ = self.submissions.send(CommitterMsg::Stop);
        if let Some(committer) = self.committer.take() {
            // A panic of the thread was already reported.
            let _ = committer.join();
        }
    }
}

impl fmt::Debug for Lmdb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lmdb").field("path", &self.env.path()).finish_non_exhaustive()
    }
}

#[async_trait]
impl Engine for Lmdb {
    async fn begin(&self) -> Result<Box<dyn Transaction>, Error> {
        self.begin_with(&self.snapshots, None).await
    }

    async fn begin_urgent(&self) -> Result<Box<dyn Transaction>, Error> {
        self.begin_with(&self.urgent_snapshots, Some(self.urgent.clone())).await
    }

    fn stats(&self) -> Stats {
        let (used, free) = (files::used_length(&self.env), files::free_length(&self.env));
        Stats { file: Some(FileStats { used, free }), ..self.status.counters.stats() }
    }

    async fn failed(&self) {
        // Nothing is ever sent: this resolves when the sender is dropped.
        let _ = self.committer_alive.clone().changed().await;
    }

    fn is_nearly_full(&self) -> bool {
        self.status.nearly_full.load(Ordering::Relaxed)
    }
}

struct LmdbTransaction {
    state: Mutex<TxState>,
    submissions: SyncSender<CommitterMsg>,
    /// The queue for the commit of an urgent transaction.
    urgent: Option<Urgent>,
}

struct TxState {
    view: View,
    buffer: Buffer,
    permit: OwnedSemaphorePermit,
}

#[async_trait]
impl Transaction for LmdbTransaction {
    async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        let TxState { view, buffer, .. } = &mut *self.state.lock();
        buffer.get(&view.reader(), key, true)
    }

    async fn snap_get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        let TxState { view, buffer, .. } = &mut *self.state.lock();
        buffer.get(&view.reader(), key, false)
    }

    async fn range(&self, range: Range) -> Result<Vec<Pair>, Error> {
        let TxState { view, buffer, .. } = &mut *self.state.lock();
        buffer.range(&view.reader(), range, true)
    }

    async fn snap_range(&self, range: Range) -> Result<Vec<Pair>, Error> {
        let TxState { view, buffer, .. } = &mut *self.state.lock();
        buffer.range(&view.reader(), range, false)
    }

    fn set(&self, key: Vec<u8>, value: Bytes) {
        self.state.lock().buffer.writes.set(key, value);
    }

    fn clear(&self, key: Vec<u8>) {
        self.state.lock().buffer.writes.clear(key);
    }

    fn clear_range(&self, begin: Vec<u8>, end: Vec<u8>) {
        self.state.lock().buffer.writes.clear_range(begin, end);
    }

    fn add(&self, key: Vec<u8>, delta: i64) {
        self.state.lock().buffer.writes.add(key, delta);
    }

    async fn commit(self: Box<Self>) -> Result<(), Error> {
        let Self { state, submissions, urgent } = *self;
        let TxState { view, buffer, permit } = state.into_inner();
        if buffer.writes.is_empty() {
            return Ok(());
        }
        let snapshot = view.snapshot.id();
        drop(view);
        let (reply, reply_rx) = oneshot::channel();
        let submission = Submission { buffer, snapshot, reply };
        match urgent {
            Some(urgent) => {
                urgent.push(submission);
                // Ignore a full channel: the committer checks the urgent queue with every message.
                if let Err(TrySendError::Disconnected(_)) =
                    submissions.try_send(CommitterMsg::Urgent)
                {
                    return Err(stopped());
                }
                let result = reply_rx.await;
                // Held until here to bound the number of queued urgent transactions.
                drop(permit);
                result.unwrap_or_else(|_| Err(stopped()))
            }
            None => {
                drop(permit);
                submissions.try_send(CommitterMsg::Commit(submission)).map_err(
                    |error| match error {
                        TrySendError::Full(_) => {
                            Error::Unavailable("too many transactions are queued".to_owned())
                        }
                        TrySendError::Disconnected(_) => stopped(),
                    },
                )?;
                reply_rx.await.unwrap_or_else(|_| Err(stopped()))
            }
        }
    }
}

fn stopped() -> Error {
    Error::Unavailable("the store has stopped".to_owned())
}

struct View {
    /// Keeps the environment open.
    snapshot: RoTxn<'static, WithoutTls>,
    rows: Rows,
    _lock_file: Arc<File>,
}

impl View {
    fn reader(&self) -> Reader<'_> {
        Reader { txn: &self.snapshot, rows: self.rows }
    }
}

/// Reads from a snapshot, or from the committer's write transaction.
struct Reader<'a> {
    txn: &'a RoTxn<'a, AnyTls>,
    rows: Rows,
}

impl Snapshot for Reader<'_> {
    fn value(&self, key: &[u8]) -> Result<Option<&[u8]>, Error> {
        if key.is_empty() {
            return Ok(None);
        }
        self.rows.get(self.txn, key).map_err(failure)
    }

    fn rows<'a>(
        &'a self,
        begin: &'a [u8],
        end: &'a [u8],
        reverse: bool,
    ) -> Result<impl Iterator<Item = Result<(&'a [u8], &'a [u8]), Error>>, Error> {
        let bounds = bounds(begin, end);
        let (mut forward, mut backward) = if reverse {
            (None, Some(self.rows.rev_range(self.txn, &bounds).map_err(failure)?))
        } else {
            (Some(self.rows.range(self.txn, &bounds).map_err(failure)?), None)
        };
        Ok(std::iter::from_fn(move || {
            let row = match (&mut forward, &mut backward) {
                (Some(rows), _) => rows.next(),
                (None, Some(rows)) => rows.next(),
                (None, None) => None,
            };
            row.map(|row| row.map_err(failure))
        }))
    }
}

/// LMDB does not support empty keys, not even as bounds.
fn bounds<'a>(begin: &'a [u8], end: &'a [u8]) -> (Bound<&'a [u8]>, Bound<&'a [u8]>) {
    let begin = if begin.is_empty() { Bound::Unbounded } else { Bound::Included(begin) };
    (begin, Bound::Excluded(end))
}

/// Converts an LMDB error that occurred outside of a commit.
fn failure(error: heed::Error) -> Error {
    match error {
        heed::Error::Mdb(MdbError::MapFull | MdbError::TxnFull) => Error::Full,
        heed::Error::Mdb(MdbError::Corrupted | MdbError::PageNotFound | MdbError::Invalid) => {
            Error::Corrupt(error.to_string())
        }
        heed::Error::Io(error) if error.kind() == io::ErrorKind::StorageFull => Error::Full,
        other => Error::Unavailable(other.to_string()),
    }
}
