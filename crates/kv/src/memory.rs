//! The memory engine: the model that the other engines are compared with, and the store of tests.
//!
//! It keeps every version of a row that an open transaction may still read. From a seed it injects
//! what a real store does on a bad day: conflicts without a reason, commits of unknown result, and
//! delays. Alike seeds and alike calls give alike faults.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::{Buffer, Engine, Error, Pair, Range, Snapshot, Transaction, Writes, lock};

/// A store in memory; clones share the data.
#[derive(Clone, Default)]
pub struct Memory {
    data: Arc<Mutex<Data>>,
    faults: Option<Arc<Mutex<Dice>>>,
    nearly_full: Arc<AtomicBool>,
}

/// How often a commit goes wrong, as probabilities from 0 to 1; their sum is at most 1.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Faults {
    /// The commit reports a conflict that was none.
    pub conflict: f64,
    /// The commit reports `MaybeCommitted` and did nothing.
    pub lost_before_commit: f64,
    /// The commit reports `MaybeCommitted` and did everything.
    pub lost_after_commit: f64,
    /// The longest time that a commit takes, on tokio's clock.
    pub delay: Duration,
}

struct Dice {
    faults: Faults,
    rng: SmallRng,
}

/// What happens to one commit.
enum Fate {
    Fair,
    Conflict,
    LostBefore,
    LostAfter,
}

#[derive(Default)]
struct Data {
    /// Each row's versions, the newest last; `None` if it was removed.
    rows: BTreeMap<Vec<u8>, Vec<(u64, Option<Bytes>)>>,
    version: u64,
    /// Keys of rows that were removed, until nobody can see that they were ever there.
    graves: Vec<Vec<u8>>,
    /// How many transactions are open on each version.
    open: BTreeMap<u64, usize>,
}

/// The data as of one version.
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

    /// An empty store with `faults` that follow from `seed`.
    #[must_use]
    pub fn with_faults(seed: u64, faults: Faults) -> Self {
        let dice = Dice { faults, rng: SmallRng::seed_from_u64(seed) };
        Self { faults: Some(Arc::new(Mutex::new(dice))), ..Self::default() }
    }

    /// Changes the faults from here on; nothing on a store that was made without.
    pub fn set_faults(&self, faults: Faults) {
        if let Some(dice) = &self.faults {
            lock(dice).faults = faults;
        }
    }

    /// Makes the store say that only its reserve is left, or no longer.
    pub fn set_nearly_full(&self, nearly_full: bool) {
        self.nearly_full.store(nearly_full, Ordering::Relaxed);
    }

    /// Counts the commits.
    #[must_use]
    pub fn version(&self) -> u64 {
        lock(&self.data).version
    }

    async fn fate(&self) -> Fate {
        let Some(dice) = &self.faults else {
            return Fate::Fair;
        };
        let (fate, delay) = lock(dice).throw();
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        fate
    }
}

impl Dice {
    fn throw(&mut self) -> (Fate, Duration) {
        let Faults { conflict, lost_before_commit, lost_after_commit, delay } = self.faults;
        // Always two throws, so that one fault's probability does not shift the others' dice.
        let (dice, pause): (f64, f64) = (self.rng.random(), self.rng.random());
        let fate = if dice < conflict {
            Fate::Conflict
        } else if dice < conflict + lost_before_commit {
            Fate::LostBefore
        } else if dice < conflict + lost_before_commit + lost_after_commit {
            Fate::LostAfter
        } else {
            Fate::Fair
        };
        (fate, delay.mul_f64(pause))
    }
}

#[async_trait]
impl Engine for Memory {
    async fn begin(&self) -> Result<Box<dyn Transaction>, Error> {
        let version = {
            let mut data = lock(&self.data);
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
    fn read<T>(&self, what: impl FnOnce(&mut Buffer, &AsOf<'_>) -> T) -> T {
        let data = lock(&self.memory.data);
        what(&mut lock(&self.buffer), &AsOf(&data, self.version))
    }

    fn apply(&self) -> Result<(), Error> {
        let mut data = lock(&self.memory.data);
        let buffer = lock(&self.buffer);
        if !buffer.holds_in(&AsOf(&data, data.version))? {
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
        lock(&self.buffer).writes.set(key, value);
    }

    fn clear(&self, key: Vec<u8>) {
        lock(&self.buffer).writes.clear(key);
    }

    fn clear_range(&self, begin: Vec<u8>, end: Vec<u8>) {
        lock(&self.buffer).writes.clear_range(begin, end);
    }

    fn add(&self, key: Vec<u8>, delta: i64) {
        lock(&self.buffer).writes.add(key, delta);
    }

    async fn commit(self: Box<Self>) -> Result<(), Error> {
        if lock(&self.buffer).writes.is_empty() {
            return Ok(());
        }
        match self.memory.fate().await {
            Fate::Fair => self.apply(),
            Fate::Conflict => Err(Error::Conflict),
            Fate::LostBefore => Err(Error::MaybeCommitted),
            Fate::LostAfter => self.apply().and(Err(Error::MaybeCommitted)),
        }
    }
}

impl Drop for MemoryTransaction {
    fn drop(&mut self) {
        let mut data = lock(&self.memory.data);
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
        self.bury();
    }

    fn bury(&mut self) {
        let oldest = self.oldest_read();
        let Self { rows, graves, .. } = self;
        graves.retain(|key| match rows.get(key).map(Vec::as_slice) {
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
            self.graves.push(key.to_vec());
        }
        let versions = self.rows.entry(key.to_vec()).or_default();
        versions.retain(|&(written, _)| written != version);
        versions.push((version, value));
        // What nobody can read any more goes: all before the newest that the oldest reader sees.
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
