//! Fan-out: if an event's deliveries do not fit into the transaction that accepts it, the owner of
//! the event's shard creates them in bounded steps with a durable cursor.
//!
//! Events are fanned out independently, by the owners of different shards and concurrently with
//! newly accepted ones. An event that is fanned out in steps may therefore be overtaken: strict
//! ordering is only guaranteed for deliveries created in the accepting transaction.
//!
//! The accepting transaction decides which endpoints receive an event, not clocks: those up to the
//! greatest id that it read. An endpoint that subscribes during the fan-out may receive the event
//! too, if its id is not greater. A subscribed endpoint is never left out.
//!
//! Resends to many endpoints work the same way. They have their own rows, because the event's first
//! fan-out, or another resend of it, may be in progress.

use std::time::Duration;

use futures::future::try_join;
use postrider_domain::assignment::{Fence, Shard};
use postrider_domain::endpoint::State;
use postrider_domain::event::EventTypeName;
use postrider_domain::ids::{self, AccountId, DeliveryId, EndpointId, EventId, IdGenerator};
use postrider_domain::limits::MAX_FAN_OUT_PER_TRANSACTION;
use postrider_domain::time::Timestamp;

use crate::cluster::owners::OwnerError;
use crate::codec::{Record, RecordTx};
use crate::events::accept::{EventOf, deliver};
use crate::events::event_deliveries;
use crate::keys::event::EventMeta;
use crate::keys::fan_out::{self, Cursor, FanOut};
use crate::keys::resend::{self, Resend};
use crate::keys::{dispatch_state, event, subscription};
use crate::kv::{Error, Pair, Range, Tx};
use crate::records::{Records, Wake};

/// A fan-out in progress.
struct Job {
    event: EventId,
    fan_out: FanOut,
    kind: Kind,
}

/// The kind of fan-out.
#[derive(Clone, Copy)]
enum Kind {
    /// A newly accepted event.
    Initial,
    /// The resend of a past event.
    Resend { batch_id: DeliveryId, requested_at: Timestamp },
}

/// The endpoints of one step, and the cursor of the next one. `None` after the last step.
type Step = (Vec<EndpointId>, Option<Cursor>);

impl Job {
    /// The shard's next job.
    async fn next(records: &Records, tx: &Tx, shard: Shard) -> Result<Option<Self>, Error> {
        for prefix in fan_out::of_shard(shard) {
            let first = records.first_readable(tx, prefix, |key, value| {
                let (event, fan_out) = (fan_out::parse_key(key)?, FanOut::decode(value)?);
                Ok(Self { event, fan_out, kind: Kind::Initial })
            });
            if let Some(job) = first.await? {
                return Ok(Some(job));
            }
        }
        for prefix in resend::of_shard(shard) {
            let first = records.first_readable(tx, prefix, |key, value| {
                let Resend { event, requested_at, fan_out } = Resend::decode(value)?;
                let kind = Kind::Resend { batch_id: resend::parse_key(key)?, requested_at };
                Ok(Self { event, fan_out, kind })
            });
            if let Some(job) = first.await? {
                return Ok(Some(job));
            }
        }
        Ok(None)
    }

    /// Saves the cursor, or removes the job if there is none.
    fn save(&self, tx: &Tx, shard: Shard, cursor: Option<Cursor>) {
        let key = match self.kind {
            Kind::Initial => fan_out::key(shard, self.event, &self.fan_out),
            Kind::Resend { batch_id, .. } => resend::key(shard, batch_id, &self.fan_out),
        };
        let Some(cursor) = cursor else { return tx.clear(key) };
        let fan_out = FanOut { cursor, ..self.fan_out };
        match self.kind {
            Kind::Initial => tx.save(key, &fan_out),
            Kind::Resend { requested_at, .. } => {
                tx.save(key, &Resend { event: self.event, requested_at, fan_out });
            }
        }
    }
}

impl Records {
    /// Takes one step of the shard's oldest fan-out. Returns `None` if the shard has no fan-out.
    pub async fn step_fan_out(
        &self,
        fence: Fence,
        ids: &IdGenerator,
    ) -> Result<Option<Vec<Wake>>, OwnerError> {
        self.as_owner(fence, |tx| async move {
            match Job::next(self, &tx, fence.shard).await? {
                Some(job) => self.step(&tx, fence.shard, job, ids).await.map(Some),
                None => Ok(None),
            }
        })
        .await
    }

    async fn step(
        &self,
        tx: &Tx,
        shard: Shard,
        job: Job,
        ids: &IdGenerator,
    ) -> Result<Vec<Wake>, Error> {
        let account = job.fan_out.account;
        let Some(meta) = tx.snap_load::<EventMeta>(&event::meta_key(account, job.event)).await?
        else {
            job.save(tx, shard, None); // The account has been deleted.
            return Ok(Vec::new());
        };
        let created_at = match job.kind {
            Kind::Initial => meta.created_at,
            Kind::Resend { requested_at, .. } => requested_at,
        };
        let event = EventOf { id: job.event, event_type: &meta.event_type, created_at };
        let (endpoints, next) = match job.fan_out.cursor {
            Cursor::Merged { after, last } => merged(tx, account, event, after, last).await?,
            Cursor::ListByList { all_types, after } => {
                list_by_list(tx, account, event, all_types, after).await?
            }
        };
        job.save(tx, shard, next);
        // The ids have the event's time, however late the step runs, so that they do not sort
        // behind deliveries of later events. The shared generator would use the current time.
        let ids = ids.fork();
        let (mut made, mut wakes) = (Vec::new(), Vec::new());
        tx.prefetch(endpoints.iter().map(|endpoint| dispatch_state::key(account, *endpoint)))
            .await?;
        for endpoint in endpoints {
            let endpoint_key = self.endpoint_key(account, endpoint);
            if let Some((delivery, state)) = deliver(tx, endpoint_key, event, &ids).await? {
                made.push(delivery.id);
                wakes.extend((state == State::Enabled).then(|| endpoint_key.wake()));
            }
        }
        event_deliveries::index_step(tx, account, job.event, &made);
        Ok(wakes)
    }
}

/// Reads the next endpoints of both lists, merged in the order of their ids.
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

/// Continues a fan-out started by an earlier version, which excluded endpoints created after the
/// event according to their ids.
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

/// Reads the next rows of one list, as many as fit into a step.
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
    rows.into_iter().map(|(key, _)| subscription::parse_key(key)).collect()
}
