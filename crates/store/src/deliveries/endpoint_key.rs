//! The rows of a delivery. They are only written here, so that the queue, the pending list, the
//! counter and the pointer stay consistent.

use postrider_domain::assignment::Shard;
use postrider_domain::delivery::{Delivery, Progress};
use postrider_domain::endpoint::State;
use postrider_domain::ids::{AccountId, DeliveryId, EndpointId};
use postrider_domain::time::Timestamp;

use crate::codec::RecordTx;
use crate::keys::dispatch_state::{self, DispatchState};
use crate::keys::{delivery, due, pending, queue};
use crate::kv::{Error, Tx};
use crate::records::Wake;

/// Identifies an endpoint, with its account and shard.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EndpointKey {
    pub(crate) account: AccountId,
    pub(crate) endpoint: EndpointId,
    pub(crate) shard: Shard,
}

impl EndpointKey {
    pub(crate) async fn dispatch_state(&self, tx: &Tx) -> Result<Option<DispatchState>, Error> {
        tx.load(&dispatch_state::key(self.account, self.endpoint)).await
    }

    /// A hint to the shard's owner that a delivery is due.
    pub(crate) fn wake(&self) -> Wake {
        let Self { account, endpoint, shard } = *self;
        Wake::Endpoint { shard, account, endpoint, ready: None }
    }

    pub(crate) fn save_dispatch_state(&self, tx: &Tx, record: &DispatchState) {
        tx.save(dispatch_state::key(self.account, self.endpoint), record);
    }

    /// Adds a new delivery, which is due immediately, and sets the endpoint's pointer.
    pub(crate) fn add(&self, tx: &Tx, record: &Delivery, dispatch: &mut DispatchState) {
        let due = record.due().expect("a new delivery is pending");
        tx.save(delivery::key(self.account, record.id), record);
        tx.set(delivery::of_endpoint(self.account, self.endpoint, record.id), Vec::new());
        tx.set(queue::key(record, due), Vec::new());
        tx.set(pending::key(self.account, self.endpoint, record.id), Vec::new());
        tx.add(pending::count(self.account, self.endpoint), 1);
        if dispatch.state == State::Enabled {
            self.set_pointer(tx, dispatch, Some(due::IMMEDIATELY));
        }
    }

    /// Updates a pending delivery, and moves or removes its queue row.
    pub(crate) fn advance(&self, tx: &Tx, before: &Delivery, after: &Delivery) {
        let was_due = before.due().expect("only a pending delivery changes");
        tx.clear(queue::key(before, was_due));
        tx.save(delivery::key(self.account, after.id), after);
        match after.progress {
            Progress::Pending { due } => {
                tx.set(queue::key(after, due), Vec::new());
            }
            Progress::Finished { .. } => self.remove_pending(tx, after.id),
        }
    }

    fn remove_pending(&self, tx: &Tx, id: DeliveryId) {
        tx.clear(pending::key(self.account, self.endpoint, id));
        tx.add(pending::count(self.account, self.endpoint), -1);
    }

    /// Removes the pointer of an endpoint that is not enabled, unless deliveries remain to be
    /// discarded.
    pub(crate) fn remove_pointer(&self, tx: &Tx, dispatch: &mut DispatchState) {
        if dispatch.discard_through.is_none() {
            self.set_pointer(tx, dispatch, None);
        }
    }

    /// Sets the endpoint's pointer to a time, or removes it.
    pub(crate) fn set_pointer(&self, tx: &Tx, dispatch: &mut DispatchState, to: Option<Timestamp>) {
        if dispatch.pointer == to {
            return;
        }
        if let Some(old) = dispatch.pointer {
            tx.clear(due::key(self.shard, old, self.endpoint));
        }
        if let Some(new) = to {
            tx.save(due::key(self.shard, new, self.endpoint), &self.account);
        }
        dispatch.pointer = to;
        self.save_dispatch_state(tx, dispatch);
    }
}
