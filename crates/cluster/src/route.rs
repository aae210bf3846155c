//! How work finds those who do it. Whoever accepts an event or changes an endpoint tells the
//! [`Router`], which tells the owner of the shard: on this node, or on another by [`WakeForwarder`].

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

/// Those who deliver, on this node.
#[async_trait]
pub trait Workers: Send + Sync + 'static {
    /// Tells of work, and gives back what is not for a shard that is owned here. A hint that may be
    /// lost: what it tells of is durable.
    fn wake(&self, wakes: Vec<Wake>) -> Vec<Wake>;

    /// The same of work that another node told of. A delivery that it brings along is not sent
    /// before the store has confirmed it: nothing goes over the wire that is on no record.
    fn wake_from_peer(&self, wakes: Vec<Wake>) -> Vec<Wake> {
        self.wake(wakes.into_iter().map(Wake::without_delivery).collect())
    }

    /// Somebody was lost who may have had work to tell of: look for it.
    fn scan_now(&self) {}

    /// Sends an event to an endpoint once, now, and counts it for nothing.
    async fn send_test(&self, endpoint: Endpoint, event: Event) -> TestReport;
}

/// Whoever tells people by email.
pub trait Notifier: Send + Sync + 'static {
    /// Tells that the shard of `fence` has a new notice. A hint that may be lost.
    fn wake(&self, fence: Fence);
}

/// What happened to a test event.
#[derive(Clone, Debug)]
pub struct TestReport {
    pub exchange: Exchange,
    /// How long each part of it took.
    pub phases: Phases,
}

/// The door to those who work. Clones are cheap and share everything.
#[derive(Clone)]
pub struct Router {
    records: Records,
    reach: Arc<Reach>,
}

/// Whom the router can tell; set once they are there, and until then nobody is told.
#[derive(Default)]
struct Reach {
    workers: OnceLock<Arc<dyn Workers>>,
    forwarder: OnceLock<WakeForwarder>,
}

impl Router {
    /// A router that reaches nobody yet.
    #[must_use]
    pub fn unattached(records: Records) -> Self {
        Self { records, reach: Arc::default() }
    }

    /// A router to the workers of this node.
    #[must_use]
    pub fn new(records: Records, workers: Arc<dyn Workers>) -> Self {
        let router = Self::unattached(records);
        router.attach(workers);
        router
    }

    /// Tells of the workers of this node, once.
    pub fn attach(&self, workers: Arc<dyn Workers>) {
        let first = self.reach.workers.set(workers).is_ok();
        assert!(first, "a router has the workers of one node");
    }

    /// Tells of the way to other nodes, once.
    pub fn attach_forwarder(&self, forwarder: WakeForwarder) {
        let first = self.reach.forwarder.set(forwarder).is_ok();
        assert!(first, "a router has one way to other nodes");
    }

    /// The durable records.
    #[must_use]
    pub fn records(&self) -> &Records {
        &self.records
    }

    /// Tells the owners of work.
    pub fn wake(&self, mut wakes: Vec<Wake>) {
        if wakes.is_empty() {
            return;
        }
        trace::attach(&mut wakes);
        trace::nudge(wakes.len()).in_scope(|| {
            let others = match self.reach.workers.get() {
                Some(workers) => workers.wake(wakes),
                None => wakes,
            };
            if let Some(forwarder) = self.reach.forwarder.get() {
                forwarder.send(others);
            }
        });
    }

    /// Tells the owners on this node of work that another node told of, and gives back what is not
    /// theirs.
    #[must_use]
    pub fn wake_here(&self, wakes: Vec<Wake>) -> Vec<Wake> {
        match self.reach.workers.get() {
            Some(workers) => workers.wake_from_peer(wakes),
            None => wakes,
        }
    }

    /// Has the owners on this node look for work that nobody could tell of.
    pub fn look_here(&self) {
        if let Some(workers) = self.reach.workers.get() {
            workers.scan_now();
        }
    }

    /// Tells the owner that an endpoint was changed, enabled, disabled or deleted.
    pub fn changed(&self, account: AccountId, endpoint: EndpointId) {
        let shard = self.records.shard_of(endpoint);
        self.wake(vec![Wake::Changed { shard, account, endpoint }]);
    }

    /// Sends a test event from this node and waits for what comes of it.
    ///
    /// # Panics
    /// When the workers are not attached yet: nobody is served before they are.
    pub async fn send_test(&self, endpoint: Endpoint, event: Event) -> TestReport {
        let workers = self.reach.workers.get().expect("workers are attached before requests come");
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

    /// Notes whether each wake brought a delivery along.
    #[derive(Default)]
    struct Notes(Mutex<Vec<bool>>);

    #[async_trait]
    impl Workers for Notes {
        fn wake(&self, wakes: Vec<Wake>) -> Vec<Wake> {
            let brings = |wake: &Wake| matches!(wake, Wake::Endpoint { ready: Some(_), .. });
            self.0.lock().expect("no panic").extend(wakes.iter().map(brings));
            Vec::new()
        }

        async fn send_test(&self, _endpoint: Endpoint, _event: Event) -> TestReport {
            unreachable!("nobody asks")
        }
    }

    #[tokio::test]
    async fn only_what_this_node_has_accepted_is_believed() {
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
        assert!(router.wake_here(wakes.clone()).is_empty());
        router.wake(wakes);
        assert_eq!(*notes.0.lock().expect("no panic"), [false, true]);
    }
}
