//! Which shards to scan for notices, and how far each scan has progressed.

use std::collections::BTreeMap;
use std::ops::Bound;

use postrider_domain::assignment::Shard;
use postrider_store::NoticeCursor;

/// Shards to scan. They take turns, so that one with very many notices does not delay the others.
#[derive(Default)]
pub(super) struct ScanQueue {
    /// Each with the cursor after which its scan continues. `None` at the start.
    shards: BTreeMap<Shard, Option<NoticeCursor>>,
    last: Option<Shard>,
}

impl ScanQueue {
    /// Adds shards. A scan in progress continues where it is: newer notices come later in it, or
    /// the next scan finds them.
    pub(super) fn add(&mut self, shards: impl IntoIterator<Item = Shard>) {
        for shard in shards {
            self.shards.entry(shard).or_default();
        }
    }

    /// The shard whose turn it is, and where its scan continues.
    pub(super) fn next(&self) -> Option<(Shard, Option<NoticeCursor>)> {
        let after_last = self.last.map_or(Bound::Unbounded, Bound::Excluded);
        let later = self.shards.range((after_last, Bound::Unbounded)).next();
        let (shard, after) = later.or_else(|| self.shards.first_key_value())?;
        Some((*shard, after.clone()))
    }

    /// Ends the shard's turn. Its scan continues at `next`, or is complete.
    pub(super) fn advance(&mut self, shard: Shard, next: Option<NoticeCursor>) {
        self.last = Some(shard);
        match next {
            Some(next) => drop(self.shards.insert(shard, Some(next))),
            None => drop(self.shards.remove(&shard)),
        }
    }

    pub(super) fn retain(&mut self, keep: impl Fn(Shard) -> bool) {
        self.shards.retain(|shard, _| keep(*shard));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.shards.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_take_turns() {
        let mut scan_queue = ScanQueue::default();
        scan_queue.add([3, 1, 2]);
        let mut turns = Vec::new();
        while let Some((shard, _)) = scan_queue.next() {
            turns.push(shard);
            scan_queue.advance(shard, None);
            // Shard 1 is woken again and again.
            if turns.len() < 4 {
                scan_queue.add([1]);
            }
        }
        assert_eq!(turns, [1, 2, 3, 1]);
    }
}
