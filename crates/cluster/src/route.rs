//! Routes wakes to the owners of their shards. Code that accepts an event or changes an endpoint
//! calls the [`Router`], which notifies the shard's owner: a worker on this node, or another node
//! through the [`WakeForwarder`].

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use postrider_domain::assignment::Fence;
use postrider_domain::attempt::{Exchange, Phases};
use postrider_domain::endpoint::Endpoint;
use postrider_domain::event::Event;
use postrider_domain::ids::{AccountId, EndpointId};
use postrider_store::{Records, Wake};

use crate::trace;
use crate::wake_forwarder::WakeForwarder;

/// The delivery engine of this node.
#[async_trait]
pub trait Workers: Send + Sync + 'static {
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

    /// Sends an event to an endpoint once, immediately. The result does not affect the endpoint's
    /// state.
    async fn send_test(&self, endpoint: Endpoint, event: Event) -> TestReport;
}

/// Sends notices by email.
pub trait Notifier: Send + Sync + 'static {
    /// Announces a new notice in the shard of `fence`. A hint that may be lost.
    fn wake(&self, fence: Fence);
}

/// The result of a test event.
#[derive(Clone, Debug)]
pub struct TestReport {
    pub exchange: Exchange,
    /// The durations of its phases.
    pub phases: Phases,
}

/// Routes wakes to workers. Clones are cheap and share everything.
#[derive(Clone)]
pub struct Router {
    records: Records,
    destinations: Arc<Destinations>,
}

/// Where the router sends wakes. Set once the recipients have started; wakes before that are
/// dropped.
#[derive(Default)]
struct Destinations {
    workers: OnceLock<Arc<dyn Workers>>,
    forwarder: OnceLock<WakeForwarder>,
}

impl Router {
    /// A router without workers. [`attach`](Self::attach) adds them.
    #[must_use]
    pub fn unattached(records: Records) -> Self {
        Self { records, destinations: Arc::default() }
    }

    /// A router to the workers of this node.
    #[must_use]
    pub fn new(records: Records, workers: Arc<dyn Workers>) -> Self {
        let router = Self::unattached(records);
        router.attach(workers);
        router
    }

    /// Attaches the workers of this node. May be called once.
    pub fn attach(&self, workers: Arc<dyn Workers>) {
        let first = self.destinations.workers.set(workers).is_ok();
        assert!(first, "the router already has workers");
    }

    /// Attaches the forwarder to other nodes. May be called once.
    pub fn attach_forwarder(&self, forwarder: WakeForwarder) {
        let first = self.destinations.forwarder.set(forwarder).is_ok();
        assert!(first, "the router already has a forwarder");
    }

    /// The durable records.
    #[must_use]
    pub fn records(&self) -> &Records {
        &self.records
    }

    /// Wakes the owners of the shards.
    pub fn wake(&self, mut wakes: Vec<Wake>) {
        if wakes.is_empty() {
            return;
        }
        trace::attach(&mut wakes);
        trace::wake_span(wakes.len()).in_scope(|| {
            let others = match self.destinations.workers.get() {
                Some(workers) => workers.wake(wakes),
                None => wakes,
            };
            if let Some(forwarder) = self.destinations.forwarder.get() {
                forwarder.send(others);
            }
        });
    }

    /// Delivers wakes from another node to the workers of this node, and returns the wakes for
    /// shards that this node does not own.
    #[must_use]
    pub fn wake_local(&self, wakes: Vec<Wake>) -> Vec<Wake> {
        match self.destinations.workers.get() {
            Some(workers) => workers.wake_from_peer(wakes),
            None => wakes,
        }
    }

    /// Has the workers of this node scan the store for work whose wakes may be lost.
    pub fn scan_now(&self) {
        if let Some(workers) = self.destinations.workers.get() {
            workers.scan_now();
        }
    }

    /// Notifies the owner that an endpoint was changed, enabled, disabled or deleted.
    pub fn changed(&self, account: AccountId, endpoint: EndpointId) {
        let shard = self.records.shard_of(endpoint);
        self.wake(vec![Wake::Changed { shard, account, endpoint }]);
    }

    /// Sends a test event from this node and waits for the result.
    ///
    /// # Panics
    /// If no workers are attached. The node serves no requests before they are.
    pub async fn send_test(&self, endpoint: Endpoint, event: Event) -> TestReport {
        let workers = self
            .destinations
            .workers
            .get()
            .expect("workers are attached before requests are served");
        workers.send_test(endpoint, event).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

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

    #[async_trait]
    impl Workers for Notes {
        fn wake(&self, wakes: Vec<Wake>) -> Vec<Wake> {
            let has_delivery = |wake: &Wake| matches!(wake, Wake::Endpoint { ready: Some(_), .. });
            self.0.lock().expect("no panic").extend(wakes.iter().map(has_delivery));
            Vec::new()
        }

        async fn send_test(&self, _endpoint: Endpoint, _event: Event) -> TestReport {
            unreachable!("no test calls this")
        }
    }

    #[tokio::test]
    async fn deliveries_in_wakes_of_other_nodes_are_not_trusted() {
        let store = Store::new(Arc::new(Memory::new()), 1);
        let notes = Arc::new(Notes::default());
        let router = Router::new(Records::open(store, 1).await.expect("opened"), notes.clone());
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
        assert!(router.wake_local(wakes.clone()).is_empty());
        router.wake(wakes);
        assert_eq!(*notes.0.lock().expect("no panic"), [false, true]);
    }
}
