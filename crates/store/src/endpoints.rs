//! Endpoints: what their owner set, the subscriptions that follow from it, and the gate that
//! says whether they are sent to.

pub(crate) mod endpoint_list;

use postrider_domain::delivery::{Delivery, DeliveryState};
use postrider_domain::disable;
use postrider_domain::endpoint::{Endpoint, Health, Ordering, State, Subscription};
use postrider_domain::event::EventTypeName;
use postrider_domain::ids::{self, AccountId, DeliveryId, EndpointId};
use postrider_domain::time::Timestamp;

use crate::accounts::account_exists;
use crate::codec::RecordTx;
use crate::deliveries::enqueue::Place;
use crate::keys::gate::{self, Gate};
use crate::keys::{delivery, due, endpoint, health, pending, subscriber_delta, subscription};
use crate::kv::{Error, Range, Tx, counter, prefix_end};
use crate::records::Records;

/// An endpoint as people see it.
#[derive(Clone, Debug)]
pub struct EndpointView {
    /// What its owner set.
    pub endpoint: Endpoint,
    /// Whether it is sent to.
    pub state: State,
    /// How it has fared.
    pub health: Health,
    /// Deliveries that are not at their end: pending while it is enabled, held while it is not.
    pub unfinished: u64,
    /// When the oldest of them was made.
    pub oldest_pending_at: Option<Timestamp>,
}

/// What becomes of held deliveries when their endpoint is enabled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Held {
    /// They are delivered, with the attempts that they have left.
    #[default]
    Resume,
    /// They are discarded.
    Discard,
}

impl Records {
    /// Adds an endpoint. False when there is no such account.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn create_endpoint(&self, record: &Endpoint) -> Result<bool, Error> {
        let place = self.place(record.account, record.id);
        self.store
            .transact(|tx, _| async move {
                if !account_exists(&tx, record.account).await? {
                    return Ok(false);
                }
                // An earlier run may have been committed, and the gate have changed since. It
                // stays when the endpoint is deleted.
                if place.gate(&tx).await?.is_some() {
                    return Ok(true);
                }
                tx.save(endpoint::key(record.account, record.id), record);
                let open = Gate {
                    state: State::Enabled,
                    pointer: None,
                    discard_through: None,
                    discarding: 0,
                };
                place.save_gate(&tx, &open);
                subscribe(&tx, record);
                Ok(true)
            })
            .await
    }

    /// One endpoint.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn endpoint(
        &self,
        account: AccountId,
        id: EndpointId,
    ) -> Result<Option<EndpointView>, Error> {
        self.store
            .read(|tx| async move {
                match tx.snap_load(&endpoint::key(account, id)).await? {
                    Some(endpoint) => view(&tx, endpoint).await,
                    None => Ok(None),
                }
            })
            .await
    }

    /// Changes what the owner set; `change` may run more than once. None when there is no such
    /// endpoint.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn update_endpoint(
        &self,
        account: AccountId,
        id: EndpointId,
        change: impl Fn(&mut Endpoint) + Send + Sync,
    ) -> Result<Option<EndpointView>, Error> {
        let (change, place) = (&change, self.place(account, id));
        self.store
            .transact(|tx, _| async move {
                let Some(before) = tx.load::<Endpoint>(&endpoint::key(account, id)).await? else {
                    return Ok(None);
                };
                let mut after = before.clone();
                change(&mut after);
                if after.event_types != before.event_types {
                    unsubscribe(&tx, &before);
                    subscribe(&tx, &after);
                }
                tx.save(endpoint::key(account, id), &after);
                if before.ordering == Ordering::Strict && after.ordering == Ordering::Parallel {
                    look_at_once(&tx, place).await?;
                }
                view(&tx, after).await
            })
            .await
    }

    /// Removes an endpoint but for its gate, which stays to say that it was deleted. What was
    /// pending counts as discarded from then on; the owner of the endpoint's shard sees to it.
    /// False when there is none.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn delete_endpoint(&self, account: AccountId, id: EndpointId) -> Result<bool, Error> {
        let place = self.place(account, id);
        self.store
            .transact(|tx, maybe_committed| async move {
                let Some(before) = tx.load::<Endpoint>(&endpoint::key(account, id)).await? else {
                    // An earlier run may have removed it.
                    let gate = place.gate(&tx).await?;
                    let deleted = gate.is_some_and(|gate| gate.state == State::Deleted);
                    return Ok(maybe_committed && deleted);
                };
                unsubscribe(&tx, &before);
                tx.clear(endpoint::key(account, id));
                tx.clear(health::key(account, id));
                if let Some(mut gate) = place.gate(&tx).await? {
                    gate.state = State::Deleted;
                    gate.discard_through = Some(DeliveryId::MAX);
                    place.save_gate(&tx, &gate);
                    place.point(&tx, &mut gate, Some(due::AT_ONCE));
                }
                Ok(true)
            })
            .await
    }

    /// Disables an endpoint by hand; one that is disabled stays as it is. None when there is none.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn disable_endpoint(
        &self,
        account: AccountId,
        id: EndpointId,
        now: Timestamp,
    ) -> Result<Option<EndpointView>, Error> {
        let place = self.place(account, id);
        self.store
            .transact(|tx, _| async move {
                let Some(mut gate) = place.gate(&tx).await? else {
                    return Ok(None);
                };
                if let Some(disabled) = disable::by_hand(&gate.state, now) {
                    gate.state = State::Disabled(disabled);
                    place.save_gate(&tx, &gate);
                    place.close(&tx, &mut gate);
                }
                load_view(&tx, account, id).await
            })
            .await
    }

    /// Enables an endpoint; one that is enabled stays as it is. None when there is none.
    ///
    /// What is to be discarded counts as discarded from then on; the owner of the endpoint's
    /// shard sees to it, before it sends anything.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn enable_endpoint(
        &self,
        account: AccountId,
        id: EndpointId,
        held: Held,
    ) -> Result<Option<EndpointView>, Error> {
        let place = self.place(account, id);
        self.store
            .transact(|tx, _| async move {
                let Some(mut gate) = place.gate(&tx).await? else {
                    return Ok(None);
                };
                if let State::Disabled(_) = gate.state {
                    gate.state = State::Enabled;
                    if held == Held::Discard {
                        give_up(&tx, place, &mut gate).await?;
                    }
                    place.save_gate(&tx, &gate);
                    // The owner looks, and finds what is held or to be discarded.
                    place.point(&tx, &mut gate, Some(due::AT_ONCE));
                }
                load_view(&tx, account, id).await
            })
            .await
    }

    pub(crate) fn place(&self, account: AccountId, endpoint: EndpointId) -> Place {
        Place { account, endpoint, shard: self.shard_of(endpoint) }
    }
}

fn subscribe(tx: &Tx, endpoint: &Endpoint) {
    for name in names(&endpoint.event_types) {
        tx.set(subscription::key(endpoint.account, name, endpoint.id), Vec::new());
        tx.add(subscriber_delta::key(endpoint.account, name), 1);
    }
}

fn unsubscribe(tx: &Tx, endpoint: &Endpoint) {
    for name in names(&endpoint.event_types) {
        tx.clear(subscription::key(endpoint.account, name, endpoint.id));
        tx.add(subscriber_delta::key(endpoint.account, name), -1);
    }
}

/// The names under which an endpoint subscribes; none stands for every type.
fn names(subscription: &Subscription) -> Vec<Option<&EventTypeName>> {
    match subscription {
        Subscription::All => vec![None],
        Subscription::Only(names) => names.iter().map(Some).collect(),
    }
}

/// A pointer set for the strict order may be too late for the parallel one.
async fn look_at_once(tx: &Tx, place: Place) -> Result<(), Error> {
    if let Some(mut gate) = place.gate(tx).await?
        && gate.pointer.is_some()
    {
        place.point(tx, &mut gate, Some(due::AT_ONCE));
    }
    Ok(())
}

/// Leaves it to the owner to discard all that is pending now.
///
/// What is read here is not checked at commit: every event that is accepted for the endpoint changes
/// it, and under load the transaction would never get through. An accepting transaction that has
/// not seen the new gate conflicts with it. One that was committed in between has added a held
/// delivery, which is sent, or discarded if its id is no greater.
async fn give_up(tx: &Tx, place: Place, gate: &mut Gate) -> Result<(), Error> {
    let Place { account, endpoint, .. } = place;
    let range = Range::prefix(pending::of_endpoint(account, endpoint)).limit(1).reverse();
    let rows = tx.snap_range(range).await?;
    gate.discard_through = rows.first().map(|(key, _)| delivery::of_key(key)).transpose()?;
    let count = tx.snap_get(pending::count(account, endpoint)).await?;
    gate.discarding = u64::try_from(counter(count.as_deref())).unwrap_or(0);
    Ok(())
}

async fn load_view(
    tx: &Tx,
    account: AccountId,
    id: EndpointId,
) -> Result<Option<EndpointView>, Error> {
    match tx.load(&endpoint::key(account, id)).await? {
        Some(endpoint) => view(tx, endpoint).await,
        None => Ok(None),
    }
}

/// An endpoint with what there is about it.
pub(crate) async fn view(tx: &Tx, endpoint: Endpoint) -> Result<Option<EndpointView>, Error> {
    let (account, id) = (endpoint.account, endpoint.id);
    let Some(gate) = tx.snap_load::<Gate>(&gate::key(account, id)).await? else {
        return Ok(None);
    };
    let count = tx.snap_get(pending::count(account, id)).await?;
    let count = u64::try_from(counter(count.as_deref())).unwrap_or(0);
    let all = pending::of_endpoint(account, id);
    let end = prefix_end(&all);
    let begin = match gate.discard_through {
        Some(through) => [pending::key(account, id, through), vec![0]].concat(),
        None => all,
    };
    let oldest = tx.snap_range(Range::new(begin, end).limit(1)).await?;
    let oldest = oldest.first().map(|(key, _)| delivery::of_key(key)).transpose()?;
    Ok(Some(EndpointView {
        endpoint,
        state: gate.state,
        health: tx.snap_load(&health::key(account, id)).await?.unwrap_or_default(),
        unfinished: count.saturating_sub(gate.discarding),
        oldest_pending_at: oldest.map(ids::created_at),
    }))
}

/// Where a delivery stands, which is also for its endpoint to say.
pub(crate) async fn state_of(tx: &Tx, delivery: &Delivery) -> Result<DeliveryState, Error> {
    let gate: Option<Gate> = tx.snap_load(&gate::key(delivery.account, delivery.endpoint)).await?;
    Ok(state_behind(gate.as_ref(), delivery))
}

/// The same behind a gate that is known.
pub(crate) fn state_behind(gate: Option<&Gate>, delivery: &Delivery) -> DeliveryState {
    gate.map_or_else(|| delivery.state(&State::Deleted), |gate| gate.state_of(delivery))
}
