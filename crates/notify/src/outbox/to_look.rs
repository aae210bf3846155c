//! Which shards want a look, and how far the look at each has come.

use std::collections::BTreeMap;
use std::ops::Bound;

use postrider_domain::ownership::Shard;
use postrider_store::NoticeCursor;

/// Shards that want a look. They take turns, so that one with very many notices holds up no other.
#[derive(Default)]
pub(super) struct ToLook {
    /// Each with the place behind which its look goes on; none at its beginning.
    shards: BTreeMap<Shard, Option<NoticeCursor>>,
    last: Option<Shard>,
}

impl ToLook {
    /// Adds shards. The look at one that is there already goes on where it is: what has come since
    /// is behind that, or is found by the next one.
    pub(super) fn add(&mut self, shards: impl IntoIterator<Item = Shard>) {
        for shard in shards {
            self.shards.entry(shard).or_default();
        }
    }

    /// The shard whose turn it is, and where its look goes on.
    pub(super) fn next(&self) -> Option<(Shard, Option<NoticeCursor>)> {
        let after_last = self.last.map_or(Bound::Unbounded, Bound::Excluded);
        let later = self.shards.range((after_last, Bound::Unbounded)).next();
        let (shard, after) = later.or_else(|| self.shards.first_key_value())?;
        Some((*shard, after.clone()))
    }

    /// The shard has had its turn; its look goes on at `next`, or is over.
    pub(super) fn looked(&mut self, shard: Shard, next: Option<NoticeCursor>) {
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
        let mut to_look = ToLook::default();
        to_look.add([3, 1, 2]);
        let mut turns = Vec::new();
        while let Some((shard, _)) = to_look.next() {
            turns.push(shard);
            to_look.looked(shard, None);
            // One that is told of again and again.
            if turns.len() < 4 {
                to_look.add([1]);
            }
        }
        assert_eq!(turns, [1, 2, 3, 1]);
    }
}
