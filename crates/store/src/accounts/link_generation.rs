//! Which portal links of an account are still good: those of its present generation. So all that
//! were given out can be ended at once, and none has to be remembered.

use postrider_domain::ids::AccountId;

use crate::accounts::account_exists;
use crate::codec::RecordTx;
use crate::keys::{account, link_generation};
use crate::kv::Error;
use crate::records::Records;

impl Records {
    /// The generation that an account's links must be of, from 0. None when there is no such
    /// account.
    ///
    /// # Errors
    /// When the store fails.
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

    /// Begins a new generation, which ends the links of all older ones. False when there is no such
    /// account.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn end_links(&self, id: AccountId) -> Result<bool, Error> {
        // Apart from the transaction, which may be made twice.
        let Some(present) = self.link_generation(id).await? else {
            return Ok(false);
        };
        let next = present.saturating_add(1);
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
