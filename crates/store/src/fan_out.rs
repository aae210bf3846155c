//! Fan-out: the deliveries that do not fit into the transaction that accepts their event, made
//! by the owner of the event's shard in bounded steps with a durable cursor.
//!
//! Events are fanned out each by itself, by the owners of different shards and beside newly
//! accepted ones. An event that is fanned out in steps may therefore be overtaken: the strict
//! order is promised for endpoints that are reached in the accepting transaction.
//!
//! A past event that is sent again to many goes the same way. It has a row of its own, since its
//! first fan-out, or another resend of it, may be under way.

use postrider_domain::endpoint::State;
use postrider_domain::ids::{self, DeliveryId, EndpointId, EventId, Mint};
use postrider_domain::limits::MAX_FAN_OUT_PER_TRANSACTION;
use postrider_domain::ownership::{Fence, Shard};
use postrider_domain::time::Timestamp;

use crate::accept::{EventOf, deliver};
use crate::codec::decode;
use crate::keys::event::Head;
use crate::keys::fan_out::{self, FanOut};
use crate::keys::resend::{self, Resend};
use crate::keys::{event, gate, subscription};
use crate::kv::{Error, Range, Tx, prefix_end};
use crate::owners::OwnerError;
use crate::receivers;
use crate::records::{Records, Wake};

/// A fan-out under way.
struct Job {
    event: EventId,
    cursor: FanOut,
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

impl Job {
    /// The shard's next one.
    async fn next(tx: &Tx, shard: Shard) -> Result<Option<Self>, Error> {
        let first = async |prefix| tx.range(Range::prefix(prefix).limit(1)).await;
        if let Some((key, value)) = first(fan_out::of_shard(shard)).await?.first() {
            let (event, cursor) = (fan_out::of_key(key)?, decode(value)?);
            return Ok(Some(Self { event, cursor, kind: Kind::First }));
        }
        if let Some((key, value)) = first(resend::of_shard(shard)).await?.first() {
            let Resend { event, asked_at, cursor } = decode(value)?;
            let kind = Kind::Again { mark: resend::of_key(key)?, asked_at };
            return Ok(Some(Self { event, cursor, kind }));
        }
        Ok(None)
    }

    fn go_on(&self, tx: &Tx, shard: Shard, cursor: FanOut) {
        match self.kind {
            Kind::First => tx.save(fan_out::key(shard, self.event), &cursor),
            Kind::Again { mark, asked_at } => {
                let job = Resend { event: self.event, asked_at, cursor };
                tx.save(resend::key(shard, mark), &job);
            }
        }
    }

    fn end(&self, tx: &Tx, shard: Shard) {
        match self.kind {
            Kind::First => tx.clear(fan_out::key(shard, self.event)),
            Kind::Again { mark, .. } => tx.clear(resend::key(shard, mark)),
        }
    }
}

impl Records {
    /// Takes one step of the shard's oldest fan-out. None when the shard has none left.
    ///
    /// # Errors
    /// When the shard has a later owner, or the store fails.
    pub async fn step_fan_out(
        &self,
        fence: Fence,
        mint: &Mint,
    ) -> Result<Option<Vec<Wake>>, OwnerError> {
        self.as_owner(fence, |tx| async move {
            match Job::next(&tx, fence.shard).await? {
                Some(job) => self.step(&tx, fence.shard, job, mint).await.map(Some),
                None => Ok(None),
            }
        })
        .await
    }

    async fn step(&self, tx: &Tx, shard: Shard, job: Job, mint: &Mint) -> Result<Vec<Wake>, Error> {
        let account = job.cursor.account;
        let Some(head) = tx.snap_load::<Head>(&event::head(account, job.event)).await? else {
            job.end(tx, shard); // The account is gone.
            return Ok(Vec::new());
        };
        let endpoints = next_endpoints(tx, &head, &job.cursor).await?;
        match (endpoints.last(), job.cursor.all_types) {
            (Some(last), _) => {
                job.go_on(tx, shard, FanOut { after: Some(*last), ..job.cursor.clone() });
            }
            (None, false) => job.go_on(tx, shard, FanOut { account, all_types: true, after: None }),
            (None, true) => job.end(tx, shard),
        }
        let since = match job.kind {
            Kind::First => head.created_at,
            Kind::Again { asked_at, .. } => asked_at,
        };
        let event = EventOf { id: job.event, event_type: &head.event_type, created_at: since };
        let (mut made, mut wakes) = (Vec::new(), Vec::new());
        // An endpoint that was made after the event, or after it was asked for, does not receive it.
        let newest = ids::floor::<EndpointId>(since.plus(std::time::Duration::from_millis(1)));
        tx.prefetch(endpoints.iter().map(|endpoint| gate::key(account, *endpoint))).await?;
        for endpoint in endpoints.into_iter().filter(|endpoint| *endpoint < newest) {
            let place = self.place(account, endpoint);
            if let Some((delivery, state)) = deliver(tx, place, event, mint).await? {
                made.push(delivery.id);
                wakes.extend((state == State::Enabled).then(|| place.wake()));
            }
        }
        receivers::note_step(tx, account, job.event, &made);
        Ok(wakes)
    }
}

async fn next_endpoints(tx: &Tx, head: &Head, cursor: &FanOut) -> Result<Vec<EndpointId>, Error> {
    let event_type = (!cursor.all_types).then_some(&head.event_type);
    let all = subscription::of_type(cursor.account, event_type);
    let end = prefix_end(&all);
    let begin = match cursor.after {
        Some(after) => [subscription::key(cursor.account, event_type, after), vec![0]].concat(),
        None => all,
    };
    let rows = tx.range(Range::new(begin, end).limit(MAX_FAN_OUT_PER_TRANSACTION)).await?;
    rows.iter().map(|(key, _)| subscription::of_key(key)).collect()
}
