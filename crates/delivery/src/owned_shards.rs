//! The shards that this node owns, and the routing of wakes to their actors.

use std::collections::HashSet;
use std::sync::{PoisonError, RwLock};

use postrider_cluster::shard_guard::{ShardGuard, ShardRevoked};
use postrider_domain::assignment::{Fence, Shard};
use postrider_store::Wake;

use crate::shard::ShardHandle;

/// The actors of the shards that this node owns, by shard.
pub(crate) struct OwnedShards(RwLock<Vec<Option<OwnedShard>>>);

struct OwnedShard {
    fence: Fence,
    revoked: ShardRevoked,
    handle: ShardHandle,
}

impl OwnedShards {
    pub(crate) fn new(count: u16) -> Self {
        Self(RwLock::new((0..count).map(|_| None).collect()))
    }

    /// Routes wakes to the shards owned here and returns the others.
    pub(crate) fn wake(&self, wakes: Vec<Wake>) -> Vec<Wake> {
        let shards = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut others = Vec::new();
        for wake in wakes {
            match shards.get(usize::from(wake.shard())) {
                Some(Some(owned)) if !owned.revoked.is_revoked() => owned.handle.wake(wake),
                _ => others.push(wake),
            }
        }
        others
    }

    /// Makes every shard owned here scan its due rows.
    pub(crate) fn scan_now(&self) {
        let shards = self.0.read().unwrap_or_else(PoisonError::into_inner);
        for owned in shards.iter().flatten() {
            owned.handle.scan_now();
        }
    }

    pub(crate) fn owns(&self, shard: Shard) -> bool {
        let shards = self.0.read().unwrap_or_else(PoisonError::into_inner);
        shards.get(usize::from(shard)).is_some_and(Option::is_some)
    }

    pub(crate) fn owned(&self) -> HashSet<Shard> {
        let shards = self.0.read().unwrap_or_else(PoisonError::into_inner);
        shards.iter().flatten().map(|owned| owned.fence.shard).collect()
    }

    pub(crate) fn insert(&self, guard: &ShardGuard, handle: ShardHandle) {
        let (fence, revoked) = (guard.fence(), guard.revoked());
        self.slot(fence.shard, |slot| *slot = Some(OwnedShard { fence, revoked, handle }));
    }

    /// Removes a shard, unless it has been claimed again meanwhile.
    pub(crate) fn remove(&self, fence: Fence) {
        self.slot(fence.shard, |slot| {
            slot.take_if(|owned| owned.fence == fence);
        });
    }

    fn slot<T>(&self, shard: Shard, change: impl FnOnce(&mut Option<OwnedShard>) -> T) -> T {
        let mut shards = self.0.write().unwrap_or_else(PoisonError::into_inner);
        change(&mut shards[usize::from(shard)])
    }
}
