//! Endpoints: their configuration, the subscriptions derived from it, and their dispatch state.

pub(crate) mod endpoint_list;

use postrider_domain::backlog::Backlog;
use postrider_domain::delivery::{Delivery, DeliveryState};
use postrider_domain::disable;
use postrider_domain::endpoint::{Endpoint, Health, Ordering, State, Subscription};
use postrider_domain::event::EventTypeName;
use postrider_domain::ids::{self, AccountId, DeliveryId, EndpointId};
use postrider_domain::time::Timestamp;

use crate::accounts::account_exists;
use crate::codec::RecordTx;
use crate::deliveries::endpoint_key::EndpointKey;
use crate::keys::dispatch_state::{self, DispatchState};
use crate::keys::{delivery, due, endpoint, health, pending, subscriber_delta, subscription};
use crate::kv::{Error, Range, Tx, counter, prefix_end};
use crate::records::Records;

/// An endpoint with its state, health and backlog.
#[derive(Clone, Debug)]
pub struct EndpointView {
    pub endpoint: Endpoint,
    pub state: State,
    pub health: Health,
    pub backlog: Backlog,
    /// When the oldest of them was created.
    pub oldest_pending_at: Option<Timestamp>,
}

/// What to do with held deliveries when an endpoint is enabled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HeldAction {
    /// Send them, each with a new retry schedule.
    #[default]
    Resume,
    /// Discard them.
    Discard,
}

impl Records {
    /// Adds an endpoint. Returns false if the account does not exist.
    pub async fn create_endpoint(&self, record: &Endpoint) -> Result<bool, Error> {
        let endpoint_key = self.endpoint_key(record.account, record.id);
        self.changes
            .transact(|tx, _| async move {
                if !account_exists(&tx, record.account).await? {
                    return Ok(false);
                }
                // An earlier run may have been committed, and the endpoint changed since. The
                // dispatch state remains even if the endpoint has been deleted.
                if endpoint_key.dispatch_state(&tx).await?.is_some() {
                    return Ok(true);
                }
                tx.save(endpoint::key(record.account, record.id), record);
                endpoint_key.save_dispatch_state(&tx, &DispatchState::enabled());
                subscribe(&tx, record);
                Ok(true)
            })
            .await
    }

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

    /// Changes the configuration; `change` may run more than once. Returns `None` if the endpoint
    /// does not exist.
    pub async fn update_endpoint(
        &self,
        account: AccountId,
        id: EndpointId,
        change: impl Fn(&mut Endpoint) + Send + Sync,
    ) -> Result<Option<EndpointView>, Error> {
        let (change, endpoint_key) = (&change, self.endpoint_key(account, id));
        self.changes
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
                    schedule_immediately(&tx, endpoint_key).await?;
                }
                view(&tx, after).await
            })
            .await
    }

    /// Removes an endpoint except for its dispatch state, which records the deletion. Pending
    /// deliveries count as discarded from then on; the shard's owner discards them later. Returns
    /// false if the endpoint does not exist.
    pub async fn delete_endpoint(&self, account: AccountId, id: EndpointId) -> Result<bool, Error> {
        let endpoint_key = self.endpoint_key(account, id);
        self.store
            .transact(|tx, maybe_committed| async move {
                let Some(before) = tx.load::<Endpoint>(&endpoint::key(account, id)).await? else {
                    // An earlier run of this transaction may have removed it.
                    let dispatch = endpoint_key.dispatch_state(&tx).await?;
                    let deleted = dispatch.is_some_and(|dispatch| dispatch.state == State::Deleted);
                    return Ok(maybe_committed && deleted);
                };
                unsubscribe(&tx, &before);
                tx.clear(endpoint::key(account, id));
                tx.clear(health::key(account, id));
                if let Some(mut dispatch) = endpoint_key.dispatch_state(&tx).await? {
                    dispatch.state = State::Deleted;
                    dispatch.discard_through = Some(DeliveryId::MAX);
                    endpoint_key.save_dispatch_state(&tx, &dispatch);
                    endpoint_key.set_pointer(&tx, &mut dispatch, Some(due::IMMEDIATELY));
                }
                Ok(true)
            })
            .await
    }

    /// Disables an endpoint manually, unless it is disabled already. Returns `None` if it does not
    /// exist.
    pub async fn disable_endpoint(
        &self,
        account: AccountId,
        id: EndpointId,
        now: Timestamp,
    ) -> Result<Option<EndpointView>, Error> {
        let endpoint_key = self.endpoint_key(account, id);
        self.changes
            .transact(|tx, _| async move {
                let Some(mut dispatch) = endpoint_key.dispatch_state(&tx).await? else {
                    return Ok(None);
                };
                if let Some(disabled) = disable::manually(&dispatch.state, now) {
                    dispatch.state = State::Disabled(disabled);
                    endpoint_key.save_dispatch_state(&tx, &dispatch);
                    endpoint_key.remove_pointer(&tx, &mut dispatch);
                }
                load_view(&tx, account, id).await
            })
            .await
    }

    /// Enables an endpoint, unless it is enabled already. Returns `None` if it does not exist.
    ///
    /// Deliveries to be discarded count as discarded from then on; the shard's owner discards them
    /// before it sends anything.
    pub async fn enable_endpoint(
        &self,
        account: AccountId,
        id: EndpointId,
        held: HeldAction,
    ) -> Result<Option<EndpointView>, Error> {
        let endpoint_key = self.endpoint_key(account, id);
        self.changes
            .transact(|tx, _| async move {
                let Some(mut dispatch) = endpoint_key.dispatch_state(&tx).await? else {
                    return Ok(None);
                };
                if let State::Disabled(_) = dispatch.state {
                    dispatch.state = State::Enabled;
                    dispatch.resumptions = dispatch.resumptions.saturating_add(1);
                    match held {
                        HeldAction::Resume => dispatch.bring_forward = true,
                        HeldAction::Discard => {
                            mark_for_discard(&tx, endpoint_key, &mut dispatch).await?;
                        }
                    }
                    endpoint_key.save_dispatch_state(&tx, &dispatch);
                    end_failure_series(&tx, account, id).await?;
                    // The owner will find the deliveries to send or to discard.
                    endpoint_key.set_pointer(&tx, &mut dispatch, Some(due::IMMEDIATELY));
                }
                load_view(&tx, account, id).await
            })
            .await
    }

    pub(crate) fn endpoint_key(&self, account: AccountId, endpoint: EndpointId) -> EndpointKey {
        EndpointKey { account, endpoint, shard: self.shard_of(endpoint) }
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

/// The event types that an endpoint subscribes to; `None` stands for every type.
fn names(subscription: &Subscription) -> Vec<Option<&EventTypeName>> {
    match subscription {
        Subscription::All => vec![None],
        Subscription::Only(names) => names.iter().map(Some).collect(),
    }
}

/// A pointer set for strict ordering may be too late for parallel ordering.
async fn schedule_immediately(tx: &Tx, endpoint_key: EndpointKey) -> Result<(), Error> {
    if let Some(mut dispatch) = endpoint_key.dispatch_state(tx).await?
        && dispatch.pointer.is_some()
    {
        endpoint_key.set_pointer(tx, &mut dispatch, Some(due::IMMEDIATELY));
    }
    Ok(())
}

/// An enabled endpoint starts anew: the account is warned again after another hour of failures.
async fn end_failure_series(tx: &Tx, account: AccountId, id: EndpointId) -> Result<(), Error> {
    let key = health::key(account, id);
    if let Some(mut record) = tx.load::<Health>(&key).await?
        && record.series.take().is_some()
    {
        tx.save(key, &record);
    }
    Ok(())
}

/// Marks all currently pending deliveries to be discarded by the owner.
///
/// The reads are not checked at commit: every event accepted for the endpoint changes these rows,
/// and under load the transaction would never commit. An accepting transaction that has not seen
/// the new dispatch state conflicts with this one. One that committed in between has added a held
/// delivery, which is discarded if its id is not greater than `discard_through`, and sent
/// otherwise.
async fn mark_for_discard(
    tx: &Tx,
    endpoint_key: EndpointKey,
    dispatch: &mut DispatchState,
) -> Result<(), Error> {
    let EndpointKey { account, endpoint, .. } = endpoint_key;
    let range = Range::prefix(pending::of_endpoint(account, endpoint)).limit(1).reverse();
    let rows = tx.snap_range(range).await?;
    dispatch.discard_through = rows.first().map(|(key, _)| delivery::parse_key(key)).transpose()?;
    dispatch.discarding = pending_count(tx, account, endpoint).await?;
    Ok(())
}

/// The number of an endpoint's unfinished deliveries.
pub(crate) async fn pending_count(
    tx: &Tx,
    account: AccountId,
    endpoint: EndpointId,
) -> Result<u64, Error> {
    let count = tx.snap_get(pending::count(account, endpoint)).await?;
    Ok(u64::try_from(counter(count.as_deref())).unwrap_or(0))
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

/// Loads the view of an endpoint.
pub(crate) async fn view(tx: &Tx, endpoint: Endpoint) -> Result<Option<EndpointView>, Error> {
    let (account, id) = (endpoint.account, endpoint.id);
    let Some(dispatch) = tx.snap_load::<DispatchState>(&dispatch_state::key(account, id)).await?
    else {
        return Ok(None);
    };
    let count = pending_count(tx, account, id).await?;
    let all = pending::of_endpoint(account, id);
    let end = prefix_end(&all);
    let begin = match dispatch.discard_through {
        Some(through) => [pending::key(account, id, through), vec![0]].concat(),
        None => all,
    };
    let oldest = tx.snap_range(Range::new(begin, end).limit(1)).await?;
    let oldest = oldest.first().map(|(key, _)| delivery::parse_key(key)).transpose()?;
    let backlog = Backlog::of(&dispatch.state, count.saturating_sub(dispatch.discarding));
    Ok(Some(EndpointView {
        endpoint,
        state: dispatch.state,
        health: tx.snap_load(&health::key(account, id)).await?.unwrap_or_default(),
        backlog,
        oldest_pending_at: oldest.map(ids::created_at),
    }))
}

/// The state of a delivery, which depends on its endpoint's.
pub(crate) async fn state_of(tx: &Tx, delivery: &Delivery) -> Result<DeliveryState, Error> {
    let dispatch: Option<DispatchState> =
        tx.snap_load(&dispatch_state::key(delivery.account, delivery.endpoint)).await?;
    Ok(state_given(dispatch.as_ref(), delivery))
}

/// The state of a delivery, given its endpoint's dispatch state.
pub(crate) fn state_given(dispatch: Option<&DispatchState>, delivery: &Delivery) -> DeliveryState {
    dispatch.map_or_else(|| delivery.state(&State::Deleted), |dispatch| dispatch.state_of(delivery))
}
