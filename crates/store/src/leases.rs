//! Who owns a shard. An owner's every write goes through [`Records::as_owner`]: no fence, no
//! write.

use std::future::Future;

use postrider_domain::ids::BootId;
use postrider_domain::ownership::{Fence, Shard};

use crate::keys::owner::{self, Owner};
use crate::kv::{Error, Tx};
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

/// Claims in one transaction.
const CLAIMS: usize = 500;

impl Records {
    /// Makes `node` the owner of `shards`, whoever owned them, and gives the fences to present.
    /// From then on the fences of all earlier owners are refused.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn claim(&self, shards: &[Shard], node: BootId) -> Result<Vec<Fence>, Error> {
        let mut fences = Vec::with_capacity(shards.len());
        for shards in shards.chunks(CLAIMS) {
            let claimed = self.store.transact(|tx, _| async move {
                let mut claimed = Vec::with_capacity(shards.len());
                for shard in shards {
                    claimed.push(claim(&tx, *shard, node).await?);
                }
                Ok::<_, Error>(claimed)
            });
            fences.extend(claimed.await?);
        }
        Ok(fences)
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

async fn claim(tx: &Tx, shard: Shard, node: BootId) -> Result<Fence, Error> {
    let before: Option<Owner> = tx.load(&owner::key(shard)).await?;
    let epoch = before.map_or(1, |owner| owner.epoch + 1);
    tx.save(owner::key(shard), &Owner { epoch, node });
    Ok(Fence { shard, epoch, node })
}

/// Whether `fence` is still the shard's newest. Checked again at commit.
pub(crate) async fn holds(tx: &Tx, fence: Fence) -> Result<bool, Error> {
    let owner: Option<Owner> = tx.load(&owner::key(fence.shard)).await?;
    Ok(owner.is_some_and(|owner| owner.epoch == fence.epoch && owner.node == fence.node))
}
