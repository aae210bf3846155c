//! Resending a past event: new deliveries to one endpoint, whether or not it subscribes to the
//! type, or to all current subscribers. If they do not fit into one transaction, the owner of a
//! shard creates them in the steps of `fan_out`.
//!
//! The resending transaction writes a row with its own batch id to the index of the event's
//! deliveries. A rerun after a commit with an unknown result finds the row and creates nothing
//! twice.

use postrider_domain::endpoint::State;
use postrider_domain::ids::{AccountId, DeliveryId, EndpointId, EventId, IdGenerator};
use postrider_domain::time::Timestamp;

use crate::codec::RecordTx;
use crate::events::accept::{EventOf, deliver};
use crate::events::event_deliveries;
use crate::events::subscribers::Subscribers;
use crate::keys::event::EventMeta;
use crate::keys::fan_out::FanOut;
use crate::keys::resend::{self, Resend};
use crate::keys::{event, event_delivery};
use crate::kv::{Error, Tx};
use crate::records::{Records, Wake};

/// The recipients of a resend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResendTarget {
    /// This endpoint, whether or not it subscribes to the event's type.
    Endpoint(EndpointId),
    /// All current subscribers to the event's type.
    AllSubscribers,
}

/// A resent event.
#[derive(Clone, Debug)]
pub struct Resent {
    pub deliveries: u64,
    /// Wake-ups for the owners of the affected shards.
    pub wakes: Vec<Wake>,
}

/// Why an event is not resent.
#[derive(Debug, thiserror::Error)]
pub enum ResendError {
    /// The account has no such event.
    #[error("the event does not exist")]
    NoSuchEvent,
    /// The account has no such endpoint.
    #[error("the endpoint does not exist")]
    NoSuchEndpoint,
    /// The endpoint was deleted.
    #[error("the endpoint has been deleted")]
    EndpointDeleted,
    #[error(transparent)]
    Store(#[from] Error),
}

/// The state of a resending transaction.
struct ResendTransaction<'a> {
    records: &'a Records,
    tx: &'a Tx,
    id_generator: &'a IdGenerator,
    account: AccountId,
    event: EventOf<'a>,
    batch_id: DeliveryId,
}

impl Records {
    /// Creates new deliveries of a past event, each with its own retries.
    ///
    /// # Errors
    /// See [`ResendError`]; nothing has been created.
    pub async fn resend(
        &self,
        account: AccountId,
        id: EventId,
        target: ResendTarget,
        id_generator: &IdGenerator,
        now: Timestamp,
    ) -> Result<Resent, ResendError> {
        self.refuse_if_nearly_full()?;
        let batch_id = id_generator.id(now);
        self.changes
            .transact(|tx, maybe_committed| async move {
                let Some(meta) = tx.load::<EventMeta>(&event::meta_key(account, id)).await? else {
                    return Err(ResendError::NoSuchEvent);
                };
                let event = EventOf { id, event_type: &meta.event_type, created_at: now };
                let transaction = ResendTransaction {
                    records: self,
                    tx: &tx,
                    id_generator,
                    account,
                    event,
                    batch_id,
                };
                if maybe_committed && let Some(deliveries) = transaction.already_made().await? {
                    return Ok(Resent { deliveries, wakes: Vec::new() });
                }
                match target {
                    ResendTarget::Endpoint(endpoint) => transaction.to_endpoint(endpoint).await,
                    ResendTarget::AllSubscribers => Ok(transaction.to_subscribers().await?),
                }
            })
            .await
    }
}

impl ResendTransaction<'_> {
    /// How many deliveries an earlier run of this transaction created, if it was committed.
    async fn already_made(&self) -> Result<Option<u64>, Error> {
        let ResendTransaction { records, tx, account, event, batch_id, .. } = *self;
        let row = event_delivery::key(account, event.id, batch_id);
        let Some(made) = tx.load::<Vec<DeliveryId>>(&row).await? else {
            return Ok(None);
        };
        if made.is_empty() {
            // The owner of a shard creates them, and may have created some already.
            let subscribers = Subscribers::of(records, tx, account, event.event_type).await?;
            return Ok(Some(subscribers.count()));
        }
        Ok(Some(u64::try_from(made.len()).expect("bounded")))
    }

    async fn to_endpoint(&self, endpoint: EndpointId) -> Result<Resent, ResendError> {
        let dispatch =
            self.records.endpoint_key(self.account, endpoint).dispatch_state(self.tx).await?;
        match dispatch.map(|dispatch| dispatch.state) {
            None => Err(ResendError::NoSuchEndpoint),
            Some(State::Deleted) => Err(ResendError::EndpointDeleted),
            Some(State::Enabled | State::Disabled(_)) => Ok(self.deliver(&[endpoint]).await?),
        }
    }

    async fn to_subscribers(&self) -> Result<Resent, Error> {
        match Subscribers::of(self.records, self.tx, self.account, self.event.event_type).await? {
            Subscribers::Few(endpoints) => self.deliver(&endpoints).await,
            Subscribers::Many { count, last } => Ok(self.leave_to_owner(count, last)),
        }
    }

    async fn deliver(&self, endpoints: &[EndpointId]) -> Result<Resent, Error> {
        let ResendTransaction { records, tx, id_generator, account, event, batch_id } = *self;
        let (mut made, mut wakes) = (Vec::with_capacity(endpoints.len()), Vec::new());
        for endpoint in endpoints {
            let endpoint_key = records.endpoint_key(account, *endpoint);
            if let Some((delivery, state)) = deliver(tx, endpoint_key, event, id_generator).await? {
                made.push(delivery.id);
                wakes.extend((state == State::Enabled).then(|| endpoint_key.wake()));
            }
        }
        if !made.is_empty() {
            event_deliveries::index(tx, account, event.id, batch_id, &made);
        }
        Ok(Resent { deliveries: u64::try_from(made.len()).expect("bounded"), wakes })
    }

    fn leave_to_owner(&self, deliveries: u64, last: EndpointId) -> Resent {
        let ResendTransaction { records, tx, account, event, batch_id, .. } = *self;
        let shard = records.shard_of(batch_id);
        let fan_out = FanOut::new(account, last);
        let job = Resend { event: event.id, requested_at: event.created_at, fan_out };
        tx.save(resend::key(shard, batch_id, &fan_out), &job);
        event_deliveries::index(tx, account, event.id, batch_id, &[]);
        Resent { deliveries, wakes: vec![Wake::Jobs { shard }] }
    }
}
