//! Discarding deliveries: one at a person's request, or all that an endpoint's dispatch state marks.

use postrider_domain::assignment::Fence;
use postrider_domain::delivery::{Delivery, FinalState, Progress};
use postrider_domain::endpoint::State;
use postrider_domain::ids::{AccountId, DeliveryId, EndpointId};
use postrider_domain::time::Timestamp;

use crate::cluster::owners::OwnerError;
use crate::codec::RecordTx;
use crate::deliveries::due::prefetch_deliveries;
use crate::deliveries::endpoint_key::EndpointKey;
use crate::deliveries::view::DeliveryView;
use crate::endpoints::state_of;
use crate::keys::{delivery, due, pending};
use crate::kv::{Error, Range, Tx};
use crate::records::Records;

/// The maximum number of deliveries discarded per transaction.
const BATCH_SIZE: usize = 200;

/// The result of discarding one delivery.
#[derive(Clone, Debug)]
pub enum Discarded {
    /// It is discarded.
    Done(DeliveryView),
    /// It had already ended in another way.
    Ended(DeliveryView),
}

impl Records {
    /// Discards a pending or held delivery. Returns `None` if it does not exist. A request in
    /// flight may still arrive, but is not recorded.
    pub async fn discard_delivery(
        &self,
        account: AccountId,
        id: DeliveryId,
        now: Timestamp,
    ) -> Result<Option<Discarded>, Error> {
        self.changes
            .transact(|tx, maybe_committed| async move {
                let Some(before) = tx.load::<Delivery>(&delivery::key(account, id)).await? else {
                    return Ok(None);
                };
                let endpoint_key = self.endpoint_key(account, before.endpoint);
                let dispatch = endpoint_key.dispatch_state(&tx).await?;
                let discarded = Progress::Finished { end: FinalState::Discarded, at: now };
                let marked = dispatch.as_ref().is_none_or(|it| it.discards(id));
                let Some(mut dispatch) = dispatch.filter(|_| before.due().is_some() && !marked)
                else {
                    let state = state_of(&tx, &before).await?;
                    let view = DeliveryView { delivery: before, state };
                    // An earlier run of this transaction may have been committed.
                    let by_this = maybe_committed && view.delivery.progress == discarded;
                    return Ok(Some(if by_this { Discarded::Done } else { Discarded::Ended }(
                        view,
                    )));
                };
                let after = Delivery { progress: discarded, ..before.clone() };
                endpoint_key.advance(&tx, &before, &after);
                if dispatch.state == State::Enabled {
                    // In strict order, the next delivery is due now.
                    endpoint_key.set_pointer(&tx, &mut dispatch, Some(due::IMMEDIATELY));
                }
                let state = dispatch.state_of(&after);
                Ok(Some(Discarded::Done(DeliveryView { delivery: after, state })))
            })
            .await
    }

    /// Discards a batch of the deliveries that are marked to be discarded, and returns whether
    /// there may be more.
    pub async fn discard_some(
        &self,
        fence: Fence,
        account: AccountId,
        endpoint: EndpointId,
        now: Timestamp,
    ) -> Result<bool, OwnerError> {
        let endpoint_key = EndpointKey { account, endpoint, shard: fence.shard };
        self.as_owner(fence, |tx| async move {
            let Some(mut dispatch) = endpoint_key.dispatch_state(&tx).await? else {
                return Ok(false);
            };
            let Some(through) = dispatch.discard_through else {
                return Ok(false);
            };
            let discarded = discard(&tx, endpoint_key, through, now).await?;
            let more = discarded == BATCH_SIZE;
            if more {
                let discarded = u64::try_from(discarded).expect("bounded");
                dispatch.discarding = dispatch.discarding.saturating_sub(discarded);
            } else {
                (dispatch.discard_through, dispatch.discarding) = (None, 0);
            }
            endpoint_key.save_dispatch_state(&tx, &dispatch);
            if dispatch.state != State::Enabled {
                endpoint_key.remove_pointer(&tx, &mut dispatch);
            }
            Ok(more)
        })
        .await
    }
}

/// Discards the oldest pending deliveries up to `through`, and returns their number.
async fn discard(
    tx: &Tx,
    endpoint_key: EndpointKey,
    through: DeliveryId,
    now: Timestamp,
) -> Result<usize, Error> {
    let EndpointKey { account, endpoint, .. } = endpoint_key;
    let begin = pending::of_endpoint(account, endpoint);
    let end = [pending::key(account, endpoint, through), vec![0]].concat();
    let rows = tx.range(Range::new(begin, end).limit(BATCH_SIZE)).await?;
    prefetch_deliveries(tx, account, &rows).await?;
    for (key, _) in &rows {
        let key = delivery::key(account, delivery::parse_key(key)?);
        if let Some(before) = tx.load::<Delivery>(&key).await? {
            let progress = Progress::Finished { end: FinalState::Discarded, at: now };
            endpoint_key.advance(tx, &before, &Delivery { progress, ..before.clone() });
        }
    }
    Ok(rows.len())
}
