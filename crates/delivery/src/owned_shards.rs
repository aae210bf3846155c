//! The shards that this node owns, and the routing of wakes to their actors.

use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::RwLock;
use postrider_cluster::route::LocalShards;
use postrider_cluster::shard_guard::{ShardGuard, ShardRevoked};
use postrider_domain::assignment::{Fence, Shard};
use postrider_store::{Records, Wake};
use tokio::sync::Semaphore;

use crate::peer_deliveries::{self, PeerDelivery};
use crate::shard::ShardHandle;

/// Maximum concurrent reads that verify deliveries from other nodes.
const MAX_PEER_READS: usize = 16;

/// The actors of the shards that this node owns. Clones share them.
#[derive(Clone)]
pub struct OwnedShards {
    /// By shard.
    shards: Arc<RwLock<Vec<Option<OwnedShard>>>>,
    records: Records,
    /// Limits concurrent reads that verify deliveries from other nodes.
    peer_reads: Arc<Semaphore>,
}

struct OwnedShard {
    fence: Fence,
    revoked: ShardRevoked,
    handle: ShardHandle,
}

impl OwnedShards {
    /// Creates the registry. This node owns no shard yet.
    #[must_use]
    pub fn new(records: Records) -> Self {
        let shards = (0..records.shards()).map(|_| None).collect();
        Self {
            shards: Arc::new(RwLock::new(shards)),
            records,
            peer_reads: Arc::new(Semaphore::new(MAX_PEER_READS)),
        }
    }

    pub(crate) fn owns(&self, shard: Shard) -> bool {
        let shards = self.shards.read();
        let owned = shards.get(usize::from(shard));
        matches!(owned, Some(Some(owned)) if !owned.revoked.is_revoked())
    }

    pub(crate) fn owned(&self) -> HashSet<Shard> {
        self.shards.read().iter().flatten().map(|owned| owned.fence.shard).collect()
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
        let mut shards = self.shards.write();
        change(&mut shards[usize::from(shard)])
    }
}

impl LocalShards for OwnedShards {
    fn wake(&self, wakes: Vec<Wake>) -> Vec<Wake> {
        let shards = self.shards.read();
        let mut others = Vec::new();
        for wake in wakes {
            match shards.get(usize::from(wake.shard())) {
                Some(Some(owned)) if !owned.revoked.is_revoked() => owned.handle.wake(wake),
                _ => others.push(wake),
            }
        }
        others
    }

    fn wake_from_peer(&self, wakes: Vec<Wake>) -> Vec<Wake> {
        let (mut deliveries, mut hints) = (Vec::new(), Vec::new());
        let permit = self.peer_reads.clone().try_acquire_owned();
        for wake in wakes {
            match PeerDelivery::from_wake(wake) {
                Ok(delivery) if permit.is_ok() && self.owns(delivery.shard()) => {
                    deliveries.push(delivery);
                }
                // Its owner reads it from the store.
                Ok(delivery) => hints.push(delivery.wake(None)),
                Err(hint) => hints.push(hint),
            }
        }
        if !deliveries.is_empty() {
            let shards = self.clone();
            tokio::spawn(async move {
                let verified = peer_deliveries::verify(&shards.records, deliveries).await;
                // If a shard has moved meanwhile, its new owner finds the delivery by a scan.
                let _ = shards.wake(verified);
                drop(permit);
            });
        }
        self.wake(hints)
    }

    fn scan_now(&self) {
        for owned in self.shards.read().iter().flatten() {
            owned.handle.scan_now();
        }
    }
}
