//! A delivery's rows: made, moved and ended in one place, so that the queue, the pending list,
//! the counter and the pointer never disagree.

use postrider_domain::delivery::{Delivery, Progress};
use postrider_domain::endpoint::State;
use postrider_domain::ids::{AccountId, DeliveryId, EndpointId};
use postrider_domain::ownership::Shard;
use postrider_domain::time::Timestamp;

use crate::codec::RecordTx;
use crate::keys::gate::{self, Gate};
use crate::keys::{delivery, due, pending, queue};
use crate::kv::{Error, Tx};
use crate::records::Wake;

/// An endpoint in the hands of a transaction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) account: AccountId,
    pub(crate) endpoint: EndpointId,
    pub(crate) shard: Shard,
}

impl Place {
    pub(crate) async fn gate(&self, tx: &Tx) -> Result<Option<Gate>, Error> {
        tx.load(&gate::key(self.account, self.endpoint)).await
    }

    /// Tells its owner that a delivery is due.
    pub(crate) fn wake(&self) -> Wake {
        let Self { account, endpoint, shard } = *self;
        Wake::Endpoint { shard, account, endpoint, ready: None }
    }

    pub(crate) fn save_gate(&self, tx: &Tx, record: &Gate) {
        tx.save(gate::key(self.account, self.endpoint), record);
    }

    /// Adds a new delivery, which is due at once, and points to its endpoint.
    pub(crate) fn add(&self, tx: &Tx, record: &Delivery, gate: &mut Gate) {
        let due = record.due().expect("a new delivery is pending");
        tx.save(delivery::key(self.account, record.id), record);
        tx.set(delivery::of_endpoint(self.account, self.endpoint, record.id), Vec::new());
        tx.set(queue::key(record, due), Vec::new());
        tx.set(pending::key(self.account, self.endpoint, record.id), Vec::new());
        tx.add(pending::count(self.account, self.endpoint), 1);
        if gate.state == State::Enabled {
            self.point(tx, gate, Some(due::AT_ONCE));
        }
    }

    /// Writes a delivery that was pending before, and moves or removes its queue row.
    pub(crate) fn advance(&self, tx: &Tx, before: &Delivery, after: &Delivery) {
        let was_due = before.due().expect("only a pending delivery changes");
        tx.clear(queue::key(before, was_due));
        tx.save(delivery::key(self.account, after.id), after);
        match after.progress {
            Progress::Pending { due } => {
                tx.set(queue::key(after, due), Vec::new());
            }
            Progress::Finished { .. } => self.forget(tx, after.id),
        }
    }

    fn forget(&self, tx: &Tx, id: DeliveryId) {
        tx.clear(pending::key(self.account, self.endpoint, id));
        tx.add(pending::count(self.account, self.endpoint), -1);
    }

    /// Takes the pointer of an endpoint that is not sent to away, unless there is something left
    /// to discard.
    pub(crate) fn close(&self, tx: &Tx, gate: &mut Gate) {
        if gate.discard_through.is_none() {
            self.point(tx, gate, None);
        }
    }

    /// Puts the pointer to `to`, and takes it away where there is nothing to look at.
    pub(crate) fn point(&self, tx: &Tx, gate: &mut Gate, to: Option<Timestamp>) {
        if gate.pointer == to {
            return;
        }
        if let Some(old) = gate.pointer {
            tx.clear(due::key(self.shard, old, self.endpoint));
        }
        if let Some(new) = to {
            tx.save(due::key(self.shard, new, self.endpoint), &self.account);
        }
        gate.pointer = to;
        self.save_gate(tx, gate);
    }
}
