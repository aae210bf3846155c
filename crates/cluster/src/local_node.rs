//! Handles the messages of other nodes: passes their wakes to the router, and has the shard
//! manager read the store when they report that the owner of a shard has changed.

use std::sync::Arc;

use postrider_domain::assignment::Shard;
use postrider_net::messages::{CallError, WakeMany, Woken};
use postrider_store::Wake;
use tokio::sync::{Notify, watch};

use crate::metrics::Instruments;
use crate::route::Router;
use crate::view::View;
use crate::wakes;

/// This node, as other nodes call it.
pub struct LocalNode {
    router: Router,
    view: watch::Receiver<Arc<View>>,
    /// Has the shard manager read the store.
    check_now: Arc<Notify>,
    instruments: Instruments,
}

impl LocalNode {
    /// Creates the handler. `check_now` notifies the shard manager.
    #[must_use]
    pub fn new(router: Router, view: watch::Receiver<Arc<View>>, check_now: Arc<Notify>) -> Self {
        Self { router, view, check_now, instruments: Instruments::new() }
    }

    /// Wakes the owners of shards on this node, and returns the shards that this node does not own.
    ///
    /// # Errors
    /// `Malformed` if any of the wakes is invalid. The whole message is then rejected.
    pub fn wake(&self, wakes: WakeMany) -> Result<Woken, CallError> {
        let wakes = wakes::unpack(wakes, self.router.shards())?;
        self.instruments.wakes_received(wakes.len());
        let not_owned = self.router.wake_from_peer(wakes);
        let mut shards: Vec<Shard> = not_owned.iter().map(Wake::shard).collect();
        shards.sort_unstable();
        shards.dedup();
        if !shards.is_empty() {
            // The shards may have been handed over to this node a moment ago.
            self.ownership_changed();
        }
        Ok(Woken { not_owned: shards })
    }

    /// Has the shard manager read from the store which shards this node owns.
    pub fn ownership_changed(&self) {
        self.check_now.notify_one();
    }

    /// The cluster as this node sees it.
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        self.view.borrow().clone()
    }
}
