//! Deliveries that other nodes bring along with their wakes, checked against the store: nothing goes
//! over the wire that is on no record. One read for a batch is still less than one for each.

use postrider_domain::ownership::Shard;
use postrider_domain::trace::TraceContext;
use postrider_store::{DeliveryOf, Ready, Records, Wake};

use crate::line::PAYLOAD_KEPT;

/// A delivery that was brought along: which one it is said to be, and its trace.
pub(crate) struct Brought {
    shard: Shard,
    of: DeliveryOf,
    trace: Option<TraceContext>,
}

impl Brought {
    /// What a wake brought along; the wake itself, if it brought nothing.
    pub(crate) fn of(wake: Wake) -> Result<Self, Wake> {
        match wake {
            Wake::Endpoint { shard, account, endpoint, ready: Some(ready) } => {
                let of = DeliveryOf { account, endpoint, delivery: ready.delivery.id };
                Ok(Self { shard, of, trace: ready.trace })
            }
            hint => Err(hint),
        }
    }

    pub(crate) fn shard(&self) -> Shard {
        self.shard
    }

    /// The wake, with the delivery as the store has it, if it does.
    pub(crate) fn wake(&self, confirmed: Option<Ready>) -> Wake {
        let Self { shard, of: DeliveryOf { account, endpoint, .. }, trace } = *self;
        let ready = confirmed.map(|ready| Box::new(Ready { trace, ..ready }));
        Wake::Endpoint { shard, account, endpoint, ready }
    }
}

/// The wakes, each with its delivery as the store has it; without one where it is not pending, its
/// payload is large, or the store cannot be read: its actor looks for itself.
pub(crate) async fn check(records: &Records, brought: Vec<Brought>) -> Vec<Wake> {
    let wanted: Vec<_> = brought.iter().map(|brought| brought.of).collect();
    let found = records.ready_deliveries(&wanted, PAYLOAD_KEPT).await;
    let mut found = found.unwrap_or_else(|error| {
        tracing::debug!(%error, "verifying deliveries from a peer failed");
        Vec::new()
    });
    found.resize(brought.len(), None);
    brought.iter().zip(found).map(|(brought, ready)| brought.wake(ready)).collect()
}
