//! Who owns a shard. An owner's every write goes through [`Records::as_owner`]: no fence, no
//! write.

use std::future::Future;

use postrider_domain::ids::BootId;
use postrider_domain::ownership::{Fence, Shard};

use crate::codec::RecordTx;
use crate::keys::moves;
use crate::keys::owner::{self, Owner};
use crate::kv::{self, Error, Tx};
use crate::records::Records;

/// Why an owner's write did not happen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OwnerError {
    /// Another owner has claimed the shard since. Stop working on it.
    #[error("another owner has claimed the shard")]
    Fenced,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] Error),
}

/// Owners that one transaction changes, and that are fetched together.
const AT_ONCE: usize = 500;

/// The owners of all shards at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ownership {
    /// How often shards had changed hands by then.
    pub moves: i64,
    /// By shard; none for one that was never owned.
    pub owners: Vec<Option<Owner>>,
}

impl Records {
    /// Makes `node` the owner of `shards`, whoever owned them, and gives the fences to present.
    /// From then on the fences of all earlier owners are refused. For a node that is alone; one
    /// among others uses [`Records::take_over`].
    ///
    /// # Errors
    /// When the store fails.
    pub async fn claim(&self, shards: &[Shard], node: BootId) -> Result<Vec<Fence>, Error> {
        let mut fences = Vec::with_capacity(shards.len());
        for shards in shards.chunks(AT_ONCE) {
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

    /// Makes `node` the owner of those of the shards whose owner is still the given one, and gives
    /// the fences to present.
    ///
    /// # Errors
    /// When the store fails; what was taken by then is seen in [`Records::ownership`].
    pub async fn take_over(
        &self,
        shards: &[(Shard, Option<Owner>)],
        node: BootId,
    ) -> Result<Vec<Fence>, Error> {
        let mut fences = Vec::with_capacity(shards.len());
        for shards in shards.chunks(AT_ONCE) {
            let taken = self.store.transact(|tx, maybe_committed| async move {
                tx.prefetch(shards.iter().map(|(shard, _)| owner::key(*shard))).await?;
                let mut taken = Vec::with_capacity(shards.len());
                for (shard, expected) in shards {
                    let found: Option<Owner> = tx.load(&owner::key(*shard)).await?;
                    let claimed = Owner { epoch: next_epoch(*expected), node };
                    if found == *expected {
                        taken.push(write(&tx, *shard, found, node));
                    } else if maybe_committed && found == Some(claimed) {
                        // An earlier run took it.
                        taken.push(Fence { shard: *shard, epoch: claimed.epoch, node });
                    }
                }
                Ok::<_, Error>(taken)
            });
            fences.extend(taken.await?);
        }
        Ok(fences)
    }

    /// Makes `heir` the owner of a shard, by the right of `fence`, and gives the heir's fence.
    ///
    /// # Errors
    /// When the shard has a later owner already, or the store fails.
    pub async fn hand_over(&self, fence: Fence, heir: BootId) -> Result<Fence, OwnerError> {
        let before = Some(Owner { epoch: fence.epoch, node: fence.node });
        let handed = Owner { epoch: next_epoch(before), node: heir };
        self.store
            .transact(|tx, maybe_committed| async move {
                let found: Option<Owner> = tx.load(&owner::key(fence.shard)).await?;
                if found == before {
                    Ok(write(&tx, fence.shard, before, heir))
                } else if maybe_committed && found == Some(handed) {
                    // An earlier run handed it over.
                    Ok(Fence { shard: fence.shard, epoch: handed.epoch, node: heir })
                } else {
                    Err(OwnerError::Fenced)
                }
            })
            .await
    }

    /// The owners of all shards, if any has changed hands since `moves`; none if not.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn ownership(&self, since: Option<i64>) -> Result<Option<Ownership>, Error> {
        self.store
            .read(|tx| async move {
                let moves = kv::counter(tx.snap_get(moves::key()).await?.as_deref());
                if since == Some(moves) {
                    return Ok(None);
                }
                for shards in (0..self.shards()).collect::<Vec<_>>().chunks(AT_ONCE) {
                    tx.prefetch(shards.iter().map(|shard| owner::key(*shard))).await?;
                }
                let mut owners = Vec::with_capacity(usize::from(self.shards()));
                for shard in 0..self.shards() {
                    owners.push(tx.snap_load(&owner::key(shard)).await?);
                }
                Ok(Some(Ownership { moves, owners }))
            })
            .await
    }

    /// Runs `body` as the owner of a shard: it fails with `Fenced`, and writes nothing, once the
    /// shard has a later owner.
    pub(crate) async fn as_owner<T, F, Fut>(&self, fence: Fence, body: F) -> Result<T, OwnerError>
    where
        T: Send,
        F: Fn(Tx) -> Fut + Send + Sync,
        Fut: Future<Output = Result<T, Error>> + Send,
    {
        let body = &body;
        self.store
            .transact(|tx, _| async move {
                if !holds(&tx, fence).await? {
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
    tx.add(moves::key(), 1);
    Fence { shard, epoch, node }
}

/// Whether `fence` is still the shard's newest. Checked again at commit.
pub(crate) async fn holds(tx: &Tx, fence: Fence) -> Result<bool, Error> {
    let owner: Option<Owner> = tx.load(&owner::key(fence.shard)).await?;
    Ok(owner.is_some_and(|owner| owner.epoch == fence.epoch && owner.node == fence.node))
}
