//! Records finished attempts as [`transition::decide`] determines. One transaction records many
//! attempts, each under its shard's fence.

use std::collections::HashMap;

use postrider_domain::assignment::Fence;
use postrider_domain::delivery::Delivery;
use postrider_domain::endpoint::{Health, State};
use postrider_domain::ids::{AccountId, DeliveryId, EndpointId};
use postrider_domain::transition::{self, AttemptResult, Changes, DeliveryContext, Rules};

use crate::cluster::owners::is_current;
use crate::codec::RecordTx;
use crate::deliveries::endpoint_key::EndpointKey;
use crate::deliveries::statistics;
use crate::keys::attempt::{self, RecordedAttempt};
use crate::keys::dispatch_state::{self, DispatchState};
use crate::keys::{delivery, health, owner};
use crate::kv::{Error, Tx};
use crate::mail::notices;
use crate::records::Records;

/// A finished attempt, with the fence under which it is recorded.
#[derive(Clone, Debug)]
pub struct FencedAttempt {
    /// The owner's right to write.
    pub fence: Fence,
    pub account: AccountId,
    pub endpoint: EndpointId,
    pub delivery: DeliveryId,
    pub result: AttemptResult,
}

impl FencedAttempt {
    /// The rows that the decision depends on.
    fn keys(&self) -> [Vec<u8>; 4] {
        let Self { fence, account, endpoint, delivery: id, .. } = *self;
        [
            owner::key(fence.shard),
            delivery::key(account, id),
            dispatch_state::key(account, endpoint),
            health::key(account, endpoint),
        ]
    }
}

/// The result of recording an attempt.
#[derive(Clone, Debug, PartialEq)]
pub enum Applied {
    /// It is recorded, with its consequences.
    Recorded(Box<Changes>),
    /// Nothing was written: the delivery has finished, is to be discarded or was removed with its
    /// account, or another attempt with this number is recorded.
    Stale,
    /// Nothing was written: the shard has a later owner.
    Fenced,
}

impl Records {
    /// Records attempts in order, and returns the result of each.
    ///
    /// # Errors
    /// When the store fails; none of the attempts is recorded.
    pub async fn apply(
        &self,
        batch: &[FencedAttempt],
        rules: &Rules,
    ) -> Result<Vec<Applied>, Error> {
        self.store
            .transact(|tx, _| async move {
                tx.prefetch(batch.iter().flat_map(FencedAttempt::keys)).await?;
                let mut checked = HashMap::new();
                let mut applied = Vec::with_capacity(batch.len());
                for attempt in batch {
                    let fence = attempt.fence;
                    let current = match checked.get(&fence.shard) {
                        Some((known, current)) if *known == fence => *current,
                        _ => is_current(&tx, fence).await?,
                    };
                    checked.insert(fence.shard, (fence, current));
                    applied.push(if current {
                        apply(&tx, attempt, rules).await?
                    } else {
                        Applied::Fenced
                    });
                }
                Ok(applied)
            })
            .await
    }
}

async fn apply(tx: &Tx, attempt: &FencedAttempt, rules: &Rules) -> Result<Applied, Error> {
    let FencedAttempt { fence, account, endpoint, delivery: id, result } = attempt;
    let endpoint_key = EndpointKey { account: *account, endpoint: *endpoint, shard: fence.shard };
    let Some((context, dispatch)) = load_context(tx, endpoint_key, *id).await? else {
        return Ok(Applied::Stale);
    };
    if result.number <= context.delivery.attempt_count {
        return recorded(tx, context, result).await;
    }
    if dispatch.discards(*id)
        || context.delivery.due().is_none()
        || result.number != context.delivery.attempt_count + 1
    {
        return Ok(Applied::Stale);
    }
    let changes = transition::decide(&context, result.clone(), rules);
    write(tx, endpoint_key, &context.delivery, &changes, *fence).await?;
    statistics::count(tx, endpoint_key, result);
    Ok(Applied::Recorded(Box::new(changes)))
}

async fn load_context(
    tx: &Tx,
    endpoint_key: EndpointKey,
    id: DeliveryId,
) -> Result<Option<(DeliveryContext, DispatchState)>, Error> {
    let Some(delivery) = tx.load::<Delivery>(&delivery::key(endpoint_key.account, id)).await?
    else {
        return Ok(None);
    };
    let Some(dispatch) = endpoint_key.dispatch_state(tx).await? else {
        return Ok(None);
    };
    let health =
        tx.load::<Health>(&health::key(endpoint_key.account, endpoint_key.endpoint)).await?;
    let endpoint = dispatch.state.clone();
    let context = DeliveryContext {
        delivery,
        endpoint,
        resumptions: dispatch.resumptions,
        health: health.unwrap_or_default(),
    };
    Ok(Some((context, dispatch)))
}

/// Handles an attempt whose number is already recorded, either for this attempt, by a commit with
/// an unknown result, or for another.
async fn recorded(
    tx: &Tx,
    context: DeliveryContext,
    result: &AttemptResult,
) -> Result<Applied, Error> {
    let key = attempt::key(context.delivery.account, context.delivery.id, result.number);
    Ok(match tx.snap_load(&key).await? {
        Some(RecordedAttempt { attempt, .. }) if attempt.id == result.id => {
            let by_this = |disabled: &postrider_domain::endpoint::Disabled| {
                disabled.delivery == Some(context.delivery.id) && disabled.at == result.ended_at()
            };
            let disabled = match context.endpoint {
                State::Disabled(disabled) => Some(disabled).filter(by_this),
                State::Enabled | State::Deleted => None,
            };
            let health = Some(context.health);
            Applied::Recorded(Box::new(Changes {
                attempt,
                delivery: context.delivery,
                health,
                disabled,
                notice: None,
            }))
        }
        _ => Applied::Stale,
    })
}

async fn write(
    tx: &Tx,
    endpoint_key: EndpointKey,
    before: &Delivery,
    changes: &Changes,
    fence: Fence,
) -> Result<(), Error> {
    let key = attempt::key(endpoint_key.account, before.id, changes.attempt.number);
    tx.set(key, attempt::encode(&changes.attempt, fence));
    endpoint_key.advance(tx, before, &changes.delivery);
    if let Some(record) = &changes.health {
        tx.save(health::key(endpoint_key.account, endpoint_key.endpoint), record);
    }
    if let Some(disabled) = &changes.disabled {
        let mut dispatch =
            endpoint_key.dispatch_state(tx).await?.expect("the decision was based on it");
        dispatch.state = State::Disabled(disabled.clone());
        endpoint_key.save_dispatch_state(tx, &dispatch);
        endpoint_key.remove_pointer(tx, &mut dispatch);
    }
    if let Some(notice) = &changes.notice {
        notices::save(tx, fence, notice);
    }
    Ok(())
}
