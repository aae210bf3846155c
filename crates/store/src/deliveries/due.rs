//! The two-level queue as the owner of a shard reads it: pointers tell which endpoints want a
//! look, and an endpoint's own queue tells what it has to send.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use futures::{StreamExt, TryStreamExt, stream};
use postrider_domain::delivery::{Delivery, End, Progress};
use postrider_domain::endpoint::{Endpoint, Health, Ordering, State};
use postrider_domain::event::Payload;
use postrider_domain::ids::{self, AccountId, DeliveryId, EndpointId, EventId};
use postrider_domain::ownership::{Fence, Shard};
use postrider_domain::time::Timestamp;

use crate::cluster::owners::OwnerError;
use crate::codec::{Record, RecordTx};
use crate::deliveries::enqueue::Place;
use crate::events::accept::load_payload;
use crate::keys::gate::{self, Gate};
use crate::keys::queue::Rank;
use crate::keys::{delivery, due, endpoint, event, health, pending, queue};
use crate::kv::{Error, Pair, Range, Tx};
use crate::records::{Ready, Records};

/// Endpoints among which the oldest pending delivery is looked for.
const OLDEST_AMONG: usize = 10_000;
/// Shards that are looked at in parallel for it.
const SHARDS_AT_ONCE: usize = 32;
/// Deliveries that one transaction discards.
const DISCARDED_AT_ONCE: usize = 200;

/// An endpoint that wants a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DueEndpoint {
    /// When.
    pub at: Timestamp,
    /// Whose it is.
    pub account: AccountId,
    /// The endpoint.
    pub endpoint: EndpointId,
}

/// Which delivery, whose, and to which endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeliveryOf {
    /// Whose it is.
    pub account: AccountId,
    /// The endpoint.
    pub endpoint: EndpointId,
    /// The delivery.
    pub delivery: DeliveryId,
}

/// What there is to do for an endpoint.
#[derive(Clone, Debug)]
pub enum Work {
    /// Nothing: there is no such endpoint, and never was or no longer is.
    Gone,
    /// Pending deliveries have to be discarded first: see [`Records::discard_some`].
    Discard,
    /// Nothing: it is disabled or deleted.
    Closed,
    /// It is sent to.
    Send(Box<Workload>),
}

/// What an endpoint that is sent to has to send.
#[derive(Clone, Debug)]
pub struct Workload {
    /// What its owner set.
    pub endpoint: Endpoint,
    /// How it has fared.
    pub health: Health,
    /// In parallel order, the retries that are due first. They go before first attempts.
    pub retries: Head,
    /// The first attempts that are due first; in strict order, the oldest deliveries.
    pub firsts: Head,
}

/// The beginning of a queue.
#[derive(Clone, Debug, Default)]
pub struct Head {
    /// The deliveries, in their order.
    pub deliveries: Vec<Delivery>,
    /// Whether there are more.
    pub more: bool,
}

impl Records {
    /// The endpoints of a shard, those first that want a look first; only those behind `after`, if
    /// there is one.
    ///
    /// # Errors
    /// When the store fails.
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
            let (at, endpoint) = due::of_key(key)?;
            Ok(DueEndpoint { at, account: Record::decode(value)?, endpoint })
        })
        .await
    }

    /// When the oldest delivery was made that is still to be delivered, among those of the first
    /// 10,000 endpoints that want a look, from each shard alike. None when there is none.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn oldest_pending(&self) -> Result<Option<Timestamp>, Error> {
        let limit = (OLDEST_AMONG / usize::from(self.shards())).max(1);
        let shards = (0..self.shards()).map(|shard| self.oldest_pending_in(shard, limit));
        let oldest = stream::iter(shards).buffer_unordered(SHARDS_AT_ONCE);
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

    /// When an endpoint's oldest pending delivery was made; its id tells.
    async fn oldest_of(
        &self,
        account: AccountId,
        endpoint: EndpointId,
    ) -> Result<Option<Timestamp>, Error> {
        let range = Range::prefix(pending::of_endpoint(account, endpoint)).limit(1);
        let rows = self.store.rows(range).await?;
        let ids = rows.first().map(|(key, _)| delivery::of_key(key)).transpose()?;
        Ok(ids.map(ids::created_at))
    }

    /// What there is to do for an endpoint, with at most `limit` deliveries of each queue.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn workload(
        &self,
        account: AccountId,
        id: EndpointId,
        limit: usize,
    ) -> Result<Work, Error> {
        self.store
            .read(|tx| async move {
                let keys = [gate::key, endpoint::key, health::key];
                tx.prefetch(keys.iter().map(|key| key(account, id))).await?;
                let Some(gate) = tx.snap_load::<Gate>(&gate::key(account, id)).await? else {
                    return Ok(Work::Gone);
                };
                if gate.discard_through.is_some() {
                    return Ok(Work::Discard);
                }
                let endpoint: Option<Endpoint> = tx.snap_load(&endpoint::key(account, id)).await?;
                let (State::Enabled, Some(endpoint)) = (gate.state, endpoint) else {
                    return Ok(Work::Closed);
                };
                let health = tx.snap_load(&health::key(account, id)).await?.unwrap_or_default();
                let (retries, firsts) = queues(account, id, endpoint.ordering);
                let retries = match retries {
                    Some(retries) => head(&tx, account, retries, limit).await?,
                    None => Head::default(),
                };
                let firsts = head(&tx, account, firsts, limit).await?;
                Ok(Work::Send(Box::new(Workload { endpoint, health, retries, firsts })))
            })
            .await
    }

    /// The payload of an event. None when it is gone, as with its account.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn payload(
        &self,
        account: AccountId,
        event: EventId,
    ) -> Result<Option<Payload>, Error> {
        self.store.read(|tx| async move { load_payload(&tx, account, event).await }).await
    }

    /// Each of these deliveries, if it waits for its first attempt, with its payload, if that has at
    /// most `most_payload_bytes` and fits into one row: one read for all of them.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn ready_deliveries(
        &self,
        wanted: &[DeliveryOf],
        most_payload_bytes: usize,
    ) -> Result<Vec<Option<Ready>>, Error> {
        self.store
            .read(|tx| async move {
                let keys = wanted.iter().map(|it| delivery::key(it.account, it.delivery));
                tx.prefetch(keys).await?;
                let mut found = Vec::with_capacity(wanted.len());
                for DeliveryOf { account, endpoint, delivery: id } in wanted {
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
                let heads = events.iter().map(|(account, id)| event::head(*account, *id));
                let chunks = events.iter().map(|(account, id)| event::chunk(*account, *id, 0));
                tx.prefetch(heads.chain(chunks)).await?;
                let mut payloads = HashMap::new();
                let mut ready = Vec::with_capacity(wanted.len());
                for (DeliveryOf { account, .. }, found) in wanted.iter().zip(found) {
                    let Some(delivery) = found else {
                        ready.push(None);
                        continue;
                    };
                    // Many deliveries may be of one event.
                    let payload = match payloads.entry((*account, delivery.event)) {
                        Entry::Occupied(known) => known.into_mut(),
                        Entry::Vacant(unknown) => unknown.insert(
                            small_payload(&tx, *account, delivery.event, most_payload_bytes)
                                .await?,
                        ),
                    };
                    let payload: Option<Payload> = payload.clone();
                    ready.push(payload.map(|payload| Ready { delivery, payload, trace: None }));
                }
                Ok(ready)
            })
            .await
    }

    /// Whether a pending delivery is still to be sent: its endpoint is enabled, and it is not among
    /// those that were given up.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn is_to_be_sent(
        &self,
        account: AccountId,
        endpoint: EndpointId,
        delivery: DeliveryId,
    ) -> Result<bool, Error> {
        let key = &gate::key(account, endpoint);
        let gate: Option<Gate> =
            self.store.read(|tx| async move { tx.snap_load(key).await }).await?;
        Ok(gate.is_some_and(|gate| gate.state == State::Enabled && !gate.gives_up(delivery)))
    }

    /// Puts an endpoint's pointer to the time when its queue next wants a look, and gives that
    /// time; none when there is nothing to wait for. While there is something to discard, the
    /// pointer stays where it is. The ordering is read from the endpoint's record: the caller may
    /// not have heard of its change.
    ///
    /// # Errors
    /// When the shard has a later owner, or the store fails.
    pub async fn settle(
        &self,
        fence: Fence,
        account: AccountId,
        endpoint: EndpointId,
    ) -> Result<Option<Timestamp>, OwnerError> {
        let place = Place { account, endpoint, shard: fence.shard };
        self.as_owner(fence, |tx| async move {
            let Some(mut gate) = place.gate(&tx).await? else {
                return Ok(None);
            };
            let next = match gate.state {
                _ if gate.discard_through.is_some() => gate.pointer,
                State::Enabled => next_due(&tx, place).await?,
                State::Disabled(_) | State::Deleted => None,
            };
            place.point(&tx, &mut gate, next);
            Ok(next)
        })
        .await
    }

    /// Discards some of the pending deliveries that were given up, and tells whether there may
    /// be more.
    ///
    /// # Errors
    /// When the shard has a later owner, or the store fails.
    pub async fn discard_some(
        &self,
        fence: Fence,
        account: AccountId,
        endpoint: EndpointId,
        now: Timestamp,
    ) -> Result<bool, OwnerError> {
        let place = Place { account, endpoint, shard: fence.shard };
        self.as_owner(fence, |tx| async move {
            let Some(mut gate) = place.gate(&tx).await? else {
                return Ok(false);
            };
            let Some(through) = gate.discard_through else {
                return Ok(false);
            };
            let discarded = discard(&tx, place, through, now).await?;
            let more = discarded == DISCARDED_AT_ONCE;
            if more {
                let discarded = u64::try_from(discarded).expect("bounded");
                gate.discarding = gate.discarding.saturating_sub(discarded);
            } else {
                (gate.discard_through, gate.discarding) = (None, 0);
            }
            place.save_gate(&tx, &gate);
            if gate.state != State::Enabled {
                place.close(&tx, &mut gate);
            }
            Ok(more)
        })
        .await
    }
}

async fn small_payload(
    tx: &Tx,
    account: AccountId,
    event: EventId,
    most_bytes: usize,
) -> Result<Option<Payload>, Error> {
    let head: Option<event::Head> = tx.snap_load(&event::head(account, event)).await?;
    let fits =
        |head: event::Head| usize::try_from(head.payload_bytes).is_ok_and(|it| it <= most_bytes);
    if !head.is_some_and(fits) {
        return Ok(None);
    }
    let chunk = tx.snap_get(event::chunk(account, event, 0)).await?;
    Ok(chunk.map(Payload::from_stored))
}

/// Discards the oldest of the pending deliveries up to `through`, and gives their number.
async fn discard(
    tx: &Tx,
    place: Place,
    through: DeliveryId,
    now: Timestamp,
) -> Result<usize, Error> {
    let Place { account, endpoint, .. } = place;
    let begin = pending::of_endpoint(account, endpoint);
    let end = [pending::key(account, endpoint, through), vec![0]].concat();
    let rows = tx.range(Range::new(begin, end).limit(DISCARDED_AT_ONCE)).await?;
    prefetch_deliveries(tx, account, &rows).await?;
    for (key, _) in &rows {
        let key = delivery::key(account, delivery::of_key(key)?);
        if let Some(before) = tx.load::<Delivery>(&key).await? {
            let progress = Progress::Finished { end: End::Discarded, at: now };
            place.advance(tx, &before, &Delivery { progress, ..before.clone() });
        }
    }
    Ok(rows.len())
}

/// Fetches the deliveries that the rows of a list or queue name.
pub(crate) async fn prefetch_deliveries(
    tx: &Tx,
    account: AccountId,
    rows: &[Pair],
) -> Result<(), Error> {
    let ids = rows.iter().flat_map(|(key, _)| delivery::of_key(key));
    tx.prefetch(ids.map(|id| delivery::key(account, id))).await
}

/// The prefixes of an endpoint's queues: of its retries, if they stand apart, and of the rest.
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

async fn head(tx: &Tx, account: AccountId, queue: Vec<u8>, limit: usize) -> Result<Head, Error> {
    let rows = tx.snap_range(Range::prefix(queue).limit(limit + 1)).await?;
    prefetch_deliveries(tx, account, &rows[..rows.len().min(limit)]).await?;
    let mut deliveries = Vec::with_capacity(rows.len().min(limit));
    for (key, _) in rows.iter().take(limit) {
        let key = delivery::key(account, delivery::of_key(key)?);
        deliveries.extend(tx.snap_load::<Delivery>(&key).await?);
    }
    Ok(Head { deliveries, more: rows.len() > limit })
}

/// When the first in line is due; a first attempt is due at once. Checked at commit, so that a delivery that is being accepted
/// at this moment is either seen here or sees the pointer that this leads to.
async fn next_due(tx: &Tx, place: Place) -> Result<Option<Timestamp>, Error> {
    let Place { account, endpoint: id, .. } = place;
    let Some(endpoint) = tx.load::<Endpoint>(&endpoint::key(account, id)).await? else {
        return Ok(None);
    };
    match queues(account, id, endpoint.ordering) {
        (Some(retries), firsts) => {
            let first = first_due(tx, firsts).await?.map(|_| due::AT_ONCE);
            Ok(first.or(first_due(tx, retries).await?))
        }
        (None, by_age) => {
            let rows = tx.range(Range::prefix(by_age).limit(1)).await?;
            let Some((key, _)) = rows.first() else { return Ok(None) };
            let key = delivery::key(account, delivery::of_key(key)?);
            let first = tx.load::<Delivery>(&key).await?;
            Ok(first.and_then(|first| match first.attempt_count {
                0 => Some(due::AT_ONCE),
                _ => first.due(),
            }))
        }
    }
}

async fn first_due(tx: &Tx, queue: Vec<u8>) -> Result<Option<Timestamp>, Error> {
    let rows = tx.range(Range::prefix(queue).limit(1)).await?;
    rows.first().map(|(key, _)| queue::of_key(key).map(|(due, _)| due)).transpose()
}
