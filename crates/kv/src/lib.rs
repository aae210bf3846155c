//! The key-value layer: an ordered map of bytes with optimistic transactions.
//!
//! Participants: an [`Engine`] (LMDB, FoundationDB or memory) keeps the data and starts
//! [`Transaction`]s. All other code holds a [`Store`]. [`Store::transact`] begins a transaction,
//! passes it to the caller's closure as a [`Tx`], commits it, and retries on a conflict.
//!
//! Data flow: reads come from a snapshot and are recorded. Writes are buffered and visible to the
//! transaction's own later reads. The commit verifies that the recorded reads are unchanged, then
//! makes all writes durable or none. A closure may therefore run more than once and must be
//! idempotent, even if an earlier run committed without reporting it (`maybe_committed`).

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
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

/// The maximum length of a key, in bytes. LMDB's own limit is 511.
pub const MAX_KEY: usize = 480;
/// The maximum length of a value, in bytes. FoundationDB's own limit is 100,000.
pub const MAX_VALUE: usize = 90_000;
/// The maximum number of bytes that one transaction may write, keys and values together. This fits
/// a 1 MiB batch of events with the rows of its deliveries. FoundationDB's own limit is 10 MB.
pub const MAX_TRANSACTION: usize = 4_000_000;

/// Why an operation failed. Callers handle each variant differently.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Another transaction changed a row that this one read; [`Store::transact`] retries.
    #[error("another transaction changed what this one read")]
    Conflict,
    /// The commit may or may not have taken effect. [`Store::transact`] runs the closure again with
    /// `maybe_committed` set, and returns this error if it times out before it knows.
    #[error("the result of the commit is unknown; it may or may not have taken effect")]
    MaybeCommitted,
    /// The store is unreachable or did not answer in time. Nothing was written; retry later.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// The disk is full. Nothing was written.
    #[error("the store's disk is full")]
    Full,
    /// A key, a value or the transaction exceeds its limit. Nothing was written.
    #[error("the {what} exceeds the limit of {limit} bytes")]
    TooLarge {
        /// Which limit was exceeded.
        what: &'static str,
        /// The limit in bytes.
        limit: usize,
        /// The actual size in bytes, if it is known.
        actual: Option<usize>,
    },
    /// The store contains data that cannot be decoded.
    #[error("the store is damaged: {0}")]
    Corrupt(String),
}

impl Error {
    /// Whether the same transaction may succeed if retried at once.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Conflict | Self::MaybeCommitted)
    }
}

/// A key and its value.
pub type Pair = (Bytes, Bytes);

/// The rows to read: `begin ≤ key < end`, at most `limit` of them, in key order or in reverse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// The first key, inclusive.
    pub begin: Vec<u8>,
    /// The last key, exclusive.
    pub end: Vec<u8>,
    /// The maximum number of rows.
    pub limit: usize,
    /// Whether to read in descending key order.
    pub reverse: bool,
}

impl Range {
    /// All rows with `begin ≤ key < end`.
    #[must_use]
    pub fn new(begin: impl Into<Vec<u8>>, end: impl Into<Vec<u8>>) -> Self {
        Self { begin: begin.into(), end: end.into(), limit: usize::MAX, reverse: false }
    }

    /// All rows whose keys start with `prefix`.
    #[must_use]
    pub fn prefix(prefix: impl Into<Vec<u8>>) -> Self {
        let begin = prefix.into();
        let end = prefix_end(&begin);
        Self::new(begin, end)
    }

    /// All rows whose keys start with `prefix`, in descending order; with `before`, only rows
    /// before that key.
    #[must_use]
    pub fn newest(prefix: impl Into<Vec<u8>>, before: Option<Vec<u8>>) -> Self {
        let all = Self::prefix(prefix).reverse();
        match before {
            Some(end) => Self { end, ..all },
            None => all,
        }
    }

    /// Limits the result to `limit` rows.
    #[must_use]
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    /// Reverses the order: highest keys first.
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

/// The first key after every key that starts with `prefix`: the end of the prefix range.
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

/// Decodes a counter written by [`Tx::add`]; an absent row is 0.
///
/// A value of another length is truncated or zero-padded to eight bytes, as in FoundationDB.
#[must_use]
pub fn counter(value: Option<&[u8]>) -> i64 {
    let value = value.unwrap_or_default();
    let mut number = [0; 8];
    let length = value.len().min(number.len());
    number[..length].copy_from_slice(&value[..length]);
    i64::from_le_bytes(number)
}

/// An engine's commit statistics since it was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Group commits: groups of transactions made durable together.
    pub groups: u64,
    /// Transactions committed in those groups.
    pub transactions: u64,
    /// Transactions rejected because a row they read had changed.
    pub conflicts: u64,
    /// Total time spent in commits.
    pub commit_time_total: Duration,
    /// The data file of an engine that has one.
    pub file: Option<FileStats>,
}

/// The size of an engine's data file, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileStats {
    /// Up to the last page ever used. It never shrinks.
    pub used: u64,
    /// The part of `used` that holds no data and is used again.
    pub free: u64,
}

/// The atomic counters behind [`Stats`], shared by tasks and threads.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    groups: AtomicU64,
    transactions: AtomicU64,
    conflicts: AtomicU64,
    commit_micros: AtomicU64,
}

impl Counters {
    /// Records a group commit of `transactions`.
    pub(crate) fn record_commit(&self, transactions: usize) {
        self.groups.fetch_add(1, Ordering::Relaxed);
        self.transactions.fetch_add(transactions as u64, Ordering::Relaxed);
    }

    pub(crate) fn record_commit_time(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.commit_micros.fetch_add(micros, Ordering::Relaxed);
    }

    pub(crate) fn record_conflicts(&self, transactions: usize) {
        self.conflicts.fetch_add(transactions as u64, Ordering::Relaxed);
    }

    pub(crate) fn stats(&self) -> Stats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            groups: read(&self.groups),
            transactions: read(&self.transactions),
            conflicts: read(&self.conflicts),
            commit_time_total: Duration::from_micros(read(&self.commit_micros)),
            file: None,
        }
    }
}

/// A storage engine: keeps the data and begins transactions.
#[async_trait]
pub trait Engine: Send + Sync + 'static {
    /// Begins a transaction on the latest committed state.
    async fn begin(&self) -> Result<Box<dyn Transaction>, Error>;

    /// Like [`Self::begin`], but the transaction does not queue behind others. Only for rare, small
    /// transactions.
    async fn begin_urgent(&self) -> Result<Box<dyn Transaction>, Error> {
        self.begin().await
    }

    fn stats(&self) -> Stats {
        Stats::default()
    }

    /// Resolves when the store has been unreachable for long enough that waiting operations should
    /// fail; immediately while it is. Never resolves for an engine that is local to this host.
    async fn unreachable(&self) {
        std::future::pending().await
    }

    /// Resolves when a background thread or task of the engine has ended unexpectedly. No writes
    /// are possible after that. Never resolves for an engine without background tasks.
    async fn failed(&self) {
        std::future::pending().await
    }

    /// Whether only the disk reserve for finishing accepted work is left, so that new work must be
    /// rejected.
    fn is_nearly_full(&self) -> bool {
        false
    }
}

/// A single transaction of an engine. [`Tx`] checks the size limits in front of every engine.
#[async_trait]
pub trait Transaction: Send + Sync {
    /// Whether [`Transaction::prefetch`] helps, that is, whether reads cross a network.
    fn supports_prefetch(&self) -> bool {
        false
    }

    /// Fetches `keys` concurrently, so that later single reads do not wait. Prefetching alone adds
    /// no conflicts: a key counts as read only when it is read.
    async fn prefetch(&self, _keys: Vec<Vec<u8>>) -> Result<(), Error> {
        Ok(())
    }

    /// Reads `key`; the commit conflicts if the value has changed by then.
    async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Error>;

    /// Reads `key` without adding a read conflict.
    async fn snap_get(&self, key: &[u8]) -> Result<Option<Bytes>, Error>;

    /// Reads `range`; the commit conflicts if a row in it was changed, added or removed by then.
    async fn range(&self, range: Range) -> Result<Vec<Pair>, Error>;

    /// Reads `range` without adding a read conflict.
    async fn snap_range(&self, range: Range) -> Result<Vec<Pair>, Error>;

    fn set(&self, key: Vec<u8>, value: Bytes);

    fn clear(&self, key: Vec<u8>);

    /// Removes every key in `begin..end`.
    fn clear_range(&self, begin: Vec<u8>, end: Vec<u8>);

    /// Atomically adds `delta` to the counter at `key`. This reads nothing, so it never conflicts.
    /// [`counter`] decodes the value. A counter that reaches 0 remains as a row.
    fn add(&self, key: Vec<u8>, delta: i64);

    /// Checks the reads and makes all writes durable, or none. A read-only transaction is not
    /// checked, as its reads came from one consistent snapshot.
    async fn commit(self: Box<Self>) -> Result<(), Error>;
}
