//! The shards owned by this node. They are kept outside the outbox's mailbox, so that an email in
//! flight, which may take a minute, holds the guard of its own shard only.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use postrider_cluster::shard_guard::ShardGuard;
use postrider_domain::assignment::{Fence, Shard};

/// The guards of a node's shards. Clones share them.
#[derive(Clone, Default)]
pub(super) struct OwnedShards(Arc<Mutex<BTreeMap<Shard, ShardGuard>>>);

impl OwnedShards {
    pub(super) fn insert(&self, guard: ShardGuard) {
        self.0.lock().insert(guard.fence().shard, guard);
    }

    /// Releases a guard, unless a newer one has replaced it.
    pub(super) fn remove(&self, fence: Fence) {
        let mut guards = self.0.lock();
        if guards.get(&fence.shard).is_some_and(|guard| guard.fence() == fence) {
            guards.remove(&fence.shard);
        }
    }

    /// The guard of a shard, unless it is revoked.
    pub(super) fn of(&self, shard: Shard) -> Option<ShardGuard> {
        self.0.lock().get(&shard).filter(|guard| !guard.is_revoked()).cloned()
    }

    /// The guard under a fence, unless it is revoked.
    pub(super) fn under(&self, fence: Fence) -> Option<ShardGuard> {
        self.of(fence.shard).filter(|guard| guard.fence() == fence)
    }

    pub(super) fn len(&self) -> usize {
        self.0.lock().len()
    }

    pub(super) fn shards(&self) -> Vec<Shard> {
        self.0.lock().keys().copied().collect()
    }
}
