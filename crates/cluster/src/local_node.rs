//! Handles the messages of other nodes: passes their wakes to the actors of this node's shards, and
//! has the shard manager read the store when they report that the owner of a shard has changed.

use std::sync::Arc;

use postrider_domain::assignment::Shard;
use postrider_net::messages::{CallError, WakeMany, Woken};
use postrider_store::Wake;
use tokio::sync::watch;

use crate::metrics::Instruments;
use crate::route::LocalShards;
use crate::shard_manager::CheckTrigger;
use crate::view::View;
use crate::wakes;

/// This node, as other nodes call it.
pub struct LocalNode {
    shards: u16,
    local: Arc<dyn LocalShards>,
    view: watch::Receiver<Arc<View>>,
    check_trigger: CheckTrigger,
    instruments: Instruments,
}

impl LocalNode {
    /// Creates the handler. The cluster has `shards` shards.
    #[must_use]
    pub fn new(
        shards: u16,
        local: Arc<dyn LocalShards>,
        view: watch::Receiver<Arc<View>>,
        check_trigger: CheckTrigger,
    ) -> Self {
        Self { shards, local, view, check_trigger, instruments: Instruments::new() }
    }

    /// Wakes the actors of the shards that this node owns, and returns all other shards.
    ///
    /// # Errors
    /// `Malformed` if any of the wakes is invalid. The whole message is then rejected.
    pub fn wake(&self, wakes: WakeMany) -> Result<Woken, CallError> {
        let wakes = wakes::unpack(wakes, self.shards)?;
        self.instruments.wakes_received(wakes.len());
        let not_owned = self.local.wake_from_peer(wakes);
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
        self.check_trigger.check_now();
    }

    /// The cluster as this node sees it.
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        self.view.borrow().clone()
    }
}
