//! The memory engine with fault injection.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use postrider_domain::ids::{EventId, Id};
use postrider_store::kv::memory::Memory;
use postrider_store::kv::{Engine, Error, Pair, Range, Transaction};
use tokio::sync::Semaphore;

/// A memory engine whose reads can be made to fail or block. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct FaultyEngine {
    memory: Memory,
    fault: Arc<Mutex<Option<InjectedFault>>>,
    met: Arc<AtomicUsize>,
}

#[derive(Clone)]
struct InjectedFault {
    /// Applies to reads of ranges whose first key contains these bytes.
    of: Vec<u8>,
    with: Fault,
}

/// What happens to an affected read.
#[derive(Clone)]
pub(crate) enum Fault {
    Error(Error),
    /// The read waits for a permit.
    Block(Arc<Semaphore>),
}

impl FaultyEngine {
    /// Injects a fault into reads of an event's payload, replacing any other fault.
    pub(crate) fn inject(&self, event: EventId, with: Fault) {
        self.set(Some(InjectedFault { of: event.bytes().to_vec(), with }));
    }

    pub(crate) fn clear_fault(&self) {
        self.set(None);
    }

    /// How many reads were affected by a fault.
    pub(crate) fn faults_hit(&self) -> usize {
        self.met.load(SeqCst)
    }

    fn set(&self, fault: Option<InjectedFault>) {
        *self.fault.lock() = fault;
    }

    fn fault(&self, range: &Range) -> Option<Fault> {
        let fault = self.fault.lock().clone()?;
        let of = &fault.of[..];
        range.begin.windows(of.len()).any(|bytes| bytes == of).then_some(fault.with)
    }

    async fn meet(&self, range: &Range) -> Result<(), Error> {
        let Some(with) = self.fault(range) else { return Ok(()) };
        self.met.fetch_add(1, SeqCst);
        match with {
            Fault::Error(error) => Err(error),
            Fault::Block(permits) => {
                permits.acquire().await.expect("never closed").forget();
                Ok(())
            }
        }
    }
}

#[async_trait]
impl Engine for FaultyEngine {
    async fn begin(&self) -> Result<Box<dyn Transaction>, Error> {
        let transaction = self.memory.begin().await?;
        Ok(Box::new(FaultyTransaction { engine: self.clone(), transaction }))
    }
}

struct FaultyTransaction {
    engine: FaultyEngine,
    transaction: Box<dyn Transaction>,
}

#[async_trait]
impl Transaction for FaultyTransaction {
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
