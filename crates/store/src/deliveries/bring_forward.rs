//! Bringing retries forward, so that they are due before their schedule says: one at a person's
//! request; all of an endpoint's when it is enabled, or at a person's request; and all when an
//! endpoint recovers from failures.
//!
//! The first two must not be forgotten, so the endpoint's dispatch state marks them, and the
//! shard's owner moves the queue rows before it sends anything. The last is an optimization of
//! the owner, which is lost with it.

use postrider_domain::assignment::Fence;
use postrider_domain::delivery::{Delivery, Progress, Schedule};
use postrider_domain::endpoint::State;
use postrider_domain::ids::{AccountId, DeliveryId, EndpointId};
use postrider_domain::time::Timestamp;

use crate::cluster::owners::OwnerError;
use crate::codec::RecordTx;
use crate::deliveries::due::prefetch_deliveries;
use crate::deliveries::endpoint_key::EndpointKey;
use crate::deliveries::view::DeliveryView;
use crate::endpoints::pending_count;
use crate::keys::queue::{self, Rank};
use crate::keys::{delivery, due};
use crate::kv::{Error, Range, Tx, prefix_end};
use crate::records::Records;

/// The maximum number of retries brought forward per transaction.
const BATCH_SIZE: usize = 200;

/// The result of bringing one delivery forward.
#[derive(Clone, Debug)]
pub enum BroughtForward {
    /// It is due now.
    Due(DeliveryView),
    /// Nothing was changed, because its endpoint is disabled.
    Held,
    /// Nothing was changed, because it has ended.
    Ended,
}

/// The result of bringing all deliveries of an endpoint forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendNow {
    /// The number of pending deliveries.
    Pending(u64),
    /// Nothing was changed, because the endpoint is disabled.
    Disabled,
}

/// A batch of retries brought forward after a recovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecoveredBatch {
    /// How many retries were brought forward.
    pub count: usize,
    /// The cursor of the next batch, if there may be one.
    pub next: Option<RetryCursor>,
}

/// A position in the queue of an endpoint's retries.
pub type RetryCursor = (Timestamp, DeliveryId);

impl Records {
    /// Makes a pending delivery due now. Returns `None` if it does not exist.
    pub async fn bring_delivery_forward(
        &self,
        account: AccountId,
        id: DeliveryId,
        now: Timestamp,
    ) -> Result<Option<BroughtForward>, Error> {
        self.changes
            .transact(|tx, _| async move {
                let Some(before) = tx.load::<Delivery>(&delivery::key(account, id)).await? else {
                    return Ok(None);
                };
                let endpoint_key = self.endpoint_key(account, before.endpoint);
                let dispatch = endpoint_key.dispatch_state(&tx).await?;
                let (Some(due), Some(mut dispatch)) =
                    (before.due(), dispatch.filter(|dispatch| !dispatch.discards(id)))
                else {
                    return Ok(Some(BroughtForward::Ended));
                };
                match dispatch.state {
                    State::Enabled => {}
                    State::Disabled(_) => return Ok(Some(BroughtForward::Held)),
                    State::Deleted => return Ok(Some(BroughtForward::Ended)),
                }
                let mut delivery = before.clone();
                if due > now {
                    delivery.progress = Progress::Pending { due: now };
                    endpoint_key.advance(&tx, &before, &delivery);
                }
                endpoint_key.set_pointer(&tx, &mut dispatch, Some(due::IMMEDIATELY));
                let state = dispatch.state_of(&delivery);
                Ok(Some(BroughtForward::Due(DeliveryView { delivery, state })))
            })
            .await
    }

    /// Makes all pending deliveries of an enabled endpoint due now. Returns `None` if it does not
    /// exist.
    pub async fn send_now(
        &self,
        account: AccountId,
        endpoint: EndpointId,
    ) -> Result<Option<SendNow>, Error> {
        let endpoint_key = self.endpoint_key(account, endpoint);
        self.changes
            .transact(|tx, _| async move {
                let Some(mut dispatch) = endpoint_key.dispatch_state(&tx).await? else {
                    return Ok(None);
                };
                match dispatch.state {
                    State::Enabled => {}
                    State::Disabled(_) => return Ok(Some(SendNow::Disabled)),
                    State::Deleted => return Ok(None),
                }
                dispatch.bring_forward = true;
                endpoint_key.save_dispatch_state(&tx, &dispatch);
                endpoint_key.set_pointer(&tx, &mut dispatch, Some(due::IMMEDIATELY));
                let pending = pending_count(&tx, account, endpoint).await?;
                Ok(Some(SendNow::Pending(pending.saturating_sub(dispatch.discarding))))
            })
            .await
    }

    /// Brings a batch of the retries forward that the dispatch state marks, and returns whether
    /// there may be more.
    pub async fn bring_forward_some(
        &self,
        fence: Fence,
        account: AccountId,
        endpoint: EndpointId,
        now: Timestamp,
    ) -> Result<bool, OwnerError> {
        let endpoint_key = EndpointKey { account, endpoint, shard: fence.shard };
        self.as_owner(fence, |tx| async move {
            let dispatch = endpoint_key.dispatch_state(&tx).await?;
            let Some(mut dispatch) = dispatch.filter(|dispatch| dispatch.bring_forward) else {
                return Ok(false);
            };
            let (later, next) = later_retries(&tx, endpoint_key, (now, DeliveryId::MAX)).await?;
            for before in &later {
                bring_forward(&tx, endpoint_key, before, before.schedule, now);
            }
            if next.is_none() {
                dispatch.bring_forward = false;
                endpoint_key.save_dispatch_state(&tx, &dispatch);
            }
            Ok(next.is_some())
        })
        .await
    }

    /// Brings a batch of retries forward because the endpoint has recovered: those after the
    /// cursor that no earlier recovery has brought forward.
    pub async fn bring_forward_recovered(
        &self,
        fence: Fence,
        account: AccountId,
        endpoint: EndpointId,
        after: Option<RetryCursor>,
        now: Timestamp,
    ) -> Result<RecoveredBatch, OwnerError> {
        let endpoint_key = EndpointKey { account, endpoint, shard: fence.shard };
        let now_or_before = (now, DeliveryId::MAX);
        let after = after.map_or(now_or_before, |after| after.max(now_or_before));
        self.as_owner(fence, |tx| async move {
            let (later, next) = later_retries(&tx, endpoint_key, after).await?;
            let mut count = 0;
            for before in later.iter().filter(|retry| !retry.schedule.brought_forward) {
                let schedule = Schedule { brought_forward: true, ..before.schedule };
                bring_forward(&tx, endpoint_key, before, schedule, now);
                count += 1;
            }
            Ok(RecoveredBatch { count, next })
        })
        .await
    }
}

/// The first retries after a position in the queue, and the position of the last of them if there
/// may be more.
pub(crate) async fn later_retries(
    tx: &Tx,
    endpoint_key: EndpointKey,
    after: RetryCursor,
) -> Result<(Vec<Delivery>, Option<RetryCursor>), Error> {
    let EndpointKey { account, endpoint, .. } = endpoint_key;
    let begin = queue::after(account, endpoint, Rank::Retry, after);
    let end = prefix_end(&queue::of_rank(account, endpoint, Rank::Retry));
    let rows = tx.snap_range(Range::new(begin, end).limit(BATCH_SIZE)).await?;
    prefetch_deliveries(tx, account, &rows).await?;
    let mut retries = Vec::with_capacity(rows.len());
    for (key, _) in &rows {
        // Checked at commit: its attempt may be recorded meanwhile.
        let key = delivery::key(account, delivery::parse_key(key)?);
        retries.extend(tx.load::<Delivery>(&key).await?.filter(|retry| retry.due().is_some()));
    }
    let last = rows.last().filter(|_| rows.len() == BATCH_SIZE);
    let next = last.map(|(key, _)| queue::parse_key(key)).transpose()?;
    Ok((retries, next))
}

fn bring_forward(
    tx: &Tx,
    endpoint_key: EndpointKey,
    before: &Delivery,
    schedule: Schedule,
    now: Timestamp,
) {
    let progress = Progress::Pending { due: now };
    endpoint_key.advance(tx, before, &Delivery { progress, schedule, ..before.clone() });
}
