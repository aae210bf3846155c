//! The in-memory engine: the reference model for the other engines, and the store used by tests.
//!
//! It keeps every version of a row that an open transaction may still read. It can inject faults
//! from a seed: spurious conflicts, commits with unknown results, and delays. The same seed and the
//! same calls give the same faults.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::{Buffer, Engine, Error, Pair, Range, Snapshot, Transaction, Writes};

/// A store in memory; clones share the data.
#[derive(Clone, Default)]
pub struct Memory {
    data: Arc<Mutex<Data>>,
    faults: Option<Arc<Mutex<FaultInjector>>>,
    nearly_full: Arc<AtomicBool>,
}

/// Fault probabilities of a commit, from 0 to 1; their sum is at most 1.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Faults {
    /// A spurious conflict.
    pub conflict: f64,
    /// The commit reports `MaybeCommitted` without having been applied.
    pub lost_before_commit: f64,
    /// The commit reports `MaybeCommitted` after having been applied.
    pub lost_after_commit: f64,
    /// The maximum duration of a commit, on tokio's clock.
    pub delay: Duration,
}

struct FaultInjector {
    faults: Faults,
    rng: SmallRng,
}

enum InjectedFault {
    None,
    Conflict,
    LostBefore,
    LostAfter,
}

#[derive(Default)]
struct Data {
    /// Each row's versions, newest last; `None` if removed.
    rows: BTreeMap<Vec<u8>, Vec<(u64, Option<Bytes>)>>,
    version: u64,
    /// Keys of removed rows that an open transaction may still see.
    tombstones: Vec<Vec<u8>>,
    /// The number of open transactions per version.
    open: BTreeMap<u64, usize>,
}

/// The data at one version.
struct AsOf<'a>(&'a Data, u64);

struct MemoryTransaction {
    memory: Memory,
    version: u64,
    buffer: Mutex<Buffer>,
}

impl Memory {
    /// An empty store without faults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty store that injects `faults`, drawn from `seed`.
    #[must_use]
    pub fn with_faults(seed: u64, faults: Faults) -> Self {
        let injector = FaultInjector { faults, rng: SmallRng::seed_from_u64(seed) };
        Self { faults: Some(Arc::new(Mutex::new(injector))), ..Self::default() }
    }

    /// Changes the faults; no effect on a store created without faults.
    pub fn set_faults(&self, faults: Faults) {
        if let Some(injector) = &self.faults {
            injector.lock().faults = faults;
        }
    }

    /// Sets whether the store reports that only its reserve is left.
    pub fn set_nearly_full(&self, nearly_full: bool) {
        self.nearly_full.store(nearly_full, Ordering::Relaxed);
    }

    /// The number of commits.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.data.lock().version
    }

    async fn inject_fault(&self) -> InjectedFault {
        let Some(injector) = &self.faults else {
            return InjectedFault::None;
        };
        let (fault, delay) = injector.lock().next_fault();
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        fault
    }
}

impl FaultInjector {
    fn next_fault(&mut self) -> (InjectedFault, Duration) {
        let Faults { conflict, lost_before_commit, lost_after_commit, delay } = self.faults;
        // Always draw two numbers, so that changing one probability does not shift later draws.
        let (draw, pause): (f64, f64) = (self.rng.random(), self.rng.random());
        let fault = if draw < conflict {
            InjectedFault::Conflict
        } else if draw < conflict + lost_before_commit {
            InjectedFault::LostBefore
        } else if draw < conflict + lost_before_commit + lost_after_commit {
            InjectedFault::LostAfter
        } else {
            InjectedFault::None
        };
        (fault, delay.mul_f64(pause))
    }
}

#[async_trait]
impl Engine for Memory {
    async fn begin(&self) -> Result<Box<dyn Transaction>, Error> {
        let version = {
            let mut data = self.data.lock();
            let version = data.version;
            *data.open.entry(version).or_default() += 1;
            version
        };
        Ok(Box::new(MemoryTransaction { memory: self.clone(), version, buffer: Mutex::default() }))
    }

    fn is_nearly_full(&self) -> bool {
        self.nearly_full.load(Ordering::Relaxed)
    }
}

impl MemoryTransaction {
    fn read<T>(&self, read: impl FnOnce(&mut Buffer, &AsOf<'_>) -> T) -> T {
        let data = self.memory.data.lock();
        read(&mut self.buffer.lock(), &AsOf(&data, self.version))
    }

    fn apply(&self) -> Result<(), Error> {
        let mut data = self.memory.data.lock();
        let buffer = self.buffer.lock();
        if !buffer.is_unchanged_in(&AsOf(&data, data.version))? {
            return Err(Error::Conflict);
        }
        data.apply(&buffer.writes);
        Ok(())
    }
}

#[async_trait]
impl Transaction for MemoryTransaction {
    async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        self.read(|buffer, data| buffer.get(data, key, true))
    }

    async fn snap_get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        self.read(|buffer, data| buffer.get(data, key, false))
    }

    async fn range(&self, range: Range) -> Result<Vec<Pair>, Error> {
        self.read(|buffer, data| buffer.range(data, range, true))
    }

    async fn snap_range(&self, range: Range) -> Result<Vec<Pair>, Error> {
        self.read(|buffer, data| buffer.range(data, range, false))
    }

    fn set(&self, key: Vec<u8>, value: Bytes) {
        self.buffer.lock().writes.set(key, value);
    }

    fn clear(&self, key: Vec<u8>) {
        self.buffer.lock().writes.clear(key);
    }

    fn clear_range(&self, begin: Vec<u8>, end: Vec<u8>) {
        self.buffer.lock().writes.clear_range(begin, end);
    }

    fn add(&self, key: Vec<u8>, delta: i64) {
        self.buffer.lock().writes.add(key, delta);
    }

    async fn commit(self: Box<Self>) -> Result<(), Error> {
        if self.buffer.lock().writes.is_empty() {
            return Ok(());
        }
        match self.memory.inject_fault().await {
            InjectedFault::None => self.apply(),
            InjectedFault::Conflict => Err(Error::Conflict),
            InjectedFault::LostBefore => Err(Error::MaybeCommitted),
            InjectedFault::LostAfter => self.apply().and(Err(Error::MaybeCommitted)),
        }
    }
}

impl Drop for MemoryTransaction {
    fn drop(&mut self) {
        let mut data = self.memory.data.lock();
        if let Some(count) = data.open.get_mut(&self.version) {
            *count -= 1;
            if *count == 0 {
                data.open.remove(&self.version);
            }
        }
    }
}

impl Data {
    fn apply(&mut self, writes: &Writes) {
        let (before, after) = (self.version, self.version + 1);
        for (begin, end) in writes.cleared() {
            let inside: Vec<_> =
                self.rows.range(begin.clone()..end.clone()).map(|(k, _)| k.clone()).collect();
            for key in inside {
                self.write(&key, after, None);
            }
        }
        for (key, change) in writes.changes() {
            let value = change.apply(AsOf(self, after).at(key));
            self.write(key, after, value);
        }
        debug_assert_eq!(self.version, before, "one commit at a time");
        self.version = after;
        self.purge_tombstones();
    }

    fn purge_tombstones(&mut self) {
        let oldest = self.oldest_read();
        let Self { rows, tombstones, .. } = self;
        tombstones.retain(|key| match rows.get(key).map(Vec::as_slice) {
            Some([.., (written, None)]) if *written <= oldest => {
                rows.remove(key);
                false
            }
            Some([.., (_, None)]) => true,
            _ => false,
        });
    }

    fn oldest_read(&self) -> u64 {
        self.open.keys().next().copied().unwrap_or(self.version)
    }

    fn write(&mut self, key: &[u8], version: u64, value: Option<Bytes>) {
        let oldest = self.oldest_read();
        if value.is_none() {
            self.tombstones.push(key.to_vec());
        }
        let versions = self.rows.entry(key.to_vec()).or_default();
        versions.retain(|&(written, _)| written != version);
        versions.push((version, value));
        // Drop versions that no open transaction can read: all before the newest one visible to the
        // oldest reader.
        let visible = versions.iter().rposition(|&(written, _)| written <= oldest).unwrap_or(0);
        versions.drain(..visible);
    }
}

impl AsOf<'_> {
    fn at(&self, key: &[u8]) -> Option<&[u8]> {
        self.0.rows.get(key).and_then(|versions| self.pick(versions))
    }

    fn pick<'v>(&self, versions: &'v [(u64, Option<Bytes>)]) -> Option<&'v [u8]> {
        let newest = versions.iter().rfind(|&&(written, _)| written <= self.1);
        newest.and_then(|(_, value)| value.as_deref())
    }
}

impl Snapshot for AsOf<'_> {
    fn value(&self, key: &[u8]) -> Result<Option<&[u8]>, Error> {
        Ok(self.at(key))
    }

    fn rows<'a>(
        &'a self,
        begin: &'a [u8],
        end: &'a [u8],
        reverse: bool,
    ) -> Result<impl Iterator<Item = Result<(&'a [u8], &'a [u8]), Error>>, Error> {
        let bounds = (Bound::Included(begin), Bound::Excluded(end));
        let mut rows = self.0.rows.range::<[u8], _>(bounds);
        let next = move || {
            if reverse { rows.next_back() } else { rows.next() }
        };
        Ok(std::iter::from_fn(next)
            .filter_map(|(key, versions)| Some(Ok((key.as_slice(), self.pick(versions)?)))))
    }
}
