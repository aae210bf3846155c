//! Which nodes claim to be alive. A node renews its lease by writing a greater revision; whether
//! it is alive is for each observer to judge, by how long the revision has stood still on the
//! observer's own clock. No transaction of the data reads a lease.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use postrider_domain::ids::BootId;

use crate::codec::RecordTx;
use crate::keys::lease;
use crate::kv::{Error, Range, Tx};
use crate::records::Records;

/// A node's claim to be alive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The node, in its present run.
    pub node: BootId,
    /// Its name, which it keeps from run to run.
    pub name: String,
    /// Where other nodes reach it.
    pub address: Option<SocketAddr>,
    /// The version of Postrider that it runs.
    pub version: String,
    /// It gives its shards away, and takes none.
    pub draining: bool,
    /// Grows with every renewal. Of one that cannot be read it only differs with every renewal.
    pub revision: u64,
    /// False for a lease in a layout that this build does not know: a later version's, in a rolling
    /// upgrade. Whose it is and whether it is renewed can be told all the same, and nothing else.
    pub is_readable: bool,
}

impl Records {
    /// Writes a lease, unless a later revision of it was written already, and tells whether there was
    /// one of this node before.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn renew_lease(&self, lease: &Lease) -> Result<bool, Error> {
        let key = lease::key(lease.node);
        let key = &key;
        // What the run saw that may have been committed.
        let existed = &AtomicBool::new(false);
        self.store
            .transact_urgently(|tx, maybe_committed| async move {
                let before = load(&tx, lease.node).await?;
                let is_this =
                    |before: &Lease| before.is_readable && before.revision == lease.revision;
                if maybe_committed && before.as_ref().is_some_and(is_this) {
                    return Ok(existed.load(Ordering::Relaxed));
                }
                existed.store(before.is_some(), Ordering::Relaxed);
                let is_late =
                    |before: &Lease| before.is_readable && before.revision >= lease.revision;
                if !before.as_ref().is_some_and(is_late) {
                    tx.save(key.clone(), lease);
                }
                Ok(before.is_some())
            })
            .await
    }

    /// Every lease, also those of nodes that died, and those that cannot be read: one of them must
    /// not hide the others.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn leases(&self) -> Result<Vec<Lease>, Error> {
        let rows = self.store.rows(Range::prefix(lease::all())).await?;
        rows.iter().map(|(key, value)| Ok(lease::decode(lease::node_of(key)?, value))).collect()
    }

    /// Removes a lease, unless it was renewed after this revision: its node leaves, or is dead.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn remove_lease(&self, node: BootId, revision: u64) -> Result<(), Error> {
        let key = lease::key(node);
        let key = &key;
        self.store
            .transact(|tx, _| async move {
                let lease = load(&tx, node).await?;
                let is_old = |lease: Lease| match lease.is_readable {
                    true => lease.revision <= revision,
                    false => lease.revision == revision,
                };
                if lease.is_some_and(is_old) {
                    tx.clear(key.clone());
                }
                Ok(())
            })
            .await
    }
}

async fn load(tx: &Tx, node: BootId) -> Result<Option<Lease>, Error> {
    Ok(tx.get(&lease::key(node)).await?.map(|bytes| lease::decode(node, &bytes)))
}
