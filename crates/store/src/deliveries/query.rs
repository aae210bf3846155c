//! What people look up: events, deliveries and their attempts.

use std::sync::Mutex;

use postrider_domain::delivery::{Delivery, DeliveryState, Progress};
use postrider_domain::endpoint::State;
use postrider_domain::event::{Event, EventTypeName};
use postrider_domain::ids::{self, AccountId, DeliveryId, EndpointId, EventId, Mint};
use postrider_domain::time::Timestamp;

use crate::codec::{Record, RecordTx};
use crate::deliveries::due::prefetch_deliveries;
use crate::deliveries::enqueue::Place;
use crate::endpoints::{state_behind, state_of};
use crate::events::accept::load_payload;
use crate::events::receivers;
use crate::keys::attempt::RecordedAttempt;
use crate::keys::event::Head;
use crate::keys::gate::{self, Gate};
use crate::keys::{attempt, delivery, event};
use crate::kv::{Error, Range, Tx, lock};
use crate::records::{Page, PageRequest, Records, Wake};

/// An event in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventView {
    /// Its id.
    pub id: EventId,
    /// Its type.
    pub event_type: EventTypeName,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// How many endpoints receive it.
    pub deliveries: u64,
    /// The size of its payload.
    pub payload_bytes: u64,
}

/// A delivery as people see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryView {
    /// The delivery.
    pub delivery: Delivery,
    /// Where it stands.
    pub state: DeliveryState,
}

/// Filters for deliveries. Omitted filters match everything.
#[derive(Clone, Debug, Default)]
pub struct DeliveryFilter {
    /// Only deliveries in this state.
    pub state: Option<DeliveryState>,
    /// Those of this type.
    pub event_type: Option<EventTypeName>,
    /// Those made at this time or later.
    pub since: Option<Timestamp>,
}

/// Rows that a filtered list looks at before it answers with what it has.
const MOST_LOOKED_AT: usize = 2_000;
/// Deliveries of a list that are fetched together: about a page.
const PAGE_FETCHED: usize = 100;

impl Records {
    /// One event with its payload, and how many endpoints receive it.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn event(
        &self,
        account: AccountId,
        id: EventId,
    ) -> Result<Option<(Event, u64)>, Error> {
        self.store
            .read(|tx| async move {
                let Some(head) = tx.snap_load::<Head>(&event::head(account, id)).await? else {
                    return Ok(None);
                };
                let payload = load_payload(&tx, account, id).await?.ok_or_else(|| {
                    Error::Corrupt(format!("the payload of the event {id} is missing"))
                })?;
                let Head { event_type, created_at, deliveries, .. } = head;
                Ok(Some((Event { id, account, event_type, created_at, payload }, deliveries)))
            })
            .await
    }

    /// An account's events, or those of one type, newest first, without their payloads. A page may
    /// have fewer items than asked for and still a next one: a call looks at a bounded number of
    /// rows.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn events(
        &self,
        account: AccountId,
        event_type: Option<&EventTypeName>,
        request: PageRequest<EventId>,
    ) -> Result<Page<EventView>, Error> {
        let before = request.after.map(|after| event::head(account, after));
        let most = if event_type.is_some() { MOST_LOOKED_AT } else { request.limit };
        let range = Range::newest(event::of_account(account), before).limit(most + 1);
        let rows = self.store.rows(range).await?;
        let mut items = Vec::new();
        for (looked_at, (key, value)) in rows.iter().enumerate() {
            let id = event::of_key(key)?;
            let Head { event_type: name, created_at, deliveries, payload_bytes } =
                Record::decode(value)?;
            if event_type.is_none_or(|wanted| *wanted == name) {
                items.push(EventView {
                    id,
                    event_type: name,
                    created_at,
                    deliveries,
                    payload_bytes,
                });
            }
            let full = items.len() == request.limit || looked_at + 1 == most;
            if full && looked_at + 1 < rows.len() {
                return Ok(Page { items, next: Some(id.to_string()) });
            }
        }
        Ok(Page { items, next: None })
    }

    /// An endpoint's deliveries, newest first. A page may have fewer items than asked for and
    /// still a next one: a call looks at a bounded number of rows.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn deliveries(
        &self,
        account: AccountId,
        endpoint: EndpointId,
        filter: DeliveryFilter,
        request: PageRequest<DeliveryId>,
    ) -> Result<Page<DeliveryView>, Error> {
        let key = |id| delivery::of_endpoint(account, endpoint, id);
        let begin = key(filter.since.map_or(DeliveryId::MIN, ids::floor));
        let end = request.after.map_or_else(|| [key(DeliveryId::MAX), vec![0]].concat(), key);
        let wanted = if filter.leaves_out() { usize::MAX } else { request.limit };
        let most = wanted.min(MOST_LOOKED_AT);
        let range = Range::new(begin, end).limit(most + 1).reverse();
        let filter = &filter;
        self.store
            .read(|tx| {
                let (range, limit) = (range.clone(), request.limit);
                async move {
                    let gate: Option<Gate> = tx.snap_load(&gate::key(account, endpoint)).await?;
                    let rows = tx.snap_range(range).await?;
                    let mut items = Vec::new();
                    for (looked_at, (row, _)) in rows.iter().enumerate() {
                        if looked_at % PAGE_FETCHED == 0 {
                            let ahead = &rows[looked_at..rows.len().min(looked_at + PAGE_FETCHED)];
                            prefetch_deliveries(&tx, account, ahead).await?;
                        }
                        let id = delivery::of_key(row)?;
                        let record: Option<Delivery> =
                            tx.snap_load(&delivery::key(account, id)).await?;
                        let view = record.map(|delivery| DeliveryView {
                            state: state_behind(gate.as_ref(), &delivery),
                            delivery,
                        });
                        items.extend(view.filter(|view| filter.takes(view)));
                        let full = items.len() == limit || looked_at + 1 == most;
                        if full && looked_at + 1 < rows.len() {
                            return Ok(Page { items, next: Some(id.to_string()) });
                        }
                    }
                    Ok::<_, Error>(Page { items, next: None })
                }
            })
            .await
    }

    /// One delivery without its attempts.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn delivery_alone(
        &self,
        account: AccountId,
        id: DeliveryId,
    ) -> Result<Option<DeliveryView>, Error> {
        self.store.read(|tx| async move { delivery_view(&tx, account, id).await }).await
    }

    /// One delivery with its attempts, the first one first.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn delivery(
        &self,
        account: AccountId,
        id: DeliveryId,
    ) -> Result<Option<(DeliveryView, Vec<RecordedAttempt>)>, Error> {
        self.store
            .read(|tx| async move {
                let Some(view) = delivery_view(&tx, account, id).await? else {
                    return Ok(None);
                };
                let rows = tx.snap_range(Range::prefix(attempt::of_delivery(account, id))).await?;
                let attempts = rows
                    .iter()
                    .map(|(_, value)| RecordedAttempt::decode(value))
                    .collect::<Result<_, _>>()?;
                Ok(Some((view, attempts)))
            })
            .await
    }

    /// Makes a new delivery of the same event to the same endpoint, with its own retries. None
    /// when there is no such delivery or its endpoint is gone.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn retry_delivery(
        &self,
        account: AccountId,
        id: DeliveryId,
        mint: &Mint,
        now: Timestamp,
    ) -> Result<Option<(DeliveryView, Option<Wake>)>, Error> {
        self.refuse_if_nearly_full()?;
        // The id that an earlier run chose, which may have been committed.
        let chosen = &Mutex::new(None);
        self.store
            .transact(|tx, _| async move {
                let Some(old) = tx.load::<Delivery>(&delivery::key(account, id)).await? else {
                    return Ok(None);
                };
                let place = self.place(account, old.endpoint);
                let Some(gate) = place.gate(&tx).await?.filter(Gate::takes_new) else {
                    return Ok(None);
                };
                let earlier: Option<DeliveryId> = *lock(chosen);
                if let Some(earlier) = earlier
                    && let Some(made) = tx.load(&delivery::key(account, earlier)).await?
                {
                    return Ok(Some(made_again(place, &gate, made)));
                }
                let new = earlier.filter(|id| !gate.gives_up(*id));
                let new = new.unwrap_or_else(|| gate.new_id(mint, now));
                *lock(chosen) = Some(new);
                Ok(Some(again(&tx, place, gate, &old, new, now)))
            })
            .await
    }
}

/// Makes the delivery `new` of the same event to the same endpoint as `old`.
pub(crate) fn again(
    tx: &Tx,
    place: Place,
    mut gate: Gate,
    old: &Delivery,
    new: DeliveryId,
    now: Timestamp,
) -> (DeliveryView, Option<Wake>) {
    let delivery = Delivery {
        id: new,
        created_at: now,
        attempt_count: 0,
        first_attempt_at: None,
        progress: Progress::Pending { due: now },
        ..old.clone()
    };
    place.add(tx, &delivery, &mut gate);
    receivers::note(tx, old.account, old.event, new, &[new]);
    made_again(place, &gate, delivery)
}

fn made_again(place: Place, gate: &Gate, delivery: Delivery) -> (DeliveryView, Option<Wake>) {
    let wake = (gate.state == State::Enabled).then(|| place.wake());
    (DeliveryView { state: gate.state_of(&delivery), delivery }, wake)
}

async fn delivery_view(
    tx: &Tx,
    account: AccountId,
    id: DeliveryId,
) -> Result<Option<DeliveryView>, Error> {
    let Some(delivery) = tx.snap_load::<Delivery>(&delivery::key(account, id)).await? else {
        return Ok(None);
    };
    let state = state_of(tx, &delivery).await?;
    Ok(Some(DeliveryView { delivery, state }))
}

impl DeliveryFilter {
    /// Whether there may be deliveries made since that it does not take.
    fn leaves_out(&self) -> bool {
        self.state.is_some() || self.event_type.is_some()
    }

    fn takes(&self, view: &DeliveryView) -> bool {
        self.state.is_none_or(|state| view.state == state)
            && self.event_type.as_ref().is_none_or(|name| view.delivery.event_type == *name)
            && self.since.is_none_or(|since| view.delivery.created_at >= since)
    }
}
