//! The door between those who take requests and those who deliver. Whoever accepts an event or
//! changes an endpoint tells the [`Router`], which tells the owner of the shard.

use std::sync::Arc;

use async_trait::async_trait;
use postrider_domain::delivery::{AttemptError, RequestHead, Response};
use postrider_domain::endpoint::Endpoint;
use postrider_domain::event::Event;
use postrider_domain::ids::{AccountId, EndpointId};
use postrider_domain::ownership::Fence;
use postrider_store::{Records, Wake};

use crate::trace;

/// Those who deliver, on this node.
#[async_trait]
pub trait Workers: Send + Sync + 'static {
    /// Tells of work. A hint that may be lost: what it tells of is durable.
    fn wake(&self, wakes: Vec<Wake>);

    /// Sends an event to an endpoint once, now, and counts it for nothing.
    async fn send_test(&self, endpoint: Endpoint, event: Event) -> TestReport;
}

/// Whoever tells people by email.
pub trait Notifier: Send + Sync + 'static {
    /// Tells that the shard of `fence` has a new notice. A hint that may be lost.
    fn nudge(&self, fence: Fence);
}

/// What a test event went through.
#[derive(Clone, Debug)]
pub struct TestReport {
    /// What was sent, but for the body.
    pub request: RequestHead,
    /// What came back.
    pub response: Option<Response>,
    /// What went wrong; none on success.
    pub error: Option<AttemptError>,
    /// How long it took.
    pub duration_ms: u32,
}

/// The door. Clones are cheap and share everything.
#[derive(Clone)]
pub struct Router {
    records: Records,
    workers: Arc<dyn Workers>,
}

impl Router {
    /// A door to the workers of this node.
    #[must_use]
    pub fn new(records: Records, workers: Arc<dyn Workers>) -> Self {
        Self { records, workers }
    }

    /// The durable records.
    #[must_use]
    pub fn records(&self) -> &Records {
        &self.records
    }

    /// Tells the owners of work.
    pub fn wake(&self, mut wakes: Vec<Wake>) {
        if !wakes.is_empty() {
            trace::hand_on(&mut wakes);
            trace::nudge(wakes.len()).in_scope(|| self.workers.wake(wakes));
        }
    }

    /// Tells the owner that an endpoint was changed, enabled, disabled or deleted.
    pub fn changed(&self, account: AccountId, endpoint: EndpointId) {
        let shard = self.records.shard_of(endpoint);
        self.workers.wake(vec![Wake::Changed { shard, account, endpoint }]);
    }

    /// Sends a test event and waits for what comes of it.
    pub async fn send_test(&self, endpoint: Endpoint, event: Event) -> TestReport {
        self.workers.send_test(endpoint, event).await
    }
}
