//! Shard ownership. Every write of an owner goes through [`Records::as_owner`], which checks its
//! fence.

use std::future::Future;

use postrider_domain::assignment::{Fence, Shard};
use postrider_domain::ids::BootId;

use crate::codec::RecordTx;
use crate::keys::owner::{self, Owner};
use crate::keys::ownership_version;
use crate::kv::{self, Error, Tx};
use crate::records::Records;

/// Why an owner's write failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OwnerError {
    /// Another node has claimed the shard. Stop working on it.
    #[error("another node has claimed the shard")]
    Fenced,
    #[error(transparent)]
    Store(#[from] Error),
}

/// The maximum number of owners that one transaction changes or prefetches.
const BATCH_SIZE: usize = 500;

/// The owners of all shards at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ownership {
    /// Incremented with every change of a shard's owner.
    pub version: i64,
    /// By shard. `None` for a shard that has never been owned.
    pub owners: Vec<Option<Owner>>,
}

impl Records {
    /// Makes `node` the owner of `shards` unconditionally, and returns the new fences. Earlier
    /// fences become invalid. This is for a single node; in a cluster use [`Records::take_over`].
    pub async fn claim(&self, shards: &[Shard], node: BootId) -> Result<Vec<Fence>, Error> {
        let mut fences = Vec::with_capacity(shards.len());
        for shards in shards.chunks(BATCH_SIZE) {
            let claimed = self.store.transact(|tx, _| async move {
                tx.prefetch(shards.iter().map(|shard| owner::key(*shard))).await?;
                let mut claimed = Vec::with_capacity(shards.len());
                for shard in shards {
                    let before: Option<Owner> = tx.load(&owner::key(*shard)).await?;
                    claimed.push(write(&tx, *shard, before, node));
                }
                Ok::<_, Error>(claimed)
            });
            fences.extend(claimed.await?);
        }
        Ok(fences)
    }

    /// Makes `node` the owner of each shard whose owner is still the expected one, and returns the
    /// fences of those shards.
    ///
    /// # Errors
    /// When the store fails. Some shards may have been taken by then; see [`Records::ownership`].
    pub async fn take_over(
        &self,
        shards: &[(Shard, Option<Owner>)],
        node: BootId,
    ) -> Result<Vec<Fence>, Error> {
        let mut fences = Vec::with_capacity(shards.len());
        for shards in shards.chunks(BATCH_SIZE) {
            let taken = self.store.transact(|tx, maybe_committed| async move {
                tx.prefetch(shards.iter().map(|(shard, _)| owner::key(*shard))).await?;
                let mut taken = Vec::with_capacity(shards.len());
                for (shard, expected) in shards {
                    let found: Option<Owner> = tx.load(&owner::key(*shard)).await?;
                    let claimed = Owner { epoch: next_epoch(*expected), node };
                    if found == *expected {
                        taken.push(write(&tx, *shard, found, node));
                    } else if maybe_committed && found == Some(claimed) {
                        // An earlier run of this transaction took it.
                        taken.push(Fence { shard: *shard, epoch: claimed.epoch, node });
                    }
                }
                Ok::<_, Error>(taken)
            });
            fences.extend(taken.await?);
        }
        Ok(fences)
    }

    /// Hands a shard over from the holder of `fence` to `target`, and returns the new fence.
    pub async fn hand_over(&self, fence: Fence, target: BootId) -> Result<Fence, OwnerError> {
        let before = Some(Owner { epoch: fence.epoch, node: fence.node });
        let new_owner = Owner { epoch: next_epoch(before), node: target };
        self.store
            .transact(|tx, maybe_committed| async move {
                let found: Option<Owner> = tx.load(&owner::key(fence.shard)).await?;
                if found == before {
                    Ok(write(&tx, fence.shard, before, target))
                } else if maybe_committed && found == Some(new_owner) {
                    // An earlier run of this transaction handed it over.
                    Ok(Fence { shard: fence.shard, epoch: new_owner.epoch, node: target })
                } else {
                    Err(OwnerError::Fenced)
                }
            })
            .await
    }

    /// Returns the owners of all shards, or `None` if nothing has changed since version `since`.
    pub async fn ownership(&self, since: Option<i64>) -> Result<Option<Ownership>, Error> {
        self.store
            .read(|tx| async move {
                let version = kv::counter(tx.snap_get(ownership_version::key()).await?.as_deref());
                if since == Some(version) {
                    return Ok(None);
                }
                for shards in (0..self.shards()).collect::<Vec<_>>().chunks(BATCH_SIZE) {
                    tx.prefetch(shards.iter().map(|shard| owner::key(*shard))).await?;
                }
                let mut owners = Vec::with_capacity(usize::from(self.shards()));
                for shard in 0..self.shards() {
                    owners.push(tx.snap_load(&owner::key(shard)).await?);
                }
                Ok(Some(Ownership { version, owners }))
            })
            .await
    }

    /// Runs `body` in a transaction as the owner of a shard. If the shard has a later owner, it
    /// fails with `Fenced` and writes nothing.
    pub(crate) async fn as_owner<T, F, Fut>(&self, fence: Fence, body: F) -> Result<T, OwnerError>
    where
        T: Send,
        F: Fn(Tx) -> Fut + Send + Sync,
        Fut: Future<Output = Result<T, Error>> + Send,
    {
        let body = &body;
        self.store
            .transact(|tx, _| async move {
                if !is_current(&tx, fence).await? {
                    return Err(OwnerError::Fenced);
                }
                Ok(body(tx).await?)
            })
            .await
    }
}

fn next_epoch(before: Option<Owner>) -> u64 {
    before.map_or(1, |owner| owner.epoch + 1)
}

fn write(tx: &Tx, shard: Shard, before: Option<Owner>, node: BootId) -> Fence {
    let epoch = next_epoch(before);
    tx.save(owner::key(shard), &Owner { epoch, node });
    tx.add(ownership_version::key(), 1);
    Fence { shard, epoch, node }
}

/// Whether `fence` is still the shard's newest. Checked again at commit.
pub(crate) async fn is_current(tx: &Tx, fence: Fence) -> Result<bool, Error> {
    let owner: Option<Owner> = tx.load(&owner::key(fence.shard)).await?;
    Ok(owner.is_some_and(|owner| owner.epoch == fence.epoch && owner.node == fence.node))
}
