//! The generation of an account's portal links. Only links of the current generation are valid, so
//! all links can be revoked at once without storing any of them.

use postrider_domain::ids::AccountId;

use crate::accounts::account_exists;
use crate::codec::RecordTx;
use crate::keys::{account, link_generation};
use crate::kv::Error;
use crate::records::Records;

impl Records {
    /// Returns the current generation, from 0. `None` if the account does not exist.
    pub async fn link_generation(&self, id: AccountId) -> Result<Option<u64>, Error> {
        self.store
            .read(|tx| async move {
                if tx.snap_get(account::key(id)).await?.is_none() {
                    return Ok(None);
                }
                let generation: Option<u64> = tx.snap_load(&link_generation::key(id)).await?;
                Ok(Some(generation.unwrap_or_default()))
            })
            .await
    }

    /// Starts a new generation, which revokes all links of earlier ones. Returns false if the
    /// account does not exist.
    pub async fn revoke_links(&self, id: AccountId) -> Result<bool, Error> {
        // Outside the transaction, which may run more than once.
        let Some(current) = self.link_generation(id).await? else {
            return Ok(false);
        };
        let next = current.saturating_add(1);
        self.store
            .transact(|tx, _| async move {
                let known = account_exists(&tx, id).await?;
                let generation: Option<u64> = tx.load(&link_generation::key(id)).await?;
                if known && generation.unwrap_or_default() < next {
                    tx.save(link_generation::key(id), &next);
                }
                Ok(known)
            })
            .await
    }
}
