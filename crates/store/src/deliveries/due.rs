//! The two-level queue as read by the owner of a shard: pointers lead to the due endpoints, and
//! each endpoint has its own queue of deliveries.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use futures::{StreamExt, TryStreamExt, stream};
use postrider_domain::assignment::{Fence, Shard};
use postrider_domain::delivery::Delivery;
use postrider_domain::endpoint::{Endpoint, Health, Ordering, State};
use postrider_domain::event::Payload;
use postrider_domain::ids::{self, AccountId, DeliveryId, EndpointId, EventId};
use postrider_domain::time::Timestamp;

use crate::cluster::owners::OwnerError;
use crate::codec::{Record, RecordTx};
use crate::deliveries::endpoint_key::EndpointKey;
use crate::events::payload::load_payload;
use crate::keys::dispatch_state::{self, DispatchState};
use crate::keys::queue::Rank;
use crate::keys::{delivery, due, endpoint, event, health, pending, queue};
use crate::kv::{Error, Pair, Range, Tx};
use crate::records::{Ready, Records};

/// The maximum number of due endpoints searched for the oldest pending delivery.
const OLDEST_PENDING_SAMPLE: usize = 10_000;
/// The maximum number of shards searched in parallel.
const MAX_PARALLEL_SHARDS: usize = 32;

/// A due endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DueEndpoint {
    pub at: Timestamp,
    pub account: AccountId,
    pub endpoint: EndpointId,
}

/// Identifies a delivery, with its account and endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeliveryRef {
    pub account: AccountId,
    pub endpoint: EndpointId,
    pub delivery: DeliveryId,
}

/// The work to do for an endpoint.
#[derive(Clone, Debug)]
pub enum EndpointWork {
    /// Nothing to do: the endpoint does not exist.
    Gone,
    /// Discard pending deliveries first: see [`Records::discard_some`].
    Discard,
    /// Bring retries forward first: see [`Records::bring_forward_some`].
    BringForward,
    /// Nothing to do: the endpoint is disabled or deleted.
    Closed,
    /// Send its deliveries.
    Send(Box<Workload>),
}

/// An enabled endpoint with the deliveries that are due first.
#[derive(Clone, Debug)]
pub struct Workload {
    pub endpoint: Endpoint,
    pub health: Health,
    /// In parallel ordering, the retries that are due first. They have priority over first
    /// attempts.
    pub retries: QueuePage,
    /// Deliveries that wait for their first attempt, earliest first; in strict ordering, the oldest
    /// deliveries.
    pub firsts: QueuePage,
}

/// A page from the front of a queue.
#[derive(Clone, Debug, Default)]
pub struct QueuePage {
    /// In queue order.
    pub deliveries: Vec<Delivery>,
    /// Whether the queue has more deliveries.
    pub more: bool,
}

impl Records {
    /// Lists a shard's due endpoints, earliest first, optionally only those after `after`.
    pub async fn due_endpoints(
        &self,
        shard: Shard,
        after: Option<&DueEndpoint>,
        limit: usize,
    ) -> Result<Vec<DueEndpoint>, Error> {
        let mut range = Range::prefix(due::of_shard(shard)).limit(limit);
        if let Some(DueEndpoint { at, endpoint, .. }) = after {
            range.begin = [due::key(shard, *at, *endpoint), vec![0]].concat();
        }
        self.readable_rows(range, |key, value| {
            let (at, endpoint) = due::parse_key(key)?;
            Ok(DueEndpoint { at, account: Record::decode(value)?, endpoint })
        })
        .await
    }

    /// Returns when the oldest pending delivery was created, among the first 10,000 due endpoints,
    /// spread evenly across the shards. `None` if nothing is pending.
    pub async fn oldest_pending(&self) -> Result<Option<Timestamp>, Error> {
        let limit = (OLDEST_PENDING_SAMPLE / usize::from(self.shards())).max(1);
        let shards = (0..self.shards()).map(|shard| self.oldest_pending_in(shard, limit));
        let oldest = stream::iter(shards).buffer_unordered(MAX_PARALLEL_SHARDS);
        oldest.try_fold(None, async |oldest, made| Ok(oldest.into_iter().chain(made).min())).await
    }

    async fn oldest_pending_in(
        &self,
        shard: Shard,
        limit: usize,
    ) -> Result<Option<Timestamp>, Error> {
        let mut oldest = None;
        for due in self.due_endpoints(shard, None, limit).await? {
            let made = self.oldest_of(due.account, due.endpoint).await?;
            oldest = oldest.into_iter().chain(made).min();
        }
        Ok(oldest)
    }

    /// The creation time of an endpoint's oldest pending delivery, from its id.
    async fn oldest_of(
        &self,
        account: AccountId,
        endpoint: EndpointId,
    ) -> Result<Option<Timestamp>, Error> {
        let range = Range::prefix(pending::of_endpoint(account, endpoint)).limit(1);
        let rows = self.store.rows(range).await?;
        let ids = rows.first().map(|(key, _)| delivery::parse_key(key)).transpose()?;
        Ok(ids.map(ids::created_at))
    }

    /// Returns the work to do for an endpoint, with at most `limit` deliveries of each queue.
    pub async fn workload(
        &self,
        account: AccountId,
        id: EndpointId,
        limit: usize,
    ) -> Result<EndpointWork, Error> {
        self.store
            .read(|tx| async move {
                let keys = [dispatch_state::key, endpoint::key, health::key];
                tx.prefetch(keys.iter().map(|key| key(account, id))).await?;
                let Some(dispatch) =
                    tx.snap_load::<DispatchState>(&dispatch_state::key(account, id)).await?
                else {
                    return Ok(EndpointWork::Gone);
                };
                if dispatch.discard_through.is_some() {
                    return Ok(EndpointWork::Discard);
                }
                let endpoint: Option<Endpoint> = tx.snap_load(&endpoint::key(account, id)).await?;
                let (State::Enabled, Some(endpoint)) = (dispatch.state, endpoint) else {
                    return Ok(EndpointWork::Closed);
                };
                if dispatch.bring_forward {
                    return Ok(EndpointWork::BringForward);
                }
                let health = tx.snap_load(&health::key(account, id)).await?.unwrap_or_default();
                let (retries, firsts) = queues(account, id, endpoint.ordering);
                let retries = match retries {
                    Some(retries) => read_queue_page(&tx, account, retries, limit).await?,
                    None => QueuePage::default(),
                };
                let firsts = read_queue_page(&tx, account, firsts, limit).await?;
                Ok(EndpointWork::Send(Box::new(Workload { endpoint, health, retries, firsts })))
            })
            .await
    }

    /// Returns an event's payload. `None` if it has been removed, for example with its account.
    pub async fn payload(
        &self,
        account: AccountId,
        event: EventId,
    ) -> Result<Option<Payload>, Error> {
        self.store.read(|tx| async move { load_payload(&tx, account, event).await }).await
    }

    /// Returns each of these deliveries that waits for its first attempt, if its payload has at
    /// most `max_payload_bytes` and fits into one row. All are read in one transaction.
    pub async fn ready_deliveries(
        &self,
        wanted: &[DeliveryRef],
        max_payload_bytes: usize,
    ) -> Result<Vec<Option<Ready>>, Error> {
        self.store
            .read(|tx| async move {
                let keys = wanted.iter().map(|it| delivery::key(it.account, it.delivery));
                tx.prefetch(keys).await?;
                let mut found = Vec::with_capacity(wanted.len());
                for DeliveryRef { account, endpoint, delivery: id } in wanted {
                    let record: Option<Delivery> =
                        tx.snap_load(&delivery::key(*account, *id)).await?;
                    found.push(record.filter(|record| {
                        record.endpoint == *endpoint
                            && record.attempt_count == 0
                            && record.due().is_some()
                    }));
                }
                let events: HashSet<_> =
                    found.iter().flatten().map(|record| (record.account, record.event)).collect();
                let metas = events.iter().map(|(account, id)| event::meta_key(*account, *id));
                let chunks = events.iter().map(|(account, id)| event::chunk(*account, *id, 0));
                tx.prefetch(metas.chain(chunks)).await?;
                let mut payloads = HashMap::new();
                let mut ready = Vec::with_capacity(wanted.len());
                for (DeliveryRef { account, .. }, found) in wanted.iter().zip(found) {
                    let Some(delivery) = found else {
                        ready.push(None);
                        continue;
                    };
                    // Several deliveries may share an event.
                    let payload = match payloads.entry((*account, delivery.event)) {
                        Entry::Occupied(known) => known.into_mut(),
                        Entry::Vacant(unknown) => unknown.insert(
                            small_payload(&tx, *account, delivery.event, max_payload_bytes).await?,
                        ),
                    };
                    let payload: Option<Payload> = payload.clone();
                    ready.push(payload.map(|payload| Ready { delivery, payload, trace: None }));
                }
                Ok(ready)
            })
            .await
    }

    /// Whether a pending delivery is still to be sent: its endpoint is enabled, and it is not
    /// marked to be discarded.
    pub async fn should_send(
        &self,
        account: AccountId,
        endpoint: EndpointId,
        delivery: DeliveryId,
    ) -> Result<bool, Error> {
        let key = &dispatch_state::key(account, endpoint);
        let dispatch: Option<DispatchState> =
            self.store.read(|tx| async move { tx.snap_load(key).await }).await?;
        Ok(dispatch.is_some_and(|dispatch| {
            dispatch.state == State::Enabled && !dispatch.discards(delivery)
        }))
    }

    /// Sets an endpoint's pointer to the time when its queue is next due, and returns that time.
    /// `None` if nothing is pending. While deliveries remain to be discarded or brought forward, the
    /// pointer is unchanged. The ordering is read from the endpoint's record, because the caller may not know
    /// of a change.
    pub async fn update_pointer(
        &self,
        fence: Fence,
        account: AccountId,
        endpoint: EndpointId,
    ) -> Result<Option<Timestamp>, OwnerError> {
        let endpoint_key = EndpointKey { account, endpoint, shard: fence.shard };
        self.as_owner(fence, |tx| async move {
            let Some(mut dispatch) = endpoint_key.dispatch_state(&tx).await? else {
                return Ok(None);
            };
            let next = match dispatch.state {
                _ if dispatch.discard_through.is_some() || dispatch.bring_forward => {
                    dispatch.pointer
                }
                State::Enabled => next_due(&tx, endpoint_key).await?,
                State::Disabled(_) | State::Deleted => None,
            };
            endpoint_key.set_pointer(&tx, &mut dispatch, next);
            Ok(next)
        })
        .await
    }
}

async fn small_payload(
    tx: &Tx,
    account: AccountId,
    event: EventId,
    max_bytes: usize,
) -> Result<Option<Payload>, Error> {
    let meta: Option<event::EventMeta> = tx.snap_load(&event::meta_key(account, event)).await?;
    let fits = |meta: event::EventMeta| {
        usize::try_from(meta.payload_bytes).is_ok_and(|it| it <= max_bytes)
    };
    if !meta.is_some_and(fits) {
        return Ok(None);
    }
    let chunk = tx.snap_get(event::chunk(account, event, 0)).await?;
    Ok(chunk.map(Payload::from_stored))
}

/// Prefetches the deliveries that the rows of a list or queue refer to.
pub(crate) async fn prefetch_deliveries(
    tx: &Tx,
    account: AccountId,
    rows: &[Pair],
) -> Result<(), Error> {
    let ids = rows.iter().flat_map(|(key, _)| delivery::parse_key(key));
    tx.prefetch(ids.map(|id| delivery::key(account, id))).await
}

/// The prefixes of an endpoint's queues: of its retries, if they have their own, and of the rest.
fn queues(
    account: AccountId,
    endpoint: EndpointId,
    ordering: Ordering,
) -> (Option<Vec<u8>>, Vec<u8>) {
    let of_rank = |rank| queue::of_rank(account, endpoint, rank);
    match ordering {
        Ordering::Parallel => (Some(of_rank(Rank::Retry)), of_rank(Rank::First)),
        Ordering::Strict => (None, pending::of_endpoint(account, endpoint)),
    }
}

async fn read_queue_page(
    tx: &Tx,
    account: AccountId,
    queue: Vec<u8>,
    limit: usize,
) -> Result<QueuePage, Error> {
    let rows = tx.snap_range(Range::prefix(queue).limit(limit + 1)).await?;
    prefetch_deliveries(tx, account, &rows[..rows.len().min(limit)]).await?;
    let mut deliveries = Vec::with_capacity(rows.len().min(limit));
    for (key, _) in rows.iter().take(limit) {
        let key = delivery::key(account, delivery::parse_key(key)?);
        deliveries.extend(tx.snap_load::<Delivery>(&key).await?);
    }
    Ok(QueuePage { deliveries, more: rows.len() > limit })
}

/// When the next delivery is due; first attempts are due immediately. Checked at commit, so that a
/// concurrently accepted delivery is either seen here, or its transaction sees the new pointer.
async fn next_due(tx: &Tx, endpoint_key: EndpointKey) -> Result<Option<Timestamp>, Error> {
    let EndpointKey { account, endpoint: id, .. } = endpoint_key;
    let Some(endpoint) = tx.load::<Endpoint>(&endpoint::key(account, id)).await? else {
        return Ok(None);
    };
    match queues(account, id, endpoint.ordering) {
        (Some(retries), firsts) => {
            let first = first_due(tx, firsts).await?.map(|_| due::IMMEDIATELY);
            Ok(first.or(first_due(tx, retries).await?))
        }
        (None, by_age) => {
            let rows = tx.range(Range::prefix(by_age).limit(1)).await?;
            let Some((key, _)) = rows.first() else { return Ok(None) };
            let key = delivery::key(account, delivery::parse_key(key)?);
            let first = tx.load::<Delivery>(&key).await?;
            Ok(first.and_then(|first| match first.attempt_count {
                0 => Some(due::IMMEDIATELY),
                _ => first.due(),
            }))
        }
    }
}

async fn first_due(tx: &Tx, queue: Vec<u8>) -> Result<Option<Timestamp>, Error> {
    let rows = tx.range(Range::prefix(queue).limit(1)).await?;
    rows.first().map(|(key, _)| queue::parse_key(key).map(|(due, _)| due)).transpose()
}
