//! The shards that are owned here. They stand beside the notifier's mailbox, so that an email under
//! way, which may take a minute, holds the tenure of its own shard and no other.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use postrider_cluster::tenure::Tenure;
use postrider_domain::ownership::{Fence, Shard};

/// The tenures of a node's shards. Clones share them.
#[derive(Clone, Default)]
pub(super) struct Owned(Arc<Mutex<BTreeMap<Shard, Tenure>>>);

impl Owned {
    pub(super) fn insert(&self, tenure: Tenure) {
        self.lock().insert(tenure.fence().shard, tenure);
    }

    /// Lets go of a tenure, unless another one has followed it.
    pub(super) fn remove(&self, fence: Fence) {
        let mut tenures = self.lock();
        if tenures.get(&fence.shard).is_some_and(|tenure| tenure.fence() == fence) {
            tenures.remove(&fence.shard);
        }
    }

    /// The tenure of a shard, unless it is over.
    pub(super) fn of(&self, shard: Shard) -> Option<Tenure> {
        self.lock().get(&shard).filter(|tenure| !tenure.is_over()).cloned()
    }

    /// The tenure under a fence, unless it is over.
    pub(super) fn under(&self, fence: Fence) -> Option<Tenure> {
        self.of(fence.shard).filter(|tenure| tenure.fence() == fence)
    }

    pub(super) fn shards(&self) -> Vec<Shard> {
        self.lock().keys().copied().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Shard, Tenure>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
