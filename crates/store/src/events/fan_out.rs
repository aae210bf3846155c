//! Fan-out: the deliveries that do not fit into the transaction that accepts their event, made
//! by the owner of the event's shard in bounded steps with a durable cursor.
//!
//! Events are fanned out each by itself, by the owners of different shards and beside newly
//! accepted ones. An event that is fanned out in steps may therefore be overtaken: the strict
//! order is promised for endpoints that are reached in the accepting transaction.
//!
//! Whom an event reaches is decided by the transaction that accepts it, not by clocks: endpoints up
//! to the greatest id that it saw. One that subscribes while the fan-out is under way may receive
//! the event as well, if its id is not greater; one that was subscribed is never left out.
//!
//! A past event that is sent again to many goes the same way. It has a row of its own, since its
//! first fan-out, or another resend of it, may be under way.

use std::time::Duration;

use futures::future::try_join;
use postrider_domain::endpoint::State;
use postrider_domain::event::EventTypeName;
use postrider_domain::ids::{self, AccountId, DeliveryId, EndpointId, EventId, Mint};
use postrider_domain::limits::MAX_FAN_OUT_PER_TRANSACTION;
use postrider_domain::ownership::{Fence, Shard};
use postrider_domain::time::Timestamp;

use crate::cluster::owners::OwnerError;
use crate::codec::{Record, RecordTx};
use crate::events::accept::{EventOf, deliver};
use crate::events::receivers;
use crate::keys::event::Head;
use crate::keys::fan_out::{self, Cursor, FanOut};
use crate::keys::resend::{self, Resend};
use crate::keys::{event, gate, subscription};
use crate::kv::{Error, Pair, Range, Tx};
use crate::records::{Records, Wake};

/// A fan-out under way.
struct Job {
    event: EventId,
    fan_out: FanOut,
    kind: Kind,
}

/// Which of the two it is, and what it alone knows.
#[derive(Clone, Copy)]
enum Kind {
    /// An accepted event, for the first time.
    First,
    /// A past event that somebody asked to send again.
    Again { mark: DeliveryId, asked_at: Timestamp },
}

/// The endpoints of one step, and where the next one goes on. None after the last step.
type Step = (Vec<EndpointId>, Option<Cursor>);

impl Job {
    /// The shard's next one.
    async fn next(records: &Records, tx: &Tx, shard: Shard) -> Result<Option<Self>, Error> {
        for prefix in fan_out::of_shard(shard) {
            let first = records.first_readable(tx, prefix, |key, value| {
                let (event, fan_out) = (fan_out::of_key(key)?, FanOut::decode(value)?);
                Ok(Self { event, fan_out, kind: Kind::First })
            });
            if let Some(job) = first.await? {
                return Ok(Some(job));
            }
        }
        for prefix in resend::of_shard(shard) {
            let first = records.first_readable(tx, prefix, |key, value| {
                let Resend { event, asked_at, fan_out } = Resend::decode(value)?;
                let kind = Kind::Again { mark: resend::of_key(key)?, asked_at };
                Ok(Self { event, fan_out, kind })
            });
            if let Some(job) = first.await? {
                return Ok(Some(job));
            }
        }
        Ok(None)
    }

    /// Saves the cursor, or removes the job when there is none.
    fn save(&self, tx: &Tx, shard: Shard, cursor: Option<Cursor>) {
        let key = match self.kind {
            Kind::First => fan_out::key(shard, self.event, &self.fan_out),
            Kind::Again { mark, .. } => resend::key(shard, mark, &self.fan_out),
        };
        let Some(cursor) = cursor else { return tx.clear(key) };
        let fan_out = FanOut { cursor, ..self.fan_out };
        match self.kind {
            Kind::First => tx.save(key, &fan_out),
            Kind::Again { asked_at, .. } => {
                tx.save(key, &Resend { event: self.event, asked_at, fan_out });
            }
        }
    }
}

impl Records {
    /// Takes one step of the shard's oldest fan-out. None when the shard has none left.
    ///
    /// # Errors
    /// When the shard has a later owner, or the store fails.
    pub async fn step_fan_out(&self, fence: Fence) -> Result<Option<Vec<Wake>>, OwnerError> {
        self.as_owner(fence, |tx| async move {
            match Job::next(self, &tx, fence.shard).await? {
                Some(job) => self.step(&tx, fence.shard, job).await.map(Some),
                None => Ok(None),
            }
        })
        .await
    }

    async fn step(&self, tx: &Tx, shard: Shard, job: Job) -> Result<Vec<Wake>, Error> {
        let account = job.fan_out.account;
        let Some(head) = tx.snap_load::<Head>(&event::head(account, job.event)).await? else {
            job.save(tx, shard, None); // The account is gone.
            return Ok(Vec::new());
        };
        let created_at = match job.kind {
            Kind::First => head.created_at,
            Kind::Again { asked_at, .. } => asked_at,
        };
        let event = EventOf { id: job.event, event_type: &head.event_type, created_at };
        let (endpoints, next) = match job.fan_out.cursor {
            Cursor::Merged { after, last } => merged(tx, account, event, after, last).await?,
            Cursor::ListByList { all_types, after } => {
                list_by_list(tx, account, event, all_types, after).await?
            }
        };
        job.save(tx, shard, next);
        // The ids are of the event's time, however late the step is: they must not sort behind
        // deliveries of later events. The node's own mint would give them the time of now.
        let mint = Mint::new();
        let (mut made, mut wakes) = (Vec::new(), Vec::new());
        tx.prefetch(endpoints.iter().map(|endpoint| gate::key(account, *endpoint))).await?;
        for endpoint in endpoints {
            let place = self.place(account, endpoint);
            if let Some((delivery, state)) = deliver(tx, place, event, &mint).await? {
                made.push(delivery.id);
                wakes.extend((state == State::Enabled).then(|| place.wake()));
            }
        }
        receivers::note_step(tx, account, job.event, &made);
        Ok(wakes)
    }
}

/// Takes the next endpoints from both lists together, in the order of their ids.
async fn merged(
    tx: &Tx,
    account: AccountId,
    event: EventOf<'_>,
    after: Option<EndpointId>,
    last: EndpointId,
) -> Result<Step, Error> {
    let list = async |event_type| {
        let end = [subscription::key(account, event_type, last), vec![0]].concat();
        subscribed(tx, account, event_type, after, end).await
    };
    let (named, all) = try_join(list(Some(event.event_type)), list(None)).await?;
    let mut endpoints = ids_of(named.iter().chain(&all))?;
    endpoints.sort_unstable();
    endpoints.truncate(MAX_FAN_OUT_PER_TRANSACTION);
    let next = (endpoints.len() == MAX_FAN_OUT_PER_TRANSACTION)
        .then(|| Cursor::Merged { after: endpoints.last().copied(), last });
    Ok((endpoints, next))
}

/// Goes on with a fan-out of an earlier version, which left out the endpoints whose ids say that
/// they were made after the event.
async fn list_by_list(
    tx: &Tx,
    account: AccountId,
    event: EventOf<'_>,
    all_types: bool,
    after: Option<EndpointId>,
) -> Result<Step, Error> {
    let event_type = (!all_types).then_some(event.event_type);
    let made_after = ids::floor(event.created_at.plus(Duration::from_millis(1)));
    let end = subscription::key(account, event_type, made_after);
    let endpoints = ids_of(&subscribed(tx, account, event_type, after, end).await?)?;
    let next = match endpoints.last() {
        Some(last) => Some(Cursor::ListByList { all_types, after: Some(*last) }),
        None if !all_types => Some(Cursor::ListByList { all_types: true, after: None }),
        None => None,
    };
    Ok((endpoints, next))
}

/// The next rows of one list, as many as a step takes.
async fn subscribed(
    tx: &Tx,
    account: AccountId,
    event_type: Option<&EventTypeName>,
    after: Option<EndpointId>,
    end: Vec<u8>,
) -> Result<Vec<Pair>, Error> {
    let begin = match after {
        Some(after) => [subscription::key(account, event_type, after), vec![0]].concat(),
        None => subscription::of_type(account, event_type),
    };
    tx.range(Range::new(begin, end).limit(MAX_FAN_OUT_PER_TRANSACTION)).await
}

fn ids_of<'a>(rows: impl IntoIterator<Item = &'a Pair>) -> Result<Vec<EndpointId>, Error> {
    rows.into_iter().map(|(key, _)| subscription::of_key(key)).collect()
}
