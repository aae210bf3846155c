//! Forgetting what is no longer needed, in bounded steps.

use postrider_domain::ownership::{Fence, Shard};
use postrider_domain::time::Timestamp;

use crate::cluster::owners::OwnerError;
use crate::codec::RecordTx;
use crate::keys::idempotency::Remembered;
use crate::keys::{expiry, idempotency, removal};
use crate::kv::{Error, Range, Tx};
use crate::records::Records;

/// Idempotency keys that one sweep forgets.
const AT_ONCE: usize = 200;

impl Records {
    /// Forgets idempotency keys whose time is over, and the data of accounts that are gone, and
    /// tells whether there may be more.
    ///
    /// # Errors
    /// When the shard has a later owner, or the store fails.
    pub async fn sweep(&self, fence: Fence, now: Timestamp) -> Result<bool, OwnerError> {
        self.as_owner(fence, |tx| async move {
            let expired = self.forget_some(&tx, fence.shard, now).await?;
            let prefix = removal::of_shard(fence.shard);
            let gone = self.first_readable(&tx, prefix, |key, _| removal::of_key(key)).await?;
            if let Some(account) = gone {
                self.remove_some(&tx, account).await?;
            }
            Ok(expired || gone.is_some())
        })
        .await
    }

    async fn forget_some(&self, tx: &Tx, shard: Shard, now: Timestamp) -> Result<bool, Error> {
        let begin = expiry::before(shard, Timestamp::EPOCH);
        let end = expiry::before(shard, now);
        let rows = tx.snap_range(Range::new(begin, end).limit(AT_ONCE)).await?;
        let mut expired = Vec::with_capacity(rows.len());
        for (row, _) in &rows {
            match expiry::of_key(row) {
                Ok((_, account, sha256)) => {
                    expired.push((row, account, sha256, idempotency::key(account, &sha256)));
                }
                Err(error) => {
                    self.pass_over(row, &error);
                    tx.clear(row.to_vec());
                }
            }
        }
        let more = rows.len() == AT_ONCE && !expired.is_empty();
        tx.prefetch(expired.iter().map(|(.., key)| key.clone())).await?;
        for (row, account, sha256, key) in expired {
            tx.clear(row.to_vec());
            let remembered = match tx.load::<Remembered>(&key).await {
                Ok(remembered) => remembered,
                // It must not keep the others, or the accounts that are gone, from being swept.
                Err(error @ Error::Corrupt(_)) => {
                    tracing::error!(%account, %error, "an idempotency key cannot be read, and stays");
                    continue;
                }
                Err(error) => return Err(error),
            };
            match remembered.map(|remembered| remembered.expires_at()) {
                // It was used again since, or its event's id is ahead of the clock.
                Some(later) if later > now => {
                    tx.set(expiry::key(shard, later, account, &sha256), Vec::new());
                }
                Some(_) => tx.clear(key),
                None => {}
            }
        }
        Ok(more)
    }
}
