//! Queries: events, deliveries and their attempts.

use parking_lot::Mutex;

use postrider_domain::delivery::{Delivery, DeliveryState, Progress, Schedule};
use postrider_domain::endpoint::State;
use postrider_domain::event::{Event, EventTypeName};
use postrider_domain::ids::{self, AccountId, DeliveryId, EndpointId, EventId, IdGenerator};
use postrider_domain::time::Timestamp;

use crate::codec::{Record, RecordTx};
use crate::deliveries::due::prefetch_deliveries;
use crate::deliveries::endpoint_key::EndpointKey;
use crate::deliveries::view::DeliveryView;
use crate::endpoints::{state_given, state_of};
use crate::events::event_deliveries;
use crate::events::payload::load_payload;
use crate::keys::attempt::RecordedAttempt;
use crate::keys::dispatch_state::{self, DispatchState};
use crate::keys::event::EventMeta;
use crate::keys::{attempt, delivery, event};
use crate::kv::{Error, Range, Tx};
use crate::records::{ListPage, PageRequest, Records, Wake};

/// An event in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventView {
    pub id: EventId,
    pub event_type: EventTypeName,
    pub created_at: Timestamp,
    /// How many endpoints it is delivered to.
    pub deliveries: u64,
    pub payload_bytes: u64,
}

/// Filters for deliveries. Omitted filters match everything.
#[derive(Clone, Debug, Default)]
pub struct DeliveryFilter {
    /// Only deliveries in this state.
    pub state: Option<DeliveryState>,
    /// Only deliveries of this event type.
    pub event_type: Option<EventTypeName>,
    /// Only deliveries created at this time or later.
    pub since: Option<Timestamp>,
}

/// The maximum number of rows that a filtered list scans before it returns a partial page.
const MAX_SCANNED: usize = 2_000;
/// The number of deliveries that a list fetches in one batch: about a page.
const FETCH_BATCH_SIZE: usize = 100;

impl Records {
    /// Returns an event with its payload and its number of deliveries.
    pub async fn event(
        &self,
        account: AccountId,
        id: EventId,
    ) -> Result<Option<(Event, u64)>, Error> {
        self.store
            .read(|tx| async move {
                let Some(meta) = tx.snap_load::<EventMeta>(&event::meta_key(account, id)).await?
                else {
                    return Ok(None);
                };
                let payload = load_payload(&tx, account, id).await?.ok_or_else(|| {
                    Error::Corrupt(format!("the payload of the event {id} is missing"))
                })?;
                let EventMeta { event_type, created_at, deliveries, .. } = meta;
                Ok(Some((Event { id, account, event_type, created_at, payload }, deliveries)))
            })
            .await
    }

    /// Lists an account's events, or those of one type, newest first, without their payloads. A
    /// page with fewer items than the limit may still have a next one, because a call scans a
    /// bounded number of rows.
    pub async fn events(
        &self,
        account: AccountId,
        event_type: Option<&EventTypeName>,
        request: PageRequest<EventId>,
    ) -> Result<ListPage<EventView>, Error> {
        let before = request.after.map(|after| event::meta_key(account, after));
        let max = if event_type.is_some() { MAX_SCANNED } else { request.limit };
        let range = Range::newest(event::of_account(account), before).limit(max + 1);
        let rows = self.store.rows(range).await?;
        let mut items = Vec::new();
        for (scanned, (key, value)) in rows.iter().enumerate() {
            let id = event::parse_key(key)?;
            let EventMeta { event_type: name, created_at, deliveries, payload_bytes } =
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
            let full = items.len() == request.limit || scanned + 1 == max;
            if full && scanned + 1 < rows.len() {
                return Ok(ListPage { items, next: Some(id.to_string()) });
            }
        }
        Ok(ListPage { items, next: None })
    }

    /// Lists an endpoint's deliveries, newest first. A page with fewer items than the limit may
    /// still have a next one, because a call scans a bounded number of rows.
    pub async fn deliveries(
        &self,
        account: AccountId,
        endpoint: EndpointId,
        filter: DeliveryFilter,
        request: PageRequest<DeliveryId>,
    ) -> Result<ListPage<DeliveryView>, Error> {
        let key = |id| delivery::of_endpoint(account, endpoint, id);
        let begin = key(filter.since.map_or(DeliveryId::MIN, ids::floor));
        let end = request.after.map_or_else(|| [key(DeliveryId::MAX), vec![0]].concat(), key);
        let wanted = if filter.is_selective() { usize::MAX } else { request.limit };
        let max = wanted.min(MAX_SCANNED);
        let range = Range::new(begin, end).limit(max + 1).reverse();
        let filter = &filter;
        self.store
            .read(|tx| {
                let (range, limit) = (range.clone(), request.limit);
                async move {
                    let dispatch: Option<DispatchState> =
                        tx.snap_load(&dispatch_state::key(account, endpoint)).await?;
                    let rows = tx.snap_range(range).await?;
                    let mut items = Vec::new();
                    for (scanned, (row, _)) in rows.iter().enumerate() {
                        if scanned % FETCH_BATCH_SIZE == 0 {
                            let ahead = &rows[scanned..rows.len().min(scanned + FETCH_BATCH_SIZE)];
                            prefetch_deliveries(&tx, account, ahead).await?;
                        }
                        let id = delivery::parse_key(row)?;
                        let record: Option<Delivery> =
                            tx.snap_load(&delivery::key(account, id)).await?;
                        let view = record.map(|delivery| DeliveryView {
                            state: state_given(dispatch.as_ref(), &delivery),
                            delivery,
                        });
                        items.extend(view.filter(|view| filter.matches(view)));
                        let full = items.len() == limit || scanned + 1 == max;
                        if full && scanned + 1 < rows.len() {
                            return Ok(ListPage { items, next: Some(id.to_string()) });
                        }
                    }
                    Ok::<_, Error>(ListPage { items, next: None })
                }
            })
            .await
    }

    /// Returns a delivery without its attempts.
    pub async fn delivery_without_attempts(
        &self,
        account: AccountId,
        id: DeliveryId,
    ) -> Result<Option<DeliveryView>, Error> {
        self.store.read(|tx| async move { delivery_view(&tx, account, id).await }).await
    }

    /// Returns a delivery with its attempts, oldest first.
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

    /// Creates a new delivery of the same event to the same endpoint, with its own retries. Returns
    /// `None` if the delivery does not exist or its endpoint is deleted.
    pub async fn resend_delivery(
        &self,
        account: AccountId,
        id: DeliveryId,
        id_generator: &IdGenerator,
        now: Timestamp,
    ) -> Result<Option<(DeliveryView, Option<Wake>)>, Error> {
        self.refuse_if_nearly_full()?;
        // The id chosen by an earlier run, which may have been committed.
        let chosen = &Mutex::new(None);
        self.changes
            .transact(|tx, _| async move {
                let Some(old) = tx.load::<Delivery>(&delivery::key(account, id)).await? else {
                    return Ok(None);
                };
                let endpoint_key = self.endpoint_key(account, old.endpoint);
                let Some(dispatch) =
                    endpoint_key.dispatch_state(&tx).await?.filter(DispatchState::accepts_new)
                else {
                    return Ok(None);
                };
                let earlier: Option<DeliveryId> = *chosen.lock();
                if let Some(earlier) = earlier
                    && let Some(made) = tx.load(&delivery::key(account, earlier)).await?
                {
                    return Ok(Some(requeued(endpoint_key, &dispatch, made)));
                }
                let new = earlier.filter(|id| !dispatch.discards(*id));
                let new = new.unwrap_or_else(|| dispatch.new_id(id_generator, now));
                *chosen.lock() = Some(new);
                Ok(Some(requeue(&tx, endpoint_key, dispatch, &old, new, now)))
            })
            .await
    }
}

/// Creates the delivery `new` of the same event to the same endpoint as `old`.
pub(crate) fn requeue(
    tx: &Tx,
    endpoint_key: EndpointKey,
    mut dispatch: DispatchState,
    old: &Delivery,
    new: DeliveryId,
    now: Timestamp,
) -> (DeliveryView, Option<Wake>) {
    let delivery = Delivery {
        id: new,
        created_at: now,
        attempt_count: 0,
        first_attempt_at: None,
        schedule: Schedule::default(),
        progress: Progress::Pending { due: now },
        ..old.clone()
    };
    endpoint_key.add(tx, &delivery, &mut dispatch);
    event_deliveries::index(tx, old.account, old.event, new, &[new]);
    requeued(endpoint_key, &dispatch, delivery)
}

fn requeued(
    endpoint_key: EndpointKey,
    dispatch: &DispatchState,
    delivery: Delivery,
) -> (DeliveryView, Option<Wake>) {
    let wake = (dispatch.state == State::Enabled).then(|| endpoint_key.wake());
    (DeliveryView { state: dispatch.state_of(&delivery), delivery }, wake)
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
    /// Whether the filter may exclude deliveries created after `since`.
    fn is_selective(&self) -> bool {
        self.state.is_some() || self.event_type.is_some()
    }

    fn matches(&self, view: &DeliveryView) -> bool {
        self.state.is_none_or(|state| view.state == state)
            && self.event_type.as_ref().is_none_or(|name| view.delivery.event_type == *name)
            && self.since.is_none_or(|since| view.delivery.created_at >= since)
    }
}
