//! Routes wakes to the owners of their shards. Code that accepts an event or changes an endpoint
//! calls the [`Router`], which notifies the shard's owner: an actor on this node, or another node
//! through the [`WakeForwarder`].

use std::sync::Arc;

use postrider_domain::assignment::Fence;
use postrider_domain::ids::{AccountId, EndpointId};
use postrider_store::{Records, Wake};

use crate::trace;
use crate::wake_forwarder::WakeForwarder;

/// The shards that this node works on.
pub trait LocalShards: Send + Sync + 'static {
    /// Wakes the owners of shards on this node, and returns the wakes for shards that this node
    /// does not own. A wake is a hint and may be lost: the work behind it is durable.
    fn wake(&self, wakes: Vec<Wake>) -> Vec<Wake>;

    /// Like [`wake`](Self::wake), for wakes from another node. A delivery attached to such a wake
    /// is read from the store before it is sent: no webhook is sent for a delivery that is not on
    /// record.
    fn wake_from_peer(&self, wakes: Vec<Wake>) -> Vec<Wake> {
        self.wake(wakes.into_iter().map(Wake::without_delivery).collect())
    }

    /// Scans the store for work, because a node that might have sent wakes was lost.
    fn scan_now(&self) {}
}

/// Sends notices by email.
pub trait Notifier: Send + Sync + 'static {
    /// Announces a new notice in the shard of `fence`. A hint that may be lost.
    fn wake(&self, fence: Fence);
}

/// Routes wakes to the owners of their shards. Clones are cheap and share everything.
#[derive(Clone)]
pub struct Router {
    records: Records,
    local: Arc<dyn LocalShards>,
    /// `None` if there are no other nodes.
    forwarder: Option<WakeForwarder>,
}

impl Router {
    /// A router to the shards on this node and, through `forwarder`, to those on other nodes.
    #[must_use]
    pub fn new(
        records: Records,
        local: Arc<dyn LocalShards>,
        forwarder: Option<WakeForwarder>,
    ) -> Self {
        Self { records, local, forwarder }
    }

    /// The number of shards.
    #[must_use]
    pub fn shards(&self) -> u16 {
        self.records.shards()
    }

    /// Wakes the owners of the shards.
    pub fn wake(&self, mut wakes: Vec<Wake>) {
        if wakes.is_empty() {
            return;
        }
        trace::attach(&mut wakes);
        trace::wake_span(wakes.len()).in_scope(|| {
            let others = self.local.wake(wakes);
            if let Some(forwarder) = &self.forwarder {
                forwarder.send(others);
            }
        });
    }

    /// Wakes the owners on this node on behalf of another node, and returns the wakes for shards
    /// that this node does not own.
    #[must_use]
    pub fn wake_from_peer(&self, wakes: Vec<Wake>) -> Vec<Wake> {
        self.local.wake_from_peer(wakes)
    }

    /// Scans the store for work of this node's shards whose wakes may be lost.
    pub fn scan_now(&self) {
        self.local.scan_now();
    }

    /// Notifies the owner that an endpoint was changed, enabled, disabled or deleted.
    pub fn changed(&self, account: AccountId, endpoint: EndpointId) {
        let shard = self.records.shard_of(endpoint);
        self.wake(vec![Wake::Changed { shard, account, endpoint }]);
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use postrider_domain::delivery::{Delivery, Progress};
    use postrider_domain::event::{EventTypeName, Payload};
    use postrider_domain::ids::{DeliveryId, EventId};
    use postrider_domain::time::Timestamp;
    use postrider_store::Ready;
    use postrider_store::kv::Store;
    use postrider_store::kv::memory::Memory;

    use super::*;

    /// Records whether each wake carried a delivery.
    #[derive(Default)]
    struct Notes(Mutex<Vec<bool>>);

    impl LocalShards for Notes {
        fn wake(&self, wakes: Vec<Wake>) -> Vec<Wake> {
            let has_delivery = |wake: &Wake| matches!(wake, Wake::Endpoint { ready: Some(_), .. });
            self.0.lock().extend(wakes.iter().map(has_delivery));
            Vec::new()
        }
    }

    #[tokio::test]
    async fn deliveries_in_wakes_of_other_nodes_are_not_trusted() {
        let store = Store::new(Arc::new(Memory::new()), 1);
        let notes = Arc::new(Notes::default());
        let router =
            Router::new(Records::open(store, 1).await.expect("opened"), notes.clone(), None);
        let (account, endpoint) = (AccountId::MIN, EndpointId::MIN);
        let delivery = Delivery {
            id: DeliveryId::MIN,
            account,
            event: EventId::MIN,
            event_type: EventTypeName::parse("a").expect("a name"),
            endpoint,
            created_at: Timestamp::EPOCH,
            attempt_count: 0,
            first_attempt_at: None,
            progress: Progress::Pending { due: Timestamp::EPOCH },
        };
        let payload = Payload::from_stored("1".into());
        let ready = Some(Box::new(Ready { delivery, payload, trace: None }));
        let wakes = vec![Wake::Endpoint { shard: 0, account, endpoint, ready }];
        assert!(router.wake_from_peer(wakes.clone()).is_empty());
        router.wake(wakes);
        assert_eq!(*notes.0.lock(), [false, true]);
    }
}
