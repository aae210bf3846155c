//! The key-value layer: an ordered map of bytes with optimistic transactions.
//!
//! Who takes part: an [`Engine`] keeps the data (embedded, FoundationDB or memory) and hands out
//! [`Transaction`]s; a [`Store`] is the handle that everybody else holds. [`Store::transact`] begins
//! a transaction, gives it to the caller's closure as a [`Tx`], commits it, and does all of that
//! again when somebody else was faster.
//!
//! How data passes through: reads come from a snapshot and are remembered; writes are buffered and
//! seen by the transaction's own later reads; the commit checks that what was read is still so, and
//! then makes all of the writes durable, or none. A closure may therefore run more than once, and
//! must be harmless when it does, also when an earlier run did commit and nobody could tell
//! (`maybe_committed`).

#[cfg(feature = "foundationdb")]
pub mod foundationdb;
pub mod lmdb;
pub mod memory;

mod buffer;
#[cfg(test)]
mod contract;
mod store;
#[cfg(test)]
mod tests;
mod writes;

#[cfg(feature = "foundationdb")]
pub(crate) use buffer::Scan;
pub(crate) use buffer::{Buffer, Snapshot};
pub use store::{BUDGET, Store, Tx};
pub(crate) use writes::{Change, Writes};

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

/// The longest key, in bytes. LMDB's own limit is 511.
pub const MAX_KEY: usize = 480;
/// The longest value, in bytes. FoundationDB's own limit is 100,000.
pub const MAX_VALUE: usize = 90_000;
/// The most that one transaction may write, keys and values together, in bytes. A batch of events
/// of 1 MiB is accepted as a whole, with its deliveries' rows; FoundationDB's own limit is 10 MB.
pub const MAX_TRANSACTION: usize = 4_000_000;

/// What went wrong; each variant exists because the caller acts differently on it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Somebody else changed what this transaction read; [`Store::transact`] runs it again.
    #[error("another transaction changed what this one read")]
    Conflict,
    /// The commit's result is unknown. [`Store::transact`] runs the closure again and tells it; it
    /// returns this when the time ran out before it knew.
    #[error("the result of the commit is unknown")]
    MaybeCommitted,
    /// The store cannot be reached or did not answer in time, and nothing was written. Try again
    /// later.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// The disk has no room left. Nothing was written.
    #[error("the store's disk is full")]
    Full,
    /// A key, a value or the transaction is over its bound. Nothing was written.
    #[error("the {what} has {actual} bytes, more than {limit}")]
    TooLarge {
        /// Which of the bounds.
        what: &'static str,
        /// The bound.
        limit: usize,
        /// The size that was asked for.
        actual: usize,
    },
    /// The store holds something that cannot be understood.
    #[error("the store is damaged: {0}")]
    Corrupt(String),
}

impl Error {
    /// Whether running the same transaction again may help at once.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Conflict | Self::MaybeCommitted)
    }
}

/// A key and its value.
pub type Pair = (Bytes, Bytes);

/// Which rows to read: `begin ≤ key < end`, at most `limit` of them, in the order of their keys, or
/// from the last one back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// The first key that may be in the result.
    pub begin: Vec<u8>,
    /// The first key after `begin` that may not.
    pub end: Vec<u8>,
    /// The most rows to read.
    pub limit: usize,
    /// Whether to start at the end.
    pub reverse: bool,
}

impl Range {
    /// All the rows with `begin ≤ key < end`.
    #[must_use]
    pub fn new(begin: impl Into<Vec<u8>>, end: impl Into<Vec<u8>>) -> Self {
        Self { begin: begin.into(), end: end.into(), limit: usize::MAX, reverse: false }
    }

    /// All the rows whose keys start with `prefix`.
    #[must_use]
    pub fn prefix(prefix: impl Into<Vec<u8>>) -> Self {
        let begin = prefix.into();
        let end = prefix_end(&begin);
        Self::new(begin, end)
    }

    /// All the rows whose keys start with `prefix`, the last ones first; only those before the row
    /// of this key, if there is one.
    #[must_use]
    pub fn newest(prefix: impl Into<Vec<u8>>, before: Option<Vec<u8>>) -> Self {
        let all = Self::prefix(prefix).reverse();
        match before {
            Some(end) => Self { end, ..all },
            None => all,
        }
    }

    /// At most `limit` rows.
    #[must_use]
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    /// The last rows first.
    #[must_use]
    pub fn reverse(mut self) -> Self {
        self.reverse = true;
        self
    }

    /// Whether no key can be in this range.
    pub(crate) fn is_empty(&self) -> bool {
        self.begin >= self.end || self.limit == 0
    }
}

/// The first key after all those that start with `prefix`: the end of their range.
#[must_use]
pub fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let kept = prefix.iter().rposition(|&byte| byte != u8::MAX).map_or(0, |last| last + 1);
    let mut end = prefix[..kept].to_vec();
    match end.last_mut() {
        Some(last) => *last += 1,
        // No key of a permitted length is greater than this one.
        None => end = vec![u8::MAX; MAX_KEY + 1],
    }
    end
}

/// The number in a counter's row, as [`Tx::add`] leaves it; an absent row is 0.
///
/// A row of another length is cut or filled with zeros to eight bytes, as FoundationDB does it.
#[must_use]
pub fn counter(value: Option<&[u8]>) -> i64 {
    let value = value.unwrap_or_default();
    let mut number = [0; 8];
    let length = value.len().min(number.len());
    number[..length].copy_from_slice(&value[..length]);
    i64::from_le_bytes(number)
}

/// What an engine has done since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Groups of transactions that were made durable, each in one commit.
    pub groups: u64,
    /// Transactions in those groups.
    pub transactions: u64,
    /// Transactions that were refused because something they read had changed.
    pub conflicts: u64,
    /// The time spent in commits.
    pub commit_time_total: Duration,
}

/// What becomes [`Stats`]; many tasks and threads count in it.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    groups: AtomicU64,
    transactions: AtomicU64,
    conflicts: AtomicU64,
    commit_micros: AtomicU64,
}

impl Counts {
    /// A group of so many transactions is durable.
    pub(crate) fn committed(&self, transactions: usize) {
        self.groups.fetch_add(1, Ordering::Relaxed);
        self.transactions.fetch_add(transactions as u64, Ordering::Relaxed);
    }

    /// A commit took so long.
    pub(crate) fn spent(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.commit_micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// So many transactions were refused.
    pub(crate) fn refused(&self, transactions: usize) {
        self.conflicts.fetch_add(transactions as u64, Ordering::Relaxed);
    }

    pub(crate) fn stats(&self) -> Stats {
        let read = |gauge: &AtomicU64| gauge.load(Ordering::Relaxed);
        Stats {
            groups: read(&self.groups),
            transactions: read(&self.transactions),
            conflicts: read(&self.conflicts),
            commit_time_total: Duration::from_micros(read(&self.commit_micros)),
        }
    }
}

/// Keeps the data.
#[async_trait]
pub trait Engine: Send + Sync + 'static {
    /// Begins a transaction on the newest committed state.
    async fn begin(&self) -> Result<Box<dyn Transaction>, Error>;

    /// Like [`Self::begin`], but the transaction does not queue behind others. Use it only for rare,
    /// small transactions.
    async fn begin_urgent(&self) -> Result<Box<dyn Transaction>, Error> {
        self.begin().await
    }

    /// What it has done since the start.
    fn stats(&self) -> Stats {
        Stats::default()
    }

    /// Returns when the data have been out of reach for so long that whoever waits for them should
    /// be told; at once while they are. An engine whose data are in this process or on this host
    /// never does.
    async fn away(&self) {
        std::future::pending().await
    }

    /// Returns once a background thread or task of the engine has ended unexpectedly; nothing can be
    /// written after that. Never returns for an engine that has none.
    async fn failed(&self) {
        std::future::pending().await
    }

    /// Whether only the reserve for finishing work is left: time to refuse new work.
    fn is_nearly_full(&self) -> bool {
        false
    }
}

/// One attempt to read and change the data. Bounds are checked by [`Tx`], which is in front of
/// every engine.
#[async_trait]
pub trait Transaction: Send + Sync {
    /// Whether [`Transaction::prefetch`] is of use: whether a read goes over a network.
    fn fetches_ahead(&self) -> bool {
        false
    }

    /// Reads these keys at once, so that reading them one by one afterwards waits no more. Only for
    /// speed: what was fetched counts as read when it is read.
    async fn prefetch(&self, _keys: Vec<Vec<u8>>) -> Result<(), Error> {
        Ok(())
    }

    /// The value of `key`; the commit fails if it has changed by then.
    async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Error>;

    /// The value of `key`; the commit does not care if it changes.
    async fn snap_get(&self, key: &[u8]) -> Result<Option<Bytes>, Error>;

    /// The rows of `range`; the commit fails if a row among them has changed, come or gone by then.
    async fn range(&self, range: Range) -> Result<Vec<Pair>, Error>;

    /// The rows of `range`; the commit does not care if they change.
    async fn snap_range(&self, range: Range) -> Result<Vec<Pair>, Error>;

    /// Writes `value` at `key`.
    fn set(&self, key: Vec<u8>, value: Bytes);

    /// Removes `key`.
    fn clear(&self, key: Vec<u8>);

    /// Removes every key from `begin` to before `end`.
    fn clear_range(&self, begin: Vec<u8>, end: Vec<u8>);

    /// Adds `delta` to the counter at `key`, without reading it and so without ever conflicting.
    /// See [`counter`] for how it is read. A counter that comes to 0 stays as a row.
    fn add(&self, key: Vec<u8>, delta: i64);

    /// Checks the reads and makes the writes durable, all or none. Without writes, there is nothing
    /// to do and nothing is checked: the reads were one consistent state anyway.
    async fn commit(self: Box<Self>) -> Result<(), Error>;
}

/// For locks under which nothing can be left half done, so that a panic elsewhere does not matter.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
