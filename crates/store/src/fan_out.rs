//! Fan-out: the deliveries that do not fit into the transaction that accepts their event, made
//! by the owner of the event's shard in bounded steps with a durable cursor.
//!
//! Events are fanned out each by itself, by the owners of different shards and beside newly
//! accepted ones. An event that is fanned out in steps may therefore be overtaken: the strict
//! order is promised for endpoints that are reached in the accepting transaction.

use postrider_domain::endpoint::State;
use postrider_domain::ids::{EndpointId, EventId, Mint};
use postrider_domain::limits::MAX_FAN_OUT_PER_TRANSACTION;
use postrider_domain::ownership::Fence;

use crate::accept::{EventOf, deliver};
use crate::enqueue::Place;
use crate::keys::event::Head;
use crate::keys::fan_out::{self, FanOut};
use crate::keys::{event, gate, subscription};
use crate::kv::{Error, Range, Tx, prefix_end};
use crate::owners::OwnerError;
use crate::records::{Records, Wake};

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
            let rows = tx.range(Range::prefix(fan_out::of_shard(fence.shard)).limit(1)).await?;
            let Some((key, value)) = rows.first() else {
                return Ok(None);
            };
            let (id, cursor) = (fan_out::of_key(key)?, crate::codec::decode::<FanOut>(value)?);
            self.step(&tx, fence, id, cursor, mint).await.map(Some)
        })
        .await
    }

    async fn step(
        &self,
        tx: &Tx,
        fence: Fence,
        id: EventId,
        cursor: FanOut,
        mint: &Mint,
    ) -> Result<Vec<Wake>, Error> {
        let account = cursor.account;
        let row = fan_out::key(fence.shard, id);
        let Some(head) = tx.snap_load::<Head>(&event::head(account, id)).await? else {
            tx.clear(row); // The account is gone.
            return Ok(Vec::new());
        };
        let endpoints = next_endpoints(tx, &head, &cursor).await?;
        match (endpoints.last(), cursor.all_types) {
            (Some(last), _) => tx.save(row, &FanOut { after: Some(*last), ..cursor }),
            (None, false) => tx.save(row, &FanOut { account, all_types: true, after: None }),
            (None, true) => tx.clear(row),
        }
        let event = EventOf { id, event_type: &head.event_type, created_at: head.created_at };
        let mut wakes = Vec::new();
        // An endpoint that was made after the event does not receive it.
        let newest = postrider_domain::ids::floor::<EndpointId>(
            head.created_at.plus(std::time::Duration::from_millis(1)),
        );
        tx.prefetch(endpoints.iter().map(|endpoint| gate::key(account, *endpoint))).await?;
        for endpoint in endpoints.into_iter().filter(|endpoint| *endpoint < newest) {
            let place = Place { account, endpoint, shard: self.shard_of(endpoint) };
            if let Some((_, State::Enabled)) = deliver(tx, place, event, mint).await? {
                wakes.push(Wake::Endpoint { shard: place.shard, account, endpoint, ready: None });
            }
        }
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
