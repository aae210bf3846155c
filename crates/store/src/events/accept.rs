//! Accepting events: one transaction for the idempotency key, the events, and a delivery with
//! its queue rows for every endpoint that wants one. There is no queue beside the store, so
//! there is nothing that a crash could lose between two writes.
//!
//! Deliveries get their ids in the order of the request, and the strict [`Ordering`] of an
//! endpoint is the order of those ids. It is promised for what is made here. An event that
//! exceeds one of the two bounds of this transaction is fanned out in steps afterwards (see
//! `fan_out`), each event by itself, and later events may overtake it.
//!
//! [`Ordering`]: postrider_domain::endpoint::Ordering

use std::collections::{HashMap, HashSet};

use postrider_domain::delivery::{Delivery, Progress};
use postrider_domain::endpoint::State;
use postrider_domain::event::{Event, EventTypeName, Payload};
use postrider_domain::ids::{AccountId, DeliveryId, EndpointId, EventId, Mint};
use postrider_domain::time::Timestamp;

use crate::accounts::account_exists;
use crate::codec::RecordTx;
use crate::deliveries::enqueue::Place;
use crate::events::receivers;
use crate::events::subscribers::Subscribers;
use crate::keys::event::Head;
use crate::keys::fan_out::FanOut;
use crate::keys::gate::Gate;
use crate::keys::idempotency::Remembered;
use crate::keys::{account, event, event_type, expiry, fan_out, idempotency};
use crate::kv::{Error, Range, Tx};
use crate::records::{Ready, Records, Wake};

/// Most deliveries that one transaction makes for all its events: with their rows, and with the
/// events of the largest batch, it is well below [`MAX_TRANSACTION`](crate::kv::MAX_TRANSACTION).
pub(crate) const MAX_DELIVERIES: usize = 1_500;

/// A request's idempotency key and what it came with, as hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Idempotency {
    /// SHA-256 of the key.
    pub key_sha256: [u8; 32],
    /// SHA-256 of the request.
    pub body_sha256: [u8; 32],
}

/// Events that are durable now.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// One for each event, in their order.
    pub receipts: Vec<Receipt>,
    /// The work that they made.
    pub wakes: Vec<Wake>,
    /// The idempotency key was known: these are the events of the first time.
    pub repeated: bool,
}

/// What the sender of an event is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The event's id.
    pub id: EventId,
    /// Its type.
    pub event_type: EventTypeName,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// How many endpoints receive it.
    pub deliveries: u64,
}

/// Why nothing was accepted.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// There is no such account.
    #[error("there is no such account")]
    NoSuchAccount,
    /// The catalogue does not have an event's type.
    #[error("event {index} has an unknown type")]
    UnknownEventType {
        /// Which event, from 0.
        index: usize,
    },
    /// The idempotency key was used with another request.
    #[error("the idempotency key was used with another request")]
    IdempotencyKeyReused,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] Error),
}

/// What one accepting transaction has gathered.
struct Draft<'a> {
    records: &'a Records,
    tx: &'a Tx,
    mint: &'a Mint,
    account: AccountId,
    /// How many deliveries this transaction may still make.
    room: usize,
    /// Who wants the types that have come so far; none for a type that is not in the catalogue.
    subscribers: HashMap<EventTypeName, Option<Subscribers>>,
    receipts: Vec<Receipt>,
    wakes: Vec<Wake>,
}

impl Records {
    /// The answer to a request whose idempotency key is known at `now`. None when it is not, so
    /// that the request is to be accepted.
    ///
    /// # Errors
    /// When the key was used with another request, or the store fails.
    pub async fn recall(
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

    /// Accepts events, all or none. When this returns they are on disk.
    ///
    /// # Errors
    /// See [`AcceptError`]; nothing was accepted then.
    pub async fn accept(
        &self,
        account: AccountId,
        events: Vec<Event>,
        idempotency: Option<Idempotency>,
        mint: &Mint,
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
                let mut draft = Draft {
                    records: self,
                    tx: &tx,
                    mint,
                    account,
                    room: MAX_DELIVERIES,
                    subscribers: HashMap::new(),
                    receipts: Vec::with_capacity(events.len()),
                    wakes: Vec::new(),
                };
                for (index, event) in events.iter().enumerate() {
                    let Some(subscribers) = draft.subscribers(&event.event_type).await? else {
                        return Err(AcceptError::UnknownEventType { index });
                    };
                    draft.add(event, &subscribers).await?;
                }
                Ok(Accepted { receipts: draft.receipts, wakes: draft.wakes, repeated: false })
            })
            .await
    }
}

impl Draft<'_> {
    async fn add(&mut self, event: &Event, subscribers: &Subscribers) -> Result<(), Error> {
        let deliveries = match subscribers {
            Subscribers::Few(endpoints) if endpoints.len() <= self.room => {
                self.room -= endpoints.len();
                let mut made = Vec::with_capacity(endpoints.len());
                for endpoint in endpoints.iter() {
                    made.extend(self.deliver(event, *endpoint).await?);
                }
                receivers::note_step(self.tx, self.account, event.id, &made);
                u64::try_from(made.len()).expect("bounded")
            }
            Subscribers::Few(endpoints) => {
                let last = endpoints.iter().max().expect("no endpoints fit into any room");
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

    /// Who wants a type: read once, however many events of it there are.
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
        let place = self.records.place(self.account, endpoint);
        let Some((delivery, state)) = deliver(self.tx, place, event_of(event), self.mint).await?
        else {
            return Ok(None);
        };
        let id = delivery.id;
        if state == State::Enabled {
            let ready = Ready { delivery, payload: event.payload.clone(), trace: None };
            self.wakes.push(Wake::Endpoint {
                shard: place.shard,
                account: self.account,
                endpoint,
                ready: Some(Box::new(ready)),
            });
        }
        Ok(Some(id))
    }

    /// Leaves the deliveries, to endpoints up to `last`, to the owner of the event's shard.
    fn fan_out_later(&mut self, event: &Event, last: EndpointId) {
        let shard = self.records.shard_of(event.id);
        let fan_out = FanOut::new(self.account, last);
        self.tx.save(fan_out::key(shard, event.id, &fan_out), &fan_out);
        self.wakes.push(Wake::Jobs { shard });
    }
}

/// Fetches what decides whether the events can be accepted.
async fn prefetch(
    tx: &Tx,
    account: AccountId,
    events: &[Event],
    idempotency: Option<&Idempotency>,
) -> Result<(), Error> {
    let event_types: HashSet<_> = events.iter().map(|event| &event.event_type).collect();
    let known = idempotency.map(|known| idempotency::key(account, &known.key_sha256));
    let first = events.first().map(|first| event::head(account, first.id));
    let keys = event_types.into_iter().map(event_type::key).chain(known).chain(first);
    tx.prefetch(keys.chain([account::key(account)])).await
}

/// What a delivery needs to know of its event.
#[derive(Clone, Copy)]
pub(crate) struct EventOf<'a> {
    pub(crate) id: EventId,
    pub(crate) event_type: &'a EventTypeName,
    pub(crate) created_at: Timestamp,
}

fn event_of(event: &Event) -> EventOf<'_> {
    EventOf { id: event.id, event_type: &event.event_type, created_at: event.created_at }
}

/// Makes the delivery of an event to an endpoint, due at once, unless the endpoint is gone.
pub(crate) async fn deliver(
    tx: &Tx,
    place: Place,
    event: EventOf<'_>,
    mint: &Mint,
) -> Result<Option<(Delivery, State)>, Error> {
    let Some(mut gate) = place.gate(tx).await?.filter(Gate::takes_new) else {
        return Ok(None);
    };
    let delivery = Delivery {
        id: gate.new_id(mint, event.created_at),
        account: place.account,
        event: event.id,
        event_type: event.event_type.clone(),
        endpoint: place.endpoint,
        created_at: event.created_at,
        attempt_count: 0,
        first_attempt_at: None,
        progress: Progress::Pending { due: event.created_at },
    };
    place.add(tx, &delivery, &mut gate);
    Ok(Some((delivery, gate.state)))
}

fn save_event(tx: &Tx, event: &Event, deliveries: u64) {
    let payload = event.payload.bytes();
    let head = Head {
        event_type: event.event_type.clone(),
        created_at: event.created_at,
        deliveries,
        payload_bytes: u64::try_from(payload.len()).expect("bounded"),
    };
    tx.save(event::head(event.account, event.id), &head);
    for (number, start) in (0..).zip((0..payload.len()).step_by(event::CHUNK)) {
        let chunk = payload.slice(start..payload.len().min(start + event::CHUNK));
        tx.set(event::chunk(event.account, event.id, number), chunk);
    }
}

/// The payload of an event, put together again. None when it is not there: no payload is empty.
pub(crate) async fn load_payload(
    tx: &Tx,
    account: AccountId,
    id: EventId,
) -> Result<Option<Payload>, Error> {
    let mut rows = tx.snap_range(Range::prefix(event::chunks(account, id))).await?;
    let bytes = match rows.len() {
        0 => return Ok(None),
        1 => rows.remove(0).1,
        _ => rows.iter().flat_map(|(_, chunk)| chunk.iter().copied()).collect(),
    };
    Ok(Some(Payload::from_stored(bytes)))
}

fn event_ids(events: &[Event]) -> Vec<EventId> {
    events.iter().map(|event| event.id).collect()
}

/// The answer to an idempotency key that is known at `now`. The row of one that has expired stays
/// until it is swept, and says nothing.
async fn recall(
    tx: &Tx,
    account: AccountId,
    idempotency: &Idempotency,
    now: Timestamp,
) -> Result<Option<Vec<Receipt>>, AcceptError> {
    let key = idempotency::key(account, &idempotency.key_sha256);
    let remembered: Option<Remembered> = tx.load(&key).await?;
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
    let remembered = Remembered { body_sha256, events: event_ids(events) };
    tx.save(idempotency::key(account, &key_sha256), &remembered);
    let (shard, expires_at) = (records.shard_of(first.id), remembered.expires_at());
    tx.set(expiry::key(shard, expires_at, account, &key_sha256), Vec::new());
}

/// Whether an earlier run accepted the events, by a commit whose result was unknown. It is checked
/// at commit, in every run: should the commit of an earlier run come through after this one has
/// looked, as FoundationDB's may when the cluster changes its version, then one of the two fails.
async fn is_accepted(tx: &Tx, account: AccountId, events: &[Event]) -> Result<bool, Error> {
    match events.first() {
        Some(first) => Ok(tx.get(event::head(account, first.id)).await?.is_some()),
        None => Ok(false),
    }
}

/// The receipts of events that were accepted before; none when one of them is not there.
async fn receipts(
    tx: &Tx,
    account: AccountId,
    ids: Vec<EventId>,
) -> Result<Option<Vec<Receipt>>, Error> {
    let mut receipts = Vec::with_capacity(ids.len());
    for id in ids {
        let Some(head) = tx.snap_load::<Head>(&event::head(account, id)).await? else {
            return Ok(None);
        };
        let Head { event_type, created_at, deliveries, .. } = head;
        receipts.push(Receipt { id, event_type, created_at, deliveries });
    }
    Ok(Some(receipts))
}
