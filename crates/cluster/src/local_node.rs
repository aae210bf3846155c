//! What this node does for its peers: it passes on their wakes, and reads the store when they
//! tell it that the ownership of a shard has changed.

use std::sync::Arc;

use postrider_domain::assignment::Shard;
use postrider_net::messages::{CallError, WakeMany, Woken};
use postrider_store::Wake;
use tokio::sync::{Notify, watch};

use crate::metrics::Instruments;
use crate::route::Router;
use crate::view::View;
use crate::wakes;

/// This node, as its peers reach it.
pub struct LocalNode {
    router: Router,
    view: watch::Receiver<Arc<View>>,
    /// Has the shard_manager read the store.
    look: Arc<Notify>,
    instruments: Instruments,
}

impl LocalNode {
    /// The node whose shard workers `router` reaches, and that sees the cluster as `view`.
    #[must_use]
    pub fn new(router: Router, view: watch::Receiver<Arc<View>>, look: Arc<Notify>) -> Self {
        Self { router, view, look, instruments: Instruments::new() }
    }

    /// Tells the owners of shards on this node of work, and names the shards that it does not own.
    ///
    /// # Errors
    /// `Malformed` when the message cannot be read. None of its work is begun then.
    pub fn wake(&self, wakes: WakeMany) -> Result<Woken, CallError> {
        let wakes = wakes::unpack(wakes, self.router.records().shards())?;
        self.instruments.wakes_received(wakes.len());
        let not_owned = self.router.wake_here(wakes);
        let mut elsewhere: Vec<Shard> = not_owned.iter().map(Wake::shard).collect();
        elsewhere.sort_unstable();
        elsewhere.dedup();
        if !elsewhere.is_empty() {
            // The shards may have been handed to this node a moment ago.
            self.ownership_changed();
        }
        Ok(Woken { not_owned: elsewhere })
    }

    /// Has the shard_manager read from the store which shards this node owns.
    pub fn ownership_changed(&self) {
        self.look.notify_one();
    }

    /// The cluster as this node sees it.
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        self.view.borrow().clone()
    }
}
