//! The handle to a store, and the retry loop for transactions.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::{Engine, Error, MAX_KEY, MAX_TRANSACTION, MAX_VALUE, Pair, Range, Stats, Transaction};

/// The time limit for one call of [`Store::transact`] or [`Store::read`], including retries.
pub const BUDGET: Duration = Duration::from_secs(5);

/// The longest pause before a retry.
const MAX_PAUSE_MS: u64 = 64;

/// A handle to an engine; clones are cheap and share everything.
#[derive(Clone)]
pub struct Store {
    engine: Arc<dyn Engine>,
    rng: Arc<Mutex<SmallRng>>,
}

/// A running transaction, passed to a closure; clones share the transaction.
///
/// No clone may outlive the closure.
#[derive(Clone)]
pub struct Tx(Arc<Inner>);

struct Inner {
    transaction: Box<dyn Transaction>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Bytes of keys and values written so far.
    written: usize,
    /// The first store error. It fails the transaction even if the closure ignored the error or
    /// wrapped it in its own.
    failure: Option<Error>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Read,
    Write,
    WriteUrgently,
}

impl Store {
    /// A handle to `engine`; `seed` is for the jitter of retries.
    #[must_use]
    pub fn new(engine: Arc<dyn Engine>, seed: u64) -> Self {
        Self { engine, rng: Arc::new(Mutex::new(SmallRng::seed_from_u64(seed))) }
    }

    /// Runs `body` in a transaction and commits it, retrying on conflicts for at most [`BUDGET`].
    ///
    /// The second argument of `body` says whether an earlier run may have been committed; once
    /// true, it stays true. If `body` returns an error of its own, the transaction is rolled back
    /// and the error returned unchanged.
    ///
    /// # Errors
    /// The error of `body`, or an [`Error`] other than `Conflict`. When the budget is exhausted or
    /// the engine is [unreachable](Engine::unreachable), the error is `MaybeCommitted` if a commit
    /// with unknown result may still take effect, and `Unavailable` otherwise.
    ///
    /// # Panics
    /// If `body` keeps a clone of its [`Tx`].
    pub async fn transact<T, E, F, Fut>(&self, body: F) -> Result<T, E>
    where
        E: From<Error>,
        F: Fn(Tx, bool) -> Fut + Send,
        Fut: Future<Output = Result<T, E>> + Send,
    {
        self.run(body, Mode::Write).await
    }

    /// Like [`Store::transact`], but does not queue behind other transactions.
    ///
    /// # Errors
    /// See [`Store::transact`].
    pub async fn transact_urgently<T, E, F, Fut>(&self, body: F) -> Result<T, E>
    where
        E: From<Error>,
        F: Fn(Tx, bool) -> Fut + Send,
        Fut: Future<Output = Result<T, E>> + Send,
    {
        self.run(body, Mode::WriteUrgently).await
    }

    /// Runs `body` on a consistent snapshot and discards its writes.
    ///
    /// # Errors
    /// See [`Store::transact`].
    pub async fn read<T, E, F, Fut>(&self, body: F) -> Result<T, E>
    where
        E: From<Error>,
        F: Fn(Tx) -> Fut + Send,
        Fut: Future<Output = Result<T, E>> + Send,
    {
        self.run(move |tx, _| body(tx), Mode::Read).await
    }

    /// Reads `range` in a transaction of its own.
    ///
    /// # Errors
    /// See [`Store::transact`].
    pub async fn rows(&self, range: Range) -> Result<Vec<Pair>, Error> {
        let range = &range;
        self.read(|tx| async move { tx.snap_range(range.clone()).await }).await
    }

    /// See [`Engine::stats`].
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.engine.stats()
    }

    /// See [`Engine::failed`].
    pub async fn failed(&self) {
        self.engine.failed().await;
    }

    /// See [`Engine::is_nearly_full`].
    #[must_use]
    pub fn is_nearly_full(&self) -> bool {
        self.engine.is_nearly_full()
    }

    async fn run<T, E, F, Fut>(&self, body: F, mode: Mode) -> Result<T, E>
    where
        E: From<Error>,
        F: Fn(Tx, bool) -> Fut + Send,
        Fut: Future<Output = Result<T, E>> + Send,
    {
        let (retries, in_doubt) = (AtomicU32::new(0), AtomicBool::new(false));
        let reason = tokio::select! {
            // Polled first: while the engine is unreachable, beginning a transaction would block.
            biased;
            () = self.engine.unreachable() => "it does not answer".to_owned(),
            result = self.retry(body, mode, &retries, &in_doubt) => return result,
            // This also bounds how long a snapshot is held open.
            () = tokio::time::sleep(BUDGET) => {
                let retries = retries.load(Ordering::Relaxed);
                format!("the transaction timed out after {BUDGET:?} and {retries} retries")
            }
        };
        match in_doubt.into_inner() {
            true => Err(Error::MaybeCommitted.into()),
            false => Err(Error::Unavailable(reason).into()),
        }
    }

    /// `in_doubt` is set while a commit is in flight and stays set if its result is unknown.
    async fn retry<T, E, F, Fut>(
        &self,
        body: F,
        mode: Mode,
        retries: &AtomicU32,
        in_doubt: &AtomicBool,
    ) -> Result<T, E>
    where
        E: From<Error>,
        F: Fn(Tx, bool) -> Fut + Send,
        Fut: Future<Output = Result<T, E>> + Send,
    {
        let commit = mode != Mode::Read;
        let mut maybe_committed = false;
        loop {
            let begun = match mode {
                Mode::Read | Mode::Write => self.engine.begin().await,
                Mode::WriteUrgently => self.engine.begin_urgent().await,
            };
            let failure = match begun {
                Ok(transaction) => {
                    let tx = Tx::new(transaction);
                    let result = body(tx.clone(), maybe_committed).await;
                    in_doubt.fetch_or(commit && result.is_ok(), Ordering::Relaxed);
                    match tx.finish(result, commit).await {
                        Ok(done) => return done,
                        Err(failure) => failure,
                    }
                }
                Err(failure) => failure,
            };
            maybe_committed |= failure == Error::MaybeCommitted;
            in_doubt.store(maybe_committed, Ordering::Relaxed);
            if !failure.is_retryable() {
                let failure = if maybe_committed { Error::MaybeCommitted } else { failure };
                return Err(failure.into());
            }
            self.pause(retries.fetch_add(1, Ordering::Relaxed)).await;
        }
    }

    /// The first retry is immediate: a conflict is resolved by the time it is reported. Later
    /// retries back off with jitter, since they indicate contention.
    async fn pause(&self, retries: u32) {
        if retries == 0 {
            return;
        }
        let max = 1_u64.checked_shl(retries).unwrap_or(MAX_PAUSE_MS).min(MAX_PAUSE_MS);
        let pause = self.rng.lock().random_range(0..=max);
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

impl Tx {
    fn new(transaction: Box<dyn Transaction>) -> Self {
        Self(Arc::new(Inner { transaction, state: Mutex::default() }))
    }

    /// See [`Transaction::prefetch`].
    ///
    /// # Errors
    /// A store error; return it from the closure.
    pub async fn prefetch(&self, keys: impl Iterator<Item = Vec<u8>> + Send) -> Result<(), Error> {
        if !self.0.transaction.supports_prefetch() {
            return Ok(());
        }
        let keys: Vec<_> = keys.collect();
        for key in &keys {
            self.check_key(key)?;
        }
        self.record_failure(self.0.transaction.prefetch(keys).await)
    }

    /// Reads `key`; the transaction conflicts if the value changes before the commit.
    ///
    /// # Errors
    /// A store error; return it from the closure.
    pub async fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Bytes>, Error> {
        let key = key.as_ref();
        self.check_key(key)?;
        self.record_failure(self.0.transaction.get(key).await)
    }

    /// Reads `key`; the value may change before the commit.
    ///
    /// # Errors
    /// A store error; return it from the closure.
    pub async fn snap_get(&self, key: impl AsRef<[u8]>) -> Result<Option<Bytes>, Error> {
        let key = key.as_ref();
        self.check_key(key)?;
        self.record_failure(self.0.transaction.snap_get(key).await)
    }

    /// Reads `range`; the transaction conflicts if these rows change before the commit. Rows beyond
    /// the last one returned under a limit are not checked.
    ///
    /// # Errors
    /// A store error; return it from the closure.
    pub async fn range(&self, range: Range) -> Result<Vec<Pair>, Error> {
        self.record_failure(self.0.transaction.range(range).await)
    }

    /// Reads `range`; the rows may change before the commit.
    ///
    /// # Errors
    /// A store error; return it from the closure.
    pub async fn snap_range(&self, range: Range) -> Result<Vec<Pair>, Error> {
        self.record_failure(self.0.transaction.snap_range(range).await)
    }

    /// Writes `value` at `key`. If either exceeds its limit, the commit fails.
    pub fn set(&self, key: impl Into<Vec<u8>>, value: impl Into<Bytes>) {
        let (key, value) = (key.into(), value.into());
        if self.reserve(&key, value.len()) {
            self.0.transaction.set(key, value);
        }
    }

    pub fn clear(&self, key: impl Into<Vec<u8>>) {
        let key = key.into();
        if self.reserve(&key, 0) {
            self.0.transaction.clear(key);
        }
    }

    /// Removes every key in `begin..end`.
    pub fn clear_range(&self, begin: impl Into<Vec<u8>>, end: impl Into<Vec<u8>>) {
        self.0.transaction.clear_range(begin.into(), end.into());
    }

    /// Adds `delta` to the counter at `key` without reading it; see [`Transaction::add`].
    pub fn add(&self, key: impl Into<Vec<u8>>, delta: i64) {
        let key = key.into();
        if self.reserve(&key, size_of::<i64>()) {
            self.0.transaction.add(key, delta);
        }
    }

    /// Commits or rolls back after the closure returned `result`. The outer `Err` is a store error,
    /// the inner `Result` is for the caller.
    async fn finish<T, E>(self, result: Result<T, E>, commit: bool) -> Result<Result<T, E>, Error> {
        let inner =
            Arc::into_inner(self.0).expect("no clone of a transaction outlives its closure");
        let state = inner.state.into_inner();
        match (result, state.failure) {
            // The store error takes precedence even if the closure converted it: only the retry
            // loop knows whether an earlier run may have been committed.
            (_, Some(failure)) => Err(failure),
            (Err(error), None) => Ok(Err(error)),
            (Ok(value), None) => {
                if commit {
                    inner.transaction.commit().await?;
                }
                Ok(Ok(value))
            }
        }
    }

    fn check_key(&self, key: &[u8]) -> Result<(), Error> {
        self.record_failure(check_limit("key", key.len(), MAX_KEY))
    }

    /// Accounts for a write; false if it exceeds a limit.
    fn reserve(&self, key: &[u8], value: usize) -> bool {
        let mut state = self.0.state.lock();
        state.written += key.len() + value;
        let checked = check_limit("key", key.len(), MAX_KEY)
            .and_then(|()| check_limit("value", value, MAX_VALUE))
            .and_then(|()| check_limit("transaction", state.written, MAX_TRANSACTION));
        let fits = checked.is_ok();
        state.failure = state.failure.take().or(checked.err());
        fits
    }

    fn record_failure<T>(&self, result: Result<T, Error>) -> Result<T, Error> {
        if let Err(error) = &result {
            self.0.state.lock().failure.get_or_insert_with(|| error.clone());
        }
        result
    }
}

fn check_limit(what: &'static str, actual: usize, limit: usize) -> Result<(), Error> {
    if actual > limit { Err(Error::TooLarge { what, limit, actual: Some(actual) }) } else { Ok(()) }
}
