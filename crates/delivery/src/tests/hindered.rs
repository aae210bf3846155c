//! The memory engine, in whose way a test can put itself.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use postrider_domain::ids::{EventId, Id};
use postrider_store::kv::memory::Memory;
use postrider_store::kv::{Engine, Error, Pair, Range, Transaction};
use tokio::sync::Semaphore;

/// The engine; clones are the same one.
#[derive(Clone, Default)]
pub(crate) struct Hindered {
    memory: Memory,
    hindrance: Arc<Mutex<Option<Hindrance>>>,
    met: Arc<AtomicUsize>,
}

#[derive(Clone)]
struct Hindrance {
    /// Ranges that begin with a key that has these bytes in it.
    of: Vec<u8>,
    with: With,
}

/// What happens to a read.
#[derive(Clone)]
pub(crate) enum With {
    /// It fails.
    Failure(Error),
    /// It waits for one of these.
    Turns(Arc<Semaphore>),
}

impl Hindered {
    /// Hinders the reading of an event's payload, until another hindrance takes its place.
    pub(crate) fn hinder(&self, event: EventId, with: With) {
        self.set(Some(Hindrance { of: event.bytes().to_vec(), with }));
    }

    pub(crate) fn clear_the_way(&self) {
        self.set(None);
    }

    /// How many reads have met a hindrance.
    pub(crate) fn met(&self) -> usize {
        self.met.load(SeqCst)
    }

    fn set(&self, hindrance: Option<Hindrance>) {
        *self.hindrance.lock().unwrap_or_else(PoisonError::into_inner) = hindrance;
    }

    fn hindrance(&self, range: &Range) -> Option<With> {
        let hindrance = self.hindrance.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        let of = &hindrance.of[..];
        range.begin.windows(of.len()).any(|bytes| bytes == of).then_some(hindrance.with)
    }

    async fn meet(&self, range: &Range) -> Result<(), Error> {
        let Some(with) = self.hindrance(range) else { return Ok(()) };
        self.met.fetch_add(1, SeqCst);
        match with {
            With::Failure(error) => Err(error),
            With::Turns(turns) => {
                turns.acquire().await.expect("never closed").forget();
                Ok(())
            }
        }
    }
}

#[async_trait]
impl Engine for Hindered {
    async fn begin(&self) -> Result<Box<dyn Transaction>, Error> {
        let transaction = self.memory.begin().await?;
        Ok(Box::new(HinderedTransaction { engine: self.clone(), transaction }))
    }
}

struct HinderedTransaction {
    engine: Hindered,
    transaction: Box<dyn Transaction>,
}

#[async_trait]
impl Transaction for HinderedTransaction {
    async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        self.transaction.get(key).await
    }

    async fn snap_get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        self.transaction.snap_get(key).await
    }

    async fn range(&self, range: Range) -> Result<Vec<Pair>, Error> {
        self.engine.meet(&range).await?;
        self.transaction.range(range).await
    }

    async fn snap_range(&self, range: Range) -> Result<Vec<Pair>, Error> {
        self.engine.meet(&range).await?;
        self.transaction.snap_range(range).await
    }

    fn set(&self, key: Vec<u8>, value: Bytes) {
        self.transaction.set(key, value);
    }

    fn clear(&self, key: Vec<u8>) {
        self.transaction.clear(key);
    }

    fn clear_range(&self, begin: Vec<u8>, end: Vec<u8>) {
        self.transaction.clear_range(begin, end);
    }

    fn add(&self, key: Vec<u8>, delta: i64) {
        self.transaction.add(key, delta);
    }

    async fn commit(self: Box<Self>) -> Result<(), Error> {
        self.transaction.commit().await
    }
}
