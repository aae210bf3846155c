//! The embedded engine: LMDB, shared by the processes of one host.
//!
//! Who takes part: transactions read from LMDB snapshots on whatever thread their task runs, and
//! buffer their writes; one [`committer`] thread per process waits for the process's [`turn`],
//! checks and applies all the transactions that are waiting, and makes them durable with a single
//! commit; one [`watchdog`] thread per process looks at the [`process`] that keeps all the others
//! out, and ends it when [`suspicion`] says so; [`files`] looks at the files before they are mapped;
//! [`room`] keeps disk space in reserve and tells a full disk from a broken one.
//!
//! How data passes through: a commit sends the transaction's [`Buffer`] to the committer over a
//! bounded channel and waits for the answer. The snapshot is given back before that, since a
//! snapshot that is held keeps LMDB from reusing the pages that were freed after it.

mod committer;
mod files;
#[cfg(test)]
mod hook;
mod process;
mod readers;
mod room;
mod suspicion;
#[cfg(test)]
mod tests;
mod turn;
mod watchdog;

use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use async_trait::async_trait;
use bytes::Bytes;
use heed::types::Bytes as Raw;
use heed::{AnyTls, CommitOrAbort, Env, EnvOpenOptions, MdbError, RoTxn, WithoutTls};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};

use crate::{Buffer, Counts, Engine, Error, Pair, Range, Snapshot, Stats, Transaction, lock};
use committer::{Committer, Message, Submission, Urgent};
use files::Problem;
use room::Room;
use turn::{Turn, Turnstile};
use watchdog::Watchdog;

/// The size of the memory map: address space, not memory, and so the most that the file can grow.
const MAP_SIZE: usize = 1 << 40;
/// Reader slots in the lock file, for all the processes together: enough for sixteen.
const MAX_READERS: u32 = 4096;
/// Snapshots that one process holds at a time; further transactions wait to begin.
const MAX_SNAPSHOTS: usize = 256 - MAX_URGENT;
/// Urgent transactions at a time, from their beginning to their commit; further ones wait to begin.
const MAX_URGENT: usize = 16;
/// Transactions that wait for the committer; further ones are refused.
const MAX_WAITING: usize = 8192;

/// Held while this process opens a store, so that none is opened twice.
static OPENING: Mutex<()> = Mutex::new(());

type Rows = heed::Database<'static, Raw, Raw>;

/// A store in a directory of the local disk.
pub struct Embedded {
    /// Above `env`, and so dropped before it: while `env` is there the store is not opened anew,
    /// and to close the files of the turn would then end the locks of another [`Turnstile`].
    _watchdog: Watchdog,
    env: Env<WithoutTls>,
    rows: Rows,
    snapshots: Arc<Semaphore>,
    urgent_snapshots: Arc<Semaphore>,
    urgent: Urgent,
    gauges: Arc<Gauges>,
    submissions: SyncSender<Message>,
    committer: Option<JoinHandle<()>>,
    /// Closed when the committer has ended.
    committing: watch::Receiver<()>,
    /// Below `env`, and so dropped after it: see [`files::allocate_lock_file`].
    lock_file: Arc<File>,
}

/// What the committer tells of itself.
#[derive(Default)]
struct Gauges {
    done: Counts,
    nearly_full: AtomicBool,
}

/// The directory could not be opened as a store.
#[derive(Debug, thiserror::Error)]
#[error("cannot open the store in {}", path.display())]
pub struct OpenError {
    path: PathBuf,
    source: Problem,
}

impl Embedded {
    /// Opens the store in `dir`, and creates both if they are not there. A process may have a
    /// directory open once, and several processes may have it open at a time; all must be on one
    /// host and in one pid namespace of it, as LMDB and the watchdog tell them apart by their
    /// numbers; the disk must be the host's own.
    ///
    /// A process that is stopped or frozen while it keeps the others out of the store is killed by
    /// them.
    ///
    /// # Errors
    /// The directory or its files cannot be created, opened or locked, or are no store.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        Self::try_open(dir).map_err(|source| OpenError { path: dir.to_owned(), source })
    }

    fn try_open(dir: &Path) -> Result<Self, Problem> {
        let _opening = lock(&OPENING);
        std::fs::create_dir_all(dir)?;
        // To touch the files of a store that is open here would end this process's locks on them.
        if heed::env_closing_event(dir.canonicalize()?).is_some() {
            return Err(heed::Error::EnvAlreadyOpened.into());
        }
        let mut turnstile = Turnstile::open(dir)?;
        let watchdog = Watchdog::start(turnstile.gate().clone())?;
        let (env, rows, lock_file) = open_files(dir, &turnstile.take()?)?;
        watchdog.opened(env.clone(), lock_file.clone());
        let gauges = Arc::<Gauges>::default();
        let (submissions, waiting) = sync_channel(MAX_WAITING);
        let room = Room::new(env.clone())?;
        let urgent = Urgent::default();
        let committer = Committer::new(env.clone(), rows, room, gauges.clone(), urgent.clone());
        let (ending, committing) = watch::channel(());
        let committer =
            std::thread::Builder::new().name("store-committer".to_owned()).spawn(move || {
                let _ending = ending;
                committer.run(turnstile, &waiting);
            })?;
        Ok(Self {
            _watchdog: watchdog,
            env,
            rows,
            snapshots: Arc::new(Semaphore::new(MAX_SNAPSHOTS)),
            urgent_snapshots: Arc::new(Semaphore::new(MAX_URGENT)),
            urgent,
            gauges,
            submissions,
            committer: Some(committer),
            committing,
            lock_file,
        })
    }

    /// Counts the commits of all processes.
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
        Ok(Box::new(EmbeddedTransaction {
            state: Mutex::new(Open { view, buffer: Buffer::default(), permit }),
            submissions: self.submissions.clone(),
            urgent,
        }))
    }

    fn snapshot(&self) -> Result<RoTxn<'static, WithoutTls>, heed::Error> {
        match self.env.clone().static_read_txn() {
            // Processes that were killed have left their slots behind.
            Err(heed::Error::Mdb(MdbError::ReadersFull)) => {
                self.env.clear_stale_readers()?;
                self.env.clone().static_read_txn()
            }
            snapshot => snapshot,
        }
    }
}

/// Opens the files, and makes them if they are not there: one process at a time.
fn open_files(dir: &Path, _turn: &Turn<'_>) -> Result<(Env<WithoutTls>, Rows, Arc<File>), Problem> {
    let lock_file = Arc::new(files::allocate_lock_file(dir, MAX_READERS)?);
    files::check_meta_pages(dir)?;
    let env = open_env(dir)?;
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

fn open_env(dir: &Path) -> Result<Env<WithoutTls>, heed::Error> {
    let mut options = EnvOpenOptions::new().read_txn_without_tls();
    options.map_size(MAP_SIZE).max_readers(MAX_READERS);
    // SAFETY: the map is of a file that only LMDB writes (`Room` makes it longer, never touches
    // its content), with LMDB's locking, and on a local disk, as `Embedded::open` demands.
    #[allow(unsafe_code, reason = "mapping a file is unsafe; there is no other way to open LMDB")]
    unsafe {
        options.open(dir)
    }
}

impl Drop for Embedded {
    /// Waits for what was submitted, so that the directory can be opened anew at once.
    fn drop(&mut self) {
        // If the committer is gone already, so is what this is for.
        let _ = self.submissions.send(Message::Stop);
        if let Some(committer) = self.committer.take() {
            // A panic there was reported there.
            let _ = committer.join();
        }
    }
}

impl fmt::Debug for Embedded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Embedded").field("path", &self.env.path()).finish_non_exhaustive()
    }
}

#[async_trait]
impl Engine for Embedded {
    async fn begin(&self) -> Result<Box<dyn Transaction>, Error> {
        self.begin_with(&self.snapshots, None).await
    }

    async fn begin_urgent(&self) -> Result<Box<dyn Transaction>, Error> {
        self.begin_with(&self.urgent_snapshots, Some(self.urgent.clone())).await
    }

    fn stats(&self) -> Stats {
        self.gauges.done.stats()
    }

    async fn failed(&self) {
        // Nothing is ever sent.
        let _ = self.committing.clone().changed().await;
    }

    fn is_nearly_full(&self) -> bool {
        self.gauges.nearly_full.load(Ordering::Relaxed)
    }
}

struct EmbeddedTransaction {
    state: Mutex<Open>,
    submissions: SyncSender<Message>,
    /// Where its commit waits if it is urgent.
    urgent: Option<Urgent>,
}

struct Open {
    view: View,
    buffer: Buffer,
    permit: OwnedSemaphorePermit,
}

#[async_trait]
impl Transaction for EmbeddedTransaction {
    async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        let Open { view, buffer, .. } = &mut *lock(&self.state);
        buffer.get(&view.reader(), key, true)
    }

    async fn snap_get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        let Open { view, buffer, .. } = &mut *lock(&self.state);
        buffer.get(&view.reader(), key, false)
    }

    async fn range(&self, range: Range) -> Result<Vec<Pair>, Error> {
        let Open { view, buffer, .. } = &mut *lock(&self.state);
        buffer.range(&view.reader(), range, true)
    }

    async fn snap_range(&self, range: Range) -> Result<Vec<Pair>, Error> {
        let Open { view, buffer, .. } = &mut *lock(&self.state);
        buffer.range(&view.reader(), range, false)
    }

    fn set(&self, key: Vec<u8>, value: Bytes) {
        lock(&self.state).buffer.writes.set(key, value);
    }

    fn clear(&self, key: Vec<u8>) {
        lock(&self.state).buffer.writes.clear(key);
    }

    fn clear_range(&self, begin: Vec<u8>, end: Vec<u8>) {
        lock(&self.state).buffer.writes.clear_range(begin, end);
    }

    fn add(&self, key: Vec<u8>, delta: i64) {
        lock(&self.state).buffer.writes.add(key, delta);
    }

    async fn commit(self: Box<Self>) -> Result<(), Error> {
        let Self { state, submissions, urgent } = *self;
        let Open { view, buffer, permit } =
            state.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        if buffer.writes.is_empty() {
            return Ok(());
        }
        let snapshot = view.snapshot.id();
        drop(view);
        let (answer, answered) = oneshot::channel();
        let submission = Submission { buffer, snapshot, answer };
        match urgent {
            Some(urgent) => {
                urgent.push(submission);
                // If there is no room, the committer has messages to read, and looks for urgent ones.
                if let Err(TrySendError::Disconnected(_)) = submissions.try_send(Message::Urgent) {
                    return Err(stopped());
                }
                let answered = answered.await;
                // Held until now to bound the number of waiting urgent transactions.
                drop(permit);
                answered.unwrap_or_else(|_| Err(stopped()))
            }
            None => {
                drop(permit);
                submissions.try_send(Message::Commit(submission)).map_err(|error| match error {
                    TrySendError::Full(_) => {
                        Error::Unavailable("too many transactions wait".to_owned())
                    }
                    TrySendError::Disconnected(_) => stopped(),
                })?;
                answered.await.unwrap_or_else(|_| Err(stopped()))
            }
        }
    }
}

fn stopped() -> Error {
    Error::Unavailable("the store has stopped".to_owned())
}

struct View {
    /// Has the environment open.
    snapshot: RoTxn<'static, WithoutTls>,
    rows: Rows,
    _lock_file: Arc<File>,
}

impl View {
    fn reader(&self) -> Reader<'_> {
        Reader { txn: &self.snapshot, rows: self.rows }
    }
}

/// Reads one state: a snapshot's, or the one that the committer is building.
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

/// LMDB has no empty key, and does not search for one either.
fn bounds<'a>(begin: &'a [u8], end: &'a [u8]) -> (Bound<&'a [u8]>, Bound<&'a [u8]>) {
    let begin = if begin.is_empty() { Bound::Unbounded } else { Bound::Included(begin) };
    (begin, Bound::Excluded(end))
}

/// What an LMDB error outside of a commit means for a transaction.
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
