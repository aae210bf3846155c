//! Verifies deliveries that other nodes attach to their wakes against the store, so that nothing is
//! sent that is not recorded. One read for a batch is still cheaper than one for each delivery.

use postrider_domain::assignment::Shard;
use postrider_domain::trace::TraceContext;
use postrider_store::{DeliveryRef, Ready, Records, Wake};

use crate::ready_queue::MAX_CACHED_PAYLOAD_BYTES;

/// The claimed identity of a delivery from another node, and its trace.
pub(crate) struct PeerDelivery {
    shard: Shard,
    id: DeliveryRef,
    trace: Option<TraceContext>,
}

impl PeerDelivery {
    /// Extracts the delivery from a wake. Returns the wake unchanged if it carries none.
    pub(crate) fn from_wake(wake: Wake) -> Result<Self, Wake> {
        match wake {
            Wake::Endpoint { shard, account, endpoint, ready: Some(ready) } => {
                let id = DeliveryRef { account, endpoint, delivery: ready.delivery.id };
                Ok(Self { shard, id, trace: ready.trace })
            }
            hint => Err(hint),
        }
    }

    pub(crate) fn shard(&self) -> Shard {
        self.shard
    }

    /// Rebuilds the wake, with the delivery as stored, if it was confirmed.
    pub(crate) fn wake(&self, confirmed: Option<Ready>) -> Wake {
        let Self { shard, id: DeliveryRef { account, endpoint, .. }, trace } = *self;
        let ready = confirmed.map(|ready| Box::new(Ready { trace, ..ready }));
        Wake::Endpoint { shard, account, endpoint, ready }
    }
}

/// Returns the wakes, each with its delivery as stored. The delivery is left out if it is not
/// pending, if its payload is large or if the store cannot be read; its actor then reads it.
pub(crate) async fn verify(records: &Records, deliveries: Vec<PeerDelivery>) -> Vec<Wake> {
    let wanted: Vec<_> = deliveries.iter().map(|delivery| delivery.id).collect();
    let found = records.ready_deliveries(&wanted, MAX_CACHED_PAYLOAD_BYTES).await;
    let mut found = found.unwrap_or_else(|error| {
        tracing::debug!(%error, "verifying deliveries from a peer failed; their actors will read them");
        Vec::new()
    });
    found.resize(deliveries.len(), None);
    deliveries.iter().zip(found).map(|(delivery, ready)| delivery.wake(ready)).collect()
}
