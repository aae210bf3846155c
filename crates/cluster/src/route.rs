//! Routes wakes to the owners of their shards. Code that accepts an event or changes an endpoint
//! calls the [`Router`], which wakes the shard's actor if this node owns the shard, and otherwise
//! forwards the wake to the owner through the [`WakeForwarder`].

use std::sync::Arc;

use postrider_domain::assignment::{Fence, shard_of};
use postrider_domain::ids::{AccountId, EndpointId};
use postrider_store::Wake;

use crate::trace;
use crate::wake_forwarder::WakeForwarder;

/// The actors of the shards that this node owns.
pub trait LocalShards: Send + Sync + 'static {
    /// Wakes the actors of the shards that this node owns, and returns the wakes for all other
    /// shards. A wake is a hint and may be lost: the work behind it is durable.
    fn wake(&self, wakes: Vec<Wake>) -> Vec<Wake>;

    /// Like [`wake`](Self::wake), for wakes from another node. A delivery attached to such a wake
    /// is read from the store before it is sent: no webhook is sent for a delivery that is not on
    /// record.
    fn wake_from_peer(&self, wakes: Vec<Wake>) -> Vec<Wake>;

    /// Makes this node's shards scan the store for work: a node that might have sent wakes was lost.
    fn scan_now(&self);
}

/// Sends notices by email.
pub trait Notifier: Send + Sync + 'static {
    /// Announces a new notice in the shard of `fence`. A hint that may be lost.
    fn wake(&self, fence: Fence);
}

/// Routes wakes to the owners of their shards. Clones are cheap and share everything.
#[derive(Clone)]
pub struct Router {
    shards: u16,
    local: Arc<dyn LocalShards>,
    /// `None` if this node has no connections to other nodes.
    forwarder: Option<WakeForwarder>,
}

impl Router {
    /// A router to the shards on this node and, through `forwarder`, to those on other nodes.
    #[must_use]
    pub fn new(shards: u16, local: Arc<dyn LocalShards>, forwarder: Option<WakeForwarder>) -> Self {
        Self { shards, local, forwarder }
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

    /// Notifies the owner that an endpoint was changed, enabled, disabled or deleted.
    pub fn changed(&self, account: AccountId, endpoint: EndpointId) {
        let shard = shard_of(endpoint, self.shards);
        self.wake(vec![Wake::Changed { shard, account, endpoint }]);
    }
}
