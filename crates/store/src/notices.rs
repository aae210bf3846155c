//! What people must be told: written with the change that it tells of, removed once told.

use postrider_domain::email::Email;
use postrider_domain::notice::Notice;
use postrider_domain::ownership::{Fence, Shard};

use crate::codec::decode;
use crate::keys::notice;
use crate::kv::{Error, Range, Tx};
use crate::owners::OwnerError;
use crate::records::Records;

impl Records {
    /// The oldest notices of a shard.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn notices(&self, shard: Shard, limit: usize) -> Result<Vec<Notice>, Error> {
        let range = Range::prefix(notice::of_shard(shard)).limit(limit);
        let rows = self.store.rows(range).await?;
        rows.iter().map(|(_, value)| decode(value)).collect()
    }

    /// Removes a notice, about which nothing is left to do, and keeps on record what became of its
    /// email.
    ///
    /// # Errors
    /// When the shard has a later owner, or the store fails.
    pub async fn finish_notice(
        &self,
        fence: Fence,
        told: &Notice,
        email: Option<&Email>,
    ) -> Result<(), OwnerError> {
        self.as_owner(fence, |tx| async move {
            tx.clear(notice::key(fence.shard, told.at(), told.endpoint));
            match email {
                Some(email) => self.log(&tx, told, email).await,
                None => Ok(()),
            }
        })
        .await
    }

    /// Adds a notice by itself. The product writes notices with the change that they tell of;
    /// this is for tests of what reads them.
    ///
    /// # Errors
    /// When the shard has a later owner, or the store fails.
    pub async fn record_notice(&self, fence: Fence, record: &Notice) -> Result<(), OwnerError> {
        self.as_owner(fence, |tx| async move {
            save(&tx, fence, record);
            Ok(())
        })
        .await
    }
}

pub(crate) fn save(tx: &Tx, fence: Fence, record: &Notice) {
    tx.save(notice::key(fence.shard, record.at(), record.endpoint), record);
}
