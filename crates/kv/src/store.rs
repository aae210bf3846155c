//! The handle on a store, and the loop that runs a transaction until it is through.

use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::{
    Engine, Error, MAX_KEY, MAX_TRANSACTION, MAX_VALUE, Pair, Range, Stats, Transaction, lock,
};

/// The longest that one call of [`Store::transact`] or [`Store::read`] takes, with every retry.
pub const BUDGET: Duration = Duration::from_secs(5);

/// The longest pause before a retry.
const MAX_PAUSE_MS: u64 = 64;

/// A handle on an engine; clones are cheap and share everything.
#[derive(Clone)]
pub struct Store {
    engine: Arc<dyn Engine>,
    rng: Arc<Mutex<SmallRng>>,
}

/// A transaction in the hands of a closure; clones are the same transaction.
///
/// It ends with the closure: no clone may be kept beyond it.
#[derive(Clone)]
pub struct Tx(Arc<Attempt>);

struct Attempt {
    transaction: Box<dyn Transaction>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Bytes of keys and values written so far.
    written: usize,
    /// The first thing that went wrong. It decides the attempt's fate even if the closure swallowed
    /// the error, or wrapped it in its own.
    failure: Option<Error>,
}

/// What a transaction is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Read,
    Write,
    WriteUrgently,
}

impl Store {
    /// A handle on `engine`; `seed` is for the jitter of retries.
    #[must_use]
    pub fn new(engine: Arc<dyn Engine>, seed: u64) -> Self {
        Self { engine, rng: Arc::new(Mutex::new(SmallRng::seed_from_u64(seed))) }
    }

    /// Runs `body` in a transaction and commits it, again and again while it conflicts with others,
    /// for at most [`BUDGET`].
    ///
    /// `body`'s second argument says whether an earlier run may have been committed; once true, it
    /// stays true. An error of `body`'s own ends it without a commit and is returned as it is.
    ///
    /// # Errors
    /// `body`'s own; or [`Error`], but never `Conflict`. When the budget is spent, or the engine is
    /// [away](Engine::away), it is `MaybeCommitted` if a commit was begun whose result is unknown,
    /// which may still take effect; and otherwise `Unavailable`.
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
    /// As for [`Store::transact`].
    pub async fn transact_urgently<T, E, F, Fut>(&self, body: F) -> Result<T, E>
    where
        E: From<Error>,
        F: Fn(Tx, bool) -> Fut + Send,
        Fut: Future<Output = Result<T, E>> + Send,
    {
        self.run(body, Mode::WriteUrgently).await
    }

    /// Runs `body` on one consistent state; whatever it writes is forgotten.
    ///
    /// # Errors
    /// As for [`Store::transact`].
    pub async fn read<T, E, F, Fut>(&self, body: F) -> Result<T, E>
    where
        E: From<Error>,
        F: Fn(Tx) -> Fut + Send,
        Fut: Future<Output = Result<T, E>> + Send,
    {
        self.run(move |tx, _| body(tx), Mode::Read).await
    }

    /// The rows of `range`, when nothing else is to be read with them.
    ///
    /// # Errors
    /// As for [`Store::transact`].
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
        let (retries, doubt) = (AtomicU32::new(0), AtomicBool::new(false));
        let why = tokio::select! {
            // While the engine is away nothing is even begun, which would wait within it.
            biased;
            () = self.engine.away() => "it does not answer".to_owned(),
            result = self.retry(body, mode, &retries, &doubt) => return result,
            // Bounds also how long a snapshot is held open.
            () = tokio::time::sleep(BUDGET) => {
                let retries = retries.load(Ordering::Relaxed);
                format!("not through within {BUDGET:?} and {retries} retries")
            }
        };
        match doubt.into_inner() {
            true => Err(Error::MaybeCommitted.into()),
            false => Err(Error::Unavailable(why).into()),
        }
    }

    /// `doubt` is set while a commit is under way, and stays so after one whose result is unknown.
    async fn retry<T, E, F, Fut>(
        &self,
        body: F,
        mode: Mode,
        retries: &AtomicU32,
        doubt: &AtomicBool,
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
                    doubt.fetch_or(commit && result.is_ok(), Ordering::Relaxed);
                    match tx.finish(result, commit).await {
                        Ok(done) => return done,
                        Err(failure) => failure,
                    }
                }
                Err(failure) => failure,
            };
            maybe_committed |= failure == Error::MaybeCommitted;
            doubt.store(maybe_committed, Ordering::Relaxed);
            if !failure.is_retryable() {
                let failure = if maybe_committed { Error::MaybeCommitted } else { failure };
                return Err(failure.into());
            }
            self.pause(retries.fetch_add(1, Ordering::Relaxed)).await;
        }
    }

    /// The first retry comes at once, as a conflict has been resolved by the time it is reported;
    /// the later ones are spread, because something is contended.
    async fn pause(&self, retries: u32) {
        if retries == 0 {
            return;
        }
        let most = 1_u64.checked_shl(retries).unwrap_or(MAX_PAUSE_MS).min(MAX_PAUSE_MS);
        let pause = lock(&self.rng).random_range(0..=most);
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
        Self(Arc::new(Attempt { transaction, state: Mutex::default() }))
    }

    /// Reads these keys at once; see [`Transaction::prefetch`].
    ///
    /// # Errors
    /// What went wrong; pass it on.
    pub async fn prefetch(&self, keys: impl Iterator<Item = Vec<u8>> + Send) -> Result<(), Error> {
        if !self.0.transaction.fetches_ahead() {
            return Ok(());
        }
        let keys: Vec<_> = keys.collect();
        for key in &keys {
            self.check_key(key)?;
        }
        self.remember(self.0.transaction.prefetch(keys).await)
    }

    /// The value of `key`, which must not have changed when the transaction commits.
    ///
    /// # Errors
    /// What went wrong; pass it on.
    pub async fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Bytes>, Error> {
        let key = key.as_ref();
        self.check_key(key)?;
        self.remember(self.0.transaction.get(key).await)
    }

    /// The value of `key`, which may change before the transaction commits.
    ///
    /// # Errors
    /// What went wrong; pass it on.
    pub async fn snap_get(&self, key: impl AsRef<[u8]>) -> Result<Option<Bytes>, Error> {
        let key = key.as_ref();
        self.check_key(key)?;
        self.remember(self.0.transaction.snap_get(key).await)
    }

    /// The rows of `range`, which must be the same ones when the transaction commits. What lies
    /// beyond the last row returned under a limit is not part of that.
    ///
    /// # Errors
    /// What went wrong; pass it on.
    pub async fn range(&self, range: Range) -> Result<Vec<Pair>, Error> {
        self.remember(self.0.transaction.range(range).await)
    }

    /// The rows of `range`, which may change before the transaction commits.
    ///
    /// # Errors
    /// What went wrong; pass it on.
    pub async fn snap_range(&self, range: Range) -> Result<Vec<Pair>, Error> {
        self.remember(self.0.transaction.snap_range(range).await)
    }

    /// Writes `value` at `key`. Too much of either fails the transaction when it commits.
    pub fn set(&self, key: impl Into<Vec<u8>>, value: impl Into<Bytes>) {
        let (key, value) = (key.into(), value.into());
        if self.count(&key, value.len()) {
            self.0.transaction.set(key, value);
        }
    }

    /// Removes `key`.
    pub fn clear(&self, key: impl Into<Vec<u8>>) {
        let key = key.into();
        if self.count(&key, 0) {
            self.0.transaction.clear(key);
        }
    }

    /// Removes every key from `begin` to before `end`.
    pub fn clear_range(&self, begin: impl Into<Vec<u8>>, end: impl Into<Vec<u8>>) {
        self.0.transaction.clear_range(begin.into(), end.into());
    }

    /// Adds `delta` to the counter at `key` without reading it; see [`Transaction::add`].
    pub fn add(&self, key: impl Into<Vec<u8>>, delta: i64) {
        let key = key.into();
        if self.count(&key, size_of::<i64>()) {
            self.0.transaction.add(key, delta);
        }
    }

    /// Decides what becomes of an attempt whose closure returned `result`: `Ok` is the answer to the
    /// caller, `Err` a failure of the store.
    async fn finish<T, E>(self, result: Result<T, E>, commit: bool) -> Result<Result<T, E>, Error> {
        let attempt =
            Arc::into_inner(self.0).expect("no clone of a transaction outlives its closure");
        let state = attempt.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        match (result, state.failure) {
            // Also when the closure returns it as an error of its own: whether an earlier run may
            // have been committed is known to the caller of this alone.
            (_, Some(failure)) => Err(failure),
            (Err(error), None) => Ok(Err(error)),
            (Ok(value), None) => {
                if commit {
                    attempt.transaction.commit().await?;
                }
                Ok(Ok(value))
            }
        }
    }

    fn check_key(&self, key: &[u8]) -> Result<(), Error> {
        self.remember(within("key", key.len(), MAX_KEY))
    }

    /// Counts a write and says whether it is within bounds.
    fn count(&self, key: &[u8], value: usize) -> bool {
        let mut state = lock(&self.0.state);
        state.written += key.len() + value;
        let checked = within("key", key.len(), MAX_KEY)
            .and_then(|()| within("value", value, MAX_VALUE))
            .and_then(|()| within("transaction", state.written, MAX_TRANSACTION));
        let fits = checked.is_ok();
        state.failure = state.failure.take().or(checked.err());
        fits
    }

    fn remember<T>(&self, result: Result<T, Error>) -> Result<T, Error> {
        if let Err(error) = &result {
            lock(&self.0.state).failure.get_or_insert_with(|| error.clone());
        }
        result
    }
}

fn within(what: &'static str, actual: usize, limit: usize) -> Result<(), Error> {
    if actual > limit { Err(Error::TooLarge { what, limit, actual }) } else { Ok(()) }
}
