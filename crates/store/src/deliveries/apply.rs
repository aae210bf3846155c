//! Recording finished attempts: what [`machine::decide`] says, in one transaction for many of
//! them, each under its shard's fence.

use std::collections::HashMap;

use postrider_domain::delivery::Delivery;
use postrider_domain::endpoint::{Health, State};
use postrider_domain::ids::{AccountId, DeliveryId, EndpointId};
use postrider_domain::machine::{self, Attempted, Before, Rules, Step};
use postrider_domain::ownership::Fence;

use crate::cluster::owners::holds;
use crate::codec::RecordTx;
use crate::deliveries::enqueue::Place;
use crate::deliveries::statistics;
use crate::keys::attempt::{self, RecordedAttempt};
use crate::keys::gate::{self, Gate};
use crate::keys::{delivery, health, owner};
use crate::kv::{Error, Tx};
use crate::mail::notices;
use crate::records::Records;

/// An attempt that was made, by the owner of its endpoint's shard.
#[derive(Clone, Debug)]
pub struct Finished {
    /// The owner's right to write.
    pub fence: Fence,
    /// Whose delivery.
    pub account: AccountId,
    /// To which endpoint.
    pub endpoint: EndpointId,
    /// Which delivery.
    pub delivery: DeliveryId,
    /// The attempt.
    pub attempted: Attempted,
}

impl Finished {
    /// The rows that it is decided on.
    fn keys(&self) -> [Vec<u8>; 4] {
        let Self { fence, account, endpoint, delivery: id, .. } = *self;
        [
            owner::key(fence.shard),
            delivery::key(account, id),
            gate::key(account, endpoint),
            health::key(account, endpoint),
        ]
    }
}

/// What became of a finished attempt.
#[derive(Clone, Debug, PartialEq)]
pub enum Applied {
    /// It is on record, with what follows from it.
    Stepped(Box<Step>),
    /// Nothing was written: the delivery came to its end meanwhile, or went away with its
    /// endpoint or account, or another attempt with this number is on record.
    Stale,
    /// Nothing was written: the shard has a later owner.
    Fenced,
}

impl Records {
    /// Records attempts, in their order, and gives for each what became of it.
    ///
    /// # Errors
    /// When the store fails; none of them is on record then.
    pub async fn apply(&self, batch: &[Finished], rules: &Rules) -> Result<Vec<Applied>, Error> {
        self.store
            .transact(|tx, _| async move {
                tx.prefetch(batch.iter().flat_map(Finished::keys)).await?;
                let mut held = HashMap::new();
                let mut applied = Vec::with_capacity(batch.len());
                for finished in batch {
                    let fence = finished.fence;
                    let holds = match held.get(&fence.shard) {
                        Some((known, holds)) if *known == fence => *holds,
                        _ => holds(&tx, fence).await?,
                    };
                    held.insert(fence.shard, (fence, holds));
                    applied.push(if holds {
                        apply(&tx, finished, rules).await?
                    } else {
                        Applied::Fenced
                    });
                }
                Ok(applied)
            })
            .await
    }
}

async fn apply(tx: &Tx, finished: &Finished, rules: &Rules) -> Result<Applied, Error> {
    let Finished { fence, account, endpoint, delivery: id, attempted } = finished;
    let place = Place { account: *account, endpoint: *endpoint, shard: fence.shard };
    let Some((before, gate)) = before(tx, place, *id).await? else {
        return Ok(Applied::Stale);
    };
    if attempted.number <= before.delivery.attempt_count {
        return recorded(tx, before, attempted).await;
    }
    if gate.gives_up(*id)
        || before.delivery.due().is_none()
        || attempted.number != before.delivery.attempt_count + 1
    {
        return Ok(Applied::Stale);
    }
    let step = machine::decide(&before, attempted.clone(), rules);
    write(tx, place, &before.delivery, &step, *fence).await?;
    statistics::count(tx, place, attempted);
    Ok(Applied::Stepped(Box::new(step)))
}

async fn before(tx: &Tx, place: Place, id: DeliveryId) -> Result<Option<(Before, Gate)>, Error> {
    let Some(delivery) = tx.load::<Delivery>(&delivery::key(place.account, id)).await? else {
        return Ok(None);
    };
    let Some(gate) = place.gate(tx).await? else {
        return Ok(None);
    };
    let health = tx.load::<Health>(&health::key(place.account, place.endpoint)).await?;
    let endpoint = gate.state.clone();
    Ok(Some((Before { delivery, endpoint, health: health.unwrap_or_default() }, gate)))
}

/// An attempt with this number is on record: this one, by a commit whose result was unknown,
/// or another.
async fn recorded(tx: &Tx, now: Before, attempted: &Attempted) -> Result<Applied, Error> {
    let key = attempt::key(now.delivery.account, now.delivery.id, attempted.number);
    Ok(match tx.snap_load(&key).await? {
        Some(RecordedAttempt { attempt, .. }) if attempt.id == attempted.id => {
            let by_this = |disabled: &postrider_domain::endpoint::Disabled| {
                disabled.delivery == Some(now.delivery.id) && disabled.at == attempted.ended_at
            };
            let disabled = match now.endpoint {
                State::Disabled(disabled) => Some(disabled).filter(by_this),
                State::Enabled | State::Deleted => None,
            };
            let health = Some(now.health);
            Applied::Stepped(Box::new(Step {
                attempt,
                delivery: now.delivery,
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
    place: Place,
    before: &Delivery,
    step: &Step,
    fence: Fence,
) -> Result<(), Error> {
    let key = attempt::key(place.account, before.id, step.attempt.number);
    tx.set(key, attempt::encode(&step.attempt, fence));
    place.advance(tx, before, &step.delivery);
    if let Some(record) = &step.health {
        tx.save(health::key(place.account, place.endpoint), record);
    }
    if let Some(disabled) = &step.disabled {
        let mut gate = place.gate(tx).await?.expect("the step was decided on it");
        gate.state = State::Disabled(disabled.clone());
        place.save_gate(tx, &gate);
        place.close(tx, &mut gate);
    }
    if let Some(notice) = &step.notice {
        notices::save(tx, fence, notice);
    }
    Ok(())
}
