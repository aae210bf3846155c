//! Sending a past event again: new deliveries of it, to one endpoint, which need not want its type,
//! or to all that want it now. What does not fit into one transaction is left to the owner of a
//! shard, which takes it up in the steps of `fan_out`.
//!
//! Every resend leaves a row in the index of the event's deliveries in the transaction that makes
//! it, under a mark of its own. Who finds it there, after a commit whose result was unknown, makes
//! nothing twice.

use postrider_domain::endpoint::State;
use postrider_domain::ids::{AccountId, DeliveryId, EndpointId, EventId, Mint};
use postrider_domain::time::Timestamp;

use crate::codec::RecordTx;
use crate::events::accept::{EventOf, deliver};
use crate::events::receivers;
use crate::events::subscribers::Subscribers;
use crate::keys::event::Head;
use crate::keys::fan_out::FanOut;
use crate::keys::resend::{self, Resend};
use crate::keys::{event, of_event};
use crate::kv::{Error, Tx};
use crate::records::{Records, Wake};

/// To whom an event is sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// This endpoint, whether or not it wants the event's type.
    Endpoint(EndpointId),
    /// All endpoints that want the event's type now.
    AllThatWantIt,
}

/// An event that is sent again.
#[derive(Clone, Debug)]
pub struct Resent {
    /// To how many endpoints.
    pub deliveries: u64,
    /// The work that this made.
    pub wakes: Vec<Wake>,
}

/// Why nothing is sent again.
#[derive(Debug, thiserror::Error)]
pub enum ResendError {
    /// The account has no such event.
    #[error("there is no such event")]
    NoSuchEvent,
    /// The account has no such endpoint.
    #[error("there is no such endpoint")]
    NoSuchEndpoint,
    /// The endpoint was deleted.
    #[error("the endpoint was deleted")]
    EndpointDeleted,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] Error),
}

/// What one resending transaction works with.
struct Draft<'a> {
    records: &'a Records,
    tx: &'a Tx,
    mint: &'a Mint,
    account: AccountId,
    event: EventOf<'a>,
    mark: DeliveryId,
}

impl Records {
    /// Makes new deliveries of a past event, each with its own retries.
    ///
    /// # Errors
    /// See [`ResendError`]; nothing was made then.
    pub async fn resend(
        &self,
        account: AccountId,
        id: EventId,
        audience: Audience,
        mint: &Mint,
        now: Timestamp,
    ) -> Result<Resent, ResendError> {
        self.refuse_if_nearly_full()?;
        let mark = mint.id(now);
        self.store
            .transact(|tx, maybe_committed| async move {
                let Some(head) = tx.load::<Head>(&event::head(account, id)).await? else {
                    return Err(ResendError::NoSuchEvent);
                };
                let event = EventOf { id, event_type: &head.event_type, created_at: now };
                let draft = Draft { records: self, tx: &tx, mint, account, event, mark };
                if maybe_committed && let Some(deliveries) = draft.made_already().await? {
                    return Ok(Resent { deliveries, wakes: Vec::new() });
                }
                match audience {
                    Audience::Endpoint(endpoint) => draft.to_one(endpoint).await,
                    Audience::AllThatWantIt => Ok(draft.to_all().await?),
                }
            })
            .await
    }
}

impl Draft<'_> {
    /// How many deliveries an earlier run of this transaction made, if it was committed.
    async fn made_already(&self) -> Result<Option<u64>, Error> {
        let Draft { records, tx, account, event, mark, .. } = *self;
        let row = of_event::key(account, event.id, mark);
        let Some(made) = tx.load::<Vec<DeliveryId>>(&row).await? else {
            return Ok(None);
        };
        if made.is_empty() {
            // They are left to the owner of a shard, who may have made some already.
            let subscribers = Subscribers::of(records, tx, account, event.event_type).await?;
            return Ok(Some(subscribers.count()));
        }
        Ok(Some(u64::try_from(made.len()).expect("bounded")))
    }

    async fn to_one(&self, endpoint: EndpointId) -> Result<Resent, ResendError> {
        let gate = self.records.place(self.account, endpoint).gate(self.tx).await?;
        match gate.map(|gate| gate.state) {
            None => Err(ResendError::NoSuchEndpoint),
            Some(State::Deleted) => Err(ResendError::EndpointDeleted),
            Some(State::Enabled | State::Disabled(_)) => Ok(self.deliver(&[endpoint]).await?),
        }
    }

    async fn to_all(&self) -> Result<Resent, Error> {
        match Subscribers::of(self.records, self.tx, self.account, self.event.event_type).await? {
            Subscribers::Few(endpoints) => self.deliver(&endpoints).await,
            Subscribers::Many { count, last } => Ok(self.leave_to_owner(count, last)),
        }
    }

    async fn deliver(&self, endpoints: &[EndpointId]) -> Result<Resent, Error> {
        let Draft { records, tx, mint, account, event, mark } = *self;
        let (mut made, mut wakes) = (Vec::with_capacity(endpoints.len()), Vec::new());
        for endpoint in endpoints {
            let place = records.place(account, *endpoint);
            if let Some((delivery, state)) = deliver(tx, place, event, mint).await? {
                made.push(delivery.id);
                wakes.extend((state == State::Enabled).then(|| place.wake()));
            }
        }
        if !made.is_empty() {
            receivers::note(tx, account, event.id, mark, &made);
        }
        Ok(Resent { deliveries: u64::try_from(made.len()).expect("bounded"), wakes })
    }

    fn leave_to_owner(&self, deliveries: u64, last: EndpointId) -> Resent {
        let Draft { records, tx, account, event, mark, .. } = *self;
        let shard = records.shard_of(mark);
        let fan_out = FanOut::new(account, last);
        let job = Resend { event: event.id, asked_at: event.created_at, fan_out };
        tx.save(resend::key(shard, mark, &fan_out), &job);
        receivers::note(tx, account, event.id, mark, &[]);
        Resent { deliveries, wakes: vec![Wake::Jobs { shard }] }
    }
}
