//! Moving the due times of retries after the clock was set back. They are wall-clock times, so
//! the retries would wait for as long as the clock was set back, and in strict order everything
//! behind them.

use postrider_domain::assignment::Fence;
use postrider_domain::delivery::Delivery;
use postrider_domain::endpoint::Health;
use postrider_domain::ids::{AccountId, DeliveryId, EndpointId};
use postrider_domain::time::Timestamp;

use crate::cluster::owners::OwnerError;
use crate::codec::RecordTx;
use crate::deliveries::bring_forward::{RetryCursor, later_retries};
use crate::deliveries::endpoint_key::EndpointKey;
use crate::keys::attempt::{self, RecordedAttempt};
use crate::keys::health;
use crate::kv::{Error, Tx};
use crate::records::Records;

/// A batch of retries that was moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepBackBatch {
    /// How many were moved.
    pub moved: usize,
    /// The cursor of the next batch, if there may be one.
    pub next: Option<RetryCursor>,
}

impl Records {
    /// Moves a batch of an endpoint's retries, those after the cursor, for a clock that was set back
    /// and shows `now`.
    pub async fn step_back(
        &self,
        fence: Fence,
        account: AccountId,
        endpoint: EndpointId,
        after: Option<RetryCursor>,
        now: Timestamp,
    ) -> Result<StepBackBatch, OwnerError> {
        let endpoint_key = EndpointKey { account, endpoint, shard: fence.shard };
        let now_or_before = (now, DeliveryId::MAX);
        let after = after.map_or(now_or_before, |after| after.max(now_or_before));
        self.as_owner(fence, |tx| async move {
            let (later, next) = later_retries(&tx, endpoint_key, after).await?;
            let last = |retry: &Delivery| attempt::key(account, retry.id, retry.attempt_count);
            tx.prefetch(later.iter().map(last)).await?;
            let mut moved = 0;
            for before in &later {
                let attempt: Option<RecordedAttempt> = tx.snap_load(&last(before)).await?;
                let delay = attempt.map(|it| it.attempt.delay_to_next()).unwrap_or_default();
                let after = before.clone().after_step_back(delay, now);
                if after != *before {
                    endpoint_key.advance(&tx, before, &after);
                    moved += 1;
                }
            }
            move_health(&tx, endpoint_key, now).await?;
            Ok(StepBackBatch { moved, next })
        })
        .await
    }
}

/// A recovery in the future would count as one after the first attempt of every delivery until then,
/// and the account would be warned late of failures that began in the future.
async fn move_health(
    tx: &Tx,
    EndpointKey { account, endpoint, .. }: EndpointKey,
    now: Timestamp,
) -> Result<(), Error> {
    let key = health::key(account, endpoint);
    let health = tx.load::<Health>(&key).await?;
    if let Some(health) = health {
        let moved = health.clone().after_step_back(now);
        if moved != health {
            tx.save(key, &moved);
        }
    }
    Ok(())
}
