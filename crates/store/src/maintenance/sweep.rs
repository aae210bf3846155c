//! Removing expired idempotency keys and deleted accounts' data, in bounded steps.

use postrider_domain::assignment::{Fence, Shard};
use postrider_domain::time::Timestamp;

use crate::cluster::owners::OwnerError;
use crate::codec::RecordTx;
use crate::keys::idempotency::IdempotencyRecord;
use crate::keys::{expiry, idempotency, removal};
use crate::kv::{Error, Range, Tx};
use crate::records::Records;

/// Idempotency keys per sweep.
const BATCH_SIZE: usize = 200;

impl Records {
    /// Removes expired idempotency keys and the data of deleted accounts. Returns whether there may
    /// be more.
    pub async fn sweep(&self, fence: Fence, now: Timestamp) -> Result<bool, OwnerError> {
        self.as_owner(fence, |tx| async move {
            let expired = self.expire_idempotency_keys(&tx, fence.shard, now).await?;
            let prefix = removal::of_shard(fence.shard);
            let gone = self.first_readable(&tx, prefix, |key, _| removal::parse_key(key)).await?;
            if let Some(account) = gone {
                self.remove_batch(&tx, account).await?;
            }
            Ok(expired || gone.is_some())
        })
        .await
    }

    async fn expire_idempotency_keys(
        &self,
        tx: &Tx,
        shard: Shard,
        now: Timestamp,
    ) -> Result<bool, Error> {
        let begin = expiry::before(shard, Timestamp::EPOCH);
        let end = expiry::before(shard, now);
        let rows = tx.snap_range(Range::new(begin, end).limit(BATCH_SIZE)).await?;
        let mut expired = Vec::with_capacity(rows.len());
        for (row, _) in &rows {
            match expiry::parse_key(row) {
                Ok((_, account, sha256)) => {
                    expired.push((row, account, sha256, idempotency::key(account, &sha256)));
                }
                Err(error) => {
                    self.skip_unreadable(row, &error);
                    tx.clear(row.to_vec());
                }
            }
        }
        let more = rows.len() == BATCH_SIZE && !expired.is_empty();
        tx.prefetch(expired.iter().map(|(.., key)| key.clone())).await?;
        for (row, account, sha256, key) in expired {
            tx.clear(row.to_vec());
            let remembered = match tx.load::<IdempotencyRecord>(&key).await {
                Ok(remembered) => remembered,
                // It must not block the sweep of other keys and of deleted accounts.
                Err(error @ Error::Corrupt(_)) => {
                    tracing::error!(%account, %error, "keeping an unreadable idempotency key");
                    continue;
                }
                Err(error) => return Err(error),
            };
            match remembered.map(|remembered| remembered.expires_at()) {
                // The key has been used again, or its event's id is ahead of the clock.
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
