//! A transaction's buffered writes, overlaid on its reads.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;

use super::{Pair, counter};

/// A transaction's buffered writes. Apply the cleared ranges first, then the changes.
#[derive(Debug, Default)]
pub(crate) struct Writes {
    cleared: Vec<(Vec<u8>, Vec<u8>)>,
    changes: BTreeMap<Vec<u8>, Change>,
}

/// A change to one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    Set(Bytes),
    Clear,
    Add(i64),
}

impl Change {
    /// The value after this change, given the value `before`.
    pub(crate) fn apply(&self, before: Option<&[u8]>) -> Option<Bytes> {
        match self {
            Self::Set(value) => Some(value.clone()),
            Self::Clear => None,
            Self::Add(delta) => Some(sum(before, *delta)),
        }
    }
}

fn sum(before: Option<&[u8]>, delta: i64) -> Bytes {
    Bytes::copy_from_slice(&counter(before).wrapping_add(delta).to_le_bytes())
}

impl Writes {
    pub(crate) fn is_empty(&self) -> bool {
        self.cleared.is_empty() && self.changes.is_empty()
    }

    pub(crate) fn set(&mut self, key: Vec<u8>, value: Bytes) {
        self.changes.insert(key, Change::Set(value));
    }

    pub(crate) fn clear(&mut self, key: Vec<u8>) {
        self.changes.insert(key, Change::Clear);
    }

    pub(crate) fn clear_range(&mut self, begin: Vec<u8>, end: Vec<u8>) {
        if begin >= end {
            return;
        }
        let inside: Vec<_> = self.between(&begin, &end).map(|(key, _)| key.clone()).collect();
        for key in inside {
            self.changes.remove(&key);
        }
        self.cleared.push((begin, end));
    }

    pub(crate) fn add(&mut self, key: Vec<u8>, delta: i64) {
        let change = match self.changes.get(&key) {
            Some(Change::Set(value)) => Change::Set(sum(Some(value), delta)),
            Some(Change::Clear) => Change::Set(sum(None, delta)),
            Some(Change::Add(before)) => Change::Add(before.wrapping_add(delta)),
            None => Change::Add(delta),
        };
        self.changes.insert(key, change);
    }

    /// The ranges to clear before the changes are applied.
    pub(crate) fn cleared(&self) -> &[(Vec<u8>, Vec<u8>)] {
        &self.cleared
    }

    /// The changes in key order.
    pub(crate) fn changes(&self) -> impl Iterator<Item = (&Vec<u8>, &Change)> {
        self.changes.iter()
    }

    /// The change to `key`, taking cleared ranges into account.
    pub(crate) fn get(&self, key: &[u8]) -> Option<Change> {
        let change = self.changes.get(key);
        let cleared = !self.cleared.is_empty() && self.is_cleared(key);
        match (change, cleared) {
            // The range was cleared first, so the counter starts from zero.
            (Some(Change::Add(delta)), true) => Some(Change::Set(sum(None, *delta))),
            (Some(change), _) => Some(change.clone()),
            (None, true) => Some(Change::Clear),
            (None, false) => None,
        }
    }

    /// Whether anything in `begin..end` was written.
    pub(crate) fn overlaps(&self, begin: &[u8], end: &[u8]) -> bool {
        self.cleared.iter().any(|(from, to)| from.as_slice() < end && begin < to.as_slice())
            || self.between(begin, end).next().is_some()
    }

    /// Whether a stored row survives the writes, possibly with another value.
    pub(crate) fn keeps(&self, key: &[u8]) -> bool {
        self.get(key) != Some(Change::Clear)
    }

    /// Applies the writes to `rows`, the stored rows in `begin..end`.
    pub(crate) fn overlay(
        &self,
        rows: &[Pair],
        begin: &[u8],
        end: &[u8],
    ) -> BTreeMap<Bytes, Bytes> {
        let kept = rows.iter().filter(|(key, _)| !self.is_cleared(key));
        let mut merged: BTreeMap<Bytes, Bytes> = kept.cloned().collect();
        for (key, change) in self.between(begin, end) {
            let before = merged.get(key.as_slice()).map(Bytes::as_ref);
            match change.apply(before) {
                Some(value) => merged.insert(Bytes::copy_from_slice(key), value),
                None => merged.remove(key.as_slice()),
            };
        }
        merged
    }

    fn is_cleared(&self, key: &[u8]) -> bool {
        self.cleared.iter().any(|(begin, end)| begin.as_slice() <= key && key < end.as_slice())
    }

    fn between(&self, begin: &[u8], end: &[u8]) -> impl Iterator<Item = (&Vec<u8>, &Change)> {
        // BTreeMap::range panics if begin > end.
        let end = end.max(begin);
        self.changes.range::<[u8], _>((Bound::Included(begin), Bound::Excluded(end)))
    }
}
