//! Accepting events: one transaction writes the idempotency key, the events, and a delivery with
//! its queue rows for every subscribed endpoint. There is no queue outside the store, so a crash
//! cannot lose anything between two writes.
//!
//! Deliveries get their ids in the order of the request, and the strict [`Ordering`] of an endpoint
//! is the order of those ids. It is only guaranteed for deliveries created here. An event that
//! exceeds one of this transaction's two limits is fanned out in steps afterwards (see `fan_out`),
//! independently of other events, and later events may overtake it.
//!
//! [`Ordering`]: postrider_domain::endpoint::Ordering

use std::collections::{HashMap, HashSet};

use postrider_domain::delivery::{Delivery, Progress, Schedule};
use postrider_domain::endpoint::State;
use postrider_domain::event::{Event, EventTypeName};
use postrider_domain::ids::{AccountId, DeliveryId, EndpointId, EventId, IdGenerator};
use postrider_domain::time::Timestamp;

use crate::accounts::account_exists;
use crate::codec::RecordTx;
use crate::deliveries::endpoint_key::EndpointKey;
use crate::events::event_deliveries;
use crate::events::subscribers::Subscribers;
use crate::keys::dispatch_state::DispatchState;
use crate::keys::event::EventMeta;
use crate::keys::fan_out::FanOut;
use crate::keys::idempotency::IdempotencyRecord;
use crate::keys::{account, event, event_type, expiry, fan_out, idempotency};
use crate::kv::{Error, Tx};
use crate::records::{Ready, Records, Wake};

/// The maximum number of deliveries that one transaction creates for all its events. Together with
/// the events of the largest batch, their rows are well below
/// [`MAX_TRANSACTION`](crate::kv::MAX_TRANSACTION).
pub(crate) const MAX_DELIVERIES: usize = 1_500;

/// The hashes of a request's idempotency key and body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Idempotency {
    /// SHA-256 of the key.
    pub key_sha256: [u8; 32],
    /// SHA-256 of the request.
    pub body_sha256: [u8; 32],
}

/// Events that are now durable.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// One per event, in order.
    pub receipts: Vec<Receipt>,
    /// Wake-ups for the owners of the affected shards.
    pub wakes: Vec<Wake>,
    /// The idempotency key had been used: these are the events of the first request.
    pub repeated: bool,
}

/// The acknowledgement of an accepted event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    pub id: EventId,
    pub event_type: EventTypeName,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// How many endpoints it is delivered to.
    pub deliveries: u64,
}

/// Why events were not accepted, or may not have been.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    #[error("the account does not exist")]
    NoSuchAccount,
    /// The event type is not in the catalogue.
    #[error("event {index} has an unknown type")]
    UnknownEventType {
        /// The index of the event, from 0.
        index: usize,
    },
    /// The idempotency key was used with a different request.
    #[error("the idempotency key was already used with a different request")]
    IdempotencyKeyReused,
    #[error(transparent)]
    Store(#[from] Error),
}

/// The state of an accepting transaction.
struct AcceptTransaction<'a> {
    records: &'a Records,
    tx: &'a Tx,
    id_generator: &'a IdGenerator,
    account: AccountId,
    /// How many more deliveries this transaction may create.
    remaining: usize,
    /// The subscribers to the types seen so far. `None` for an unknown type.
    subscribers: HashMap<EventTypeName, Option<Subscribers>>,
    receipts: Vec<Receipt>,
    wakes: Vec<Wake>,
}

impl Records {
    /// Returns the receipts of the earlier request with the same idempotency key. `None` if the key
    /// is unknown or has expired: the request is to be accepted.
    ///
    /// # Errors
    /// When the key was used with a different request, or the store fails.
    pub async fn find_receipts(
        &self,
        account: AccountId,
        idempotency: &Idempotency,
        now: Timestamp,
    ) -> Result<Option<Vec<Receipt>>, AcceptError> {
        self.store
            .read(|tx| async move {
                if !account_exists(&tx, account).await? {
                    return Err(AcceptError::NoSuchAccount);
                }
                recall(&tx, account, idempotency, now).await
            })
            .await
    }

    /// Accepts all events or none. When it returns receipts, the events are durable.
    ///
    /// # Errors
    /// See [`AcceptError`]. After [`Error::MaybeCommitted`], all events or none have been accepted;
    /// after any other error, none.
    pub async fn accept(
        &self,
        account: AccountId,
        events: Vec<Event>,
        idempotency: Option<Idempotency>,
        id_generator: &IdGenerator,
        now: Timestamp,
    ) -> Result<Accepted, AcceptError> {
        let events = &events;
        self.store
            .transact(|tx, _| async move {
                prefetch(&tx, account, events, idempotency.as_ref()).await?;
                if !account_exists(&tx, account).await? {
                    return Err(AcceptError::NoSuchAccount);
                }
                if let Some(idempotency) = &idempotency {
                    if let Some(receipts) = recall(&tx, account, idempotency, now).await? {
                        return Ok(Accepted { receipts, wakes: Vec::new(), repeated: true });
                    }
                    remember(self, &tx, account, idempotency, events);
                }
                if is_accepted(&tx, account, events).await?
                    && let Some(receipts) = receipts(&tx, account, event_ids(events)).await?
                {
                    return Ok(Accepted { receipts, wakes: Vec::new(), repeated: false });
                }
                self.refuse_if_nearly_full()?;
                let mut transaction = AcceptTransaction {
                    records: self,
                    tx: &tx,
                    id_generator,
                    account,
                    remaining: MAX_DELIVERIES,
                    subscribers: HashMap::new(),
                    receipts: Vec::with_capacity(events.len()),
                    wakes: Vec::new(),
                };
                for (index, event) in events.iter().enumerate() {
                    let Some(subscribers) = transaction.subscribers(&event.event_type).await?
                    else {
                        return Err(AcceptError::UnknownEventType { index });
                    };
                    transaction.add(event, &subscribers).await?;
                }
                Ok(Accepted {
                    receipts: transaction.receipts,
                    wakes: transaction.wakes,
                    repeated: false,
                })
            })
            .await
    }
}

impl AcceptTransaction<'_> {
    async fn add(&mut self, event: &Event, subscribers: &Subscribers) -> Result<(), Error> {
        let deliveries = match subscribers {
            Subscribers::Few(endpoints) if endpoints.len() <= self.remaining => {
                self.remaining -= endpoints.len();
                let mut made = Vec::with_capacity(endpoints.len());
                for endpoint in endpoints.iter() {
                    made.extend(self.deliver(event, *endpoint).await?);
                }
                event_deliveries::index_step(self.tx, self.account, event.id, &made);
                u64::try_from(made.len()).expect("bounded")
            }
            Subscribers::Few(endpoints) => {
                let last = endpoints.iter().max().expect("an empty list always fits");
                self.fan_out_later(event, *last);
                u64::try_from(endpoints.len()).expect("bounded")
            }
            Subscribers::Many { count, last } => {
                self.fan_out_later(event, *last);
                *count
            }
        };
        save_event(self.tx, event, deliveries);
        self.receipts.push(Receipt {
            id: event.id,
            event_type: event.event_type.clone(),
            created_at: event.created_at,
            deliveries,
        });
        Ok(())
    }

    /// The subscribers to a type, read once per transaction.
    async fn subscribers(
        &mut self,
        event_type: &EventTypeName,
    ) -> Result<Option<Subscribers>, Error> {
        if let Some(known) = self.subscribers.get(event_type) {
            return Ok(known.clone());
        }
        let subscribers = match self.tx.get(event_type::key(event_type)).await? {
            Some(_) => {
                Some(Subscribers::of(self.records, self.tx, self.account, event_type).await?)
            }
            None => None,
        };
        self.subscribers.insert(event_type.clone(), subscribers.clone());
        Ok(subscribers)
    }

    async fn deliver(
        &mut self,
        event: &Event,
        endpoint: EndpointId,
    ) -> Result<Option<DeliveryId>, Error> {
        let endpoint_key = self.records.endpoint_key(self.account, endpoint);
        let Some((delivery, state)) =
            deliver(self.tx, endpoint_key, event_of(event), self.id_generator).await?
        else {
            return Ok(None);
        };
        let id = delivery.id;
        if state == State::Enabled {
            let ready = Ready { delivery, payload: event.payload.clone(), trace: None };
            self.wakes.push(Wake::Endpoint {
                shard: endpoint_key.shard,
                account: self.account,
                endpoint,
                ready: Some(Box::new(ready)),
            });
        }
        Ok(Some(id))
    }

    /// Leaves the deliveries to endpoints up to `last` to the owner of the event's shard.
    fn fan_out_later(&mut self, event: &Event, last: EndpointId) {
        let shard = self.records.shard_of(event.id);
        let fan_out = FanOut::new(self.account, last);
        self.tx.save(fan_out::key(shard, event.id, &fan_out), &fan_out);
        self.wakes.push(Wake::Jobs { shard });
    }
}

/// Prefetches the rows that decide whether the events can be accepted.
async fn prefetch(
    tx: &Tx,
    account: AccountId,
    events: &[Event],
    idempotency: Option<&Idempotency>,
) -> Result<(), Error> {
    let event_types: HashSet<_> = events.iter().map(|event| &event.event_type).collect();
    let known = idempotency.map(|known| idempotency::key(account, &known.key_sha256));
    let first = events.first().map(|first| event::meta_key(account, first.id));
    let keys = event_types.into_iter().map(event_type::key).chain(known).chain(first);
    tx.prefetch(keys.chain([account::key(account)])).await
}

/// The part of an event that its deliveries need.
#[derive(Clone, Copy)]
pub(crate) struct EventOf<'a> {
    pub(crate) id: EventId,
    pub(crate) event_type: &'a EventTypeName,
    pub(crate) created_at: Timestamp,
}

fn event_of(event: &Event) -> EventOf<'_> {
    EventOf { id: event.id, event_type: &event.event_type, created_at: event.created_at }
}

/// Creates the delivery of an event to an endpoint, due immediately, unless the endpoint is
/// deleted.
pub(crate) async fn deliver(
    tx: &Tx,
    endpoint_key: EndpointKey,
    event: EventOf<'_>,
    id_generator: &IdGenerator,
) -> Result<Option<(Delivery, State)>, Error> {
    let Some(mut dispatch) =
        endpoint_key.dispatch_state(tx).await?.filter(DispatchState::accepts_new)
    else {
        return Ok(None);
    };
    let delivery = Delivery {
        id: dispatch.new_id(id_generator, event.created_at),
        account: endpoint_key.account,
        event: event.id,
        event_type: event.event_type.clone(),
        endpoint: endpoint_key.endpoint,
        created_at: event.created_at,
        attempt_count: 0,
        first_attempt_at: None,
        schedule: Schedule::default(),
        progress: Progress::Pending { due: event.created_at },
    };
    endpoint_key.add(tx, &delivery, &mut dispatch);
    Ok(Some((delivery, dispatch.state)))
}

fn save_event(tx: &Tx, event: &Event, deliveries: u64) {
    let payload = event.payload.bytes();
    let meta = EventMeta {
        event_type: event.event_type.clone(),
        created_at: event.created_at,
        deliveries,
        payload_bytes: u64::try_from(payload.len()).expect("bounded"),
    };
    tx.save(event::meta_key(event.account, event.id), &meta);
    for (number, start) in (0..).zip((0..payload.len()).step_by(event::CHUNK)) {
        let chunk = payload.slice(start..payload.len().min(start + event::CHUNK));
        tx.set(event::chunk(event.account, event.id, number), chunk);
    }
}

fn event_ids(events: &[Event]) -> Vec<EventId> {
    events.iter().map(|event| event.id).collect()
}

/// The receipts for an idempotency key that is valid at `now`. An expired key's row is ignored
/// until it is swept.
async fn recall(
    tx: &Tx,
    account: AccountId,
    idempotency: &Idempotency,
    now: Timestamp,
) -> Result<Option<Vec<Receipt>>, AcceptError> {
    let key = idempotency::key(account, &idempotency.key_sha256);
    let remembered: Option<IdempotencyRecord> = tx.load(&key).await?;
    let Some(remembered) = remembered.filter(|remembered| now < remembered.expires_at()) else {
        return Ok(None);
    };
    if remembered.body_sha256 != idempotency.body_sha256 {
        return Err(AcceptError::IdempotencyKeyReused);
    }
    Ok(receipts(tx, account, remembered.events).await?)
}

fn remember(
    records: &Records,
    tx: &Tx,
    account: AccountId,
    idempotency: &Idempotency,
    events: &[Event],
) {
    let Some(first) = events.first() else { return };
    let Idempotency { key_sha256, body_sha256 } = *idempotency;
    let remembered = IdempotencyRecord { body_sha256, events: event_ids(events), answered: None };
    tx.save(idempotency::key(account, &key_sha256), &remembered);
    let (shard, expires_at) = (records.shard_of(first.id), remembered.expires_at());
    tx.set(expiry::key(shard, expires_at, account, &key_sha256), Vec::new());
}

/// Whether an earlier run whose commit result was unknown accepted the events. Every run checks
/// this at commit: if an earlier commit takes effect after this read, as it may on FoundationDB
/// when the cluster changes its version, one of the two fails.
async fn is_accepted(tx: &Tx, account: AccountId, events: &[Event]) -> Result<bool, Error> {
    match events.first() {
        Some(first) => Ok(tx.get(event::meta_key(account, first.id)).await?.is_some()),
        None => Ok(false),
    }
}

/// The receipts of events accepted earlier. `None` if one of them is missing.
async fn receipts(
    tx: &Tx,
    account: AccountId,
    ids: Vec<EventId>,
) -> Result<Option<Vec<Receipt>>, Error> {
    let mut receipts = Vec::with_capacity(ids.len());
    for id in ids {
        let Some(meta) = tx.snap_load::<EventMeta>(&event::meta_key(account, id)).await? else {
            return Ok(None);
        };
        let EventMeta { event_type, created_at, deliveries, .. } = meta;
        receipts.push(Receipt { id, event_type, created_at, deliveries });
    }
    Ok(Some(receipts))
}
