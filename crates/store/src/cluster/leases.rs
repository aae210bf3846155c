//! Node leases. A node renews its lease by writing a greater revision. Each observer decides by its
//! own clock whether the node is alive, from how long the revision has not changed. No data
//! transaction reads a lease.

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
    /// The node, in its current run.
    pub node: BootId,
    /// The name, stable across restarts.
    pub name: String,
    /// The address for other nodes.
    pub address: Option<SocketAddr>,
    /// The node's version of Postrider.
    pub version: String,
    /// Whether it is handing over its shards and claims none.
    pub draining: bool,
    /// Increases with every renewal. For an unreadable lease it only differs with every renewal.
    pub revision: u64,
    /// False for a lease in an unknown format, written by a later version during a rolling upgrade.
    /// Only its node and whether it is renewed are known.
    pub is_readable: bool,
}

impl Records {
    /// Writes a lease, unless a later revision has been written. Returns whether the node had a
    /// lease before.
    pub async fn renew_lease(&self, lease: &Lease) -> Result<bool, Error> {
        let key = lease::key(lease.node);
        let key = &key;
        // The result of the run that may have been committed.
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

    /// Returns all leases, including those of dead nodes and unreadable ones, which must not hide
    /// the others.
    pub async fn leases(&self) -> Result<Vec<Lease>, Error> {
        let rows = self.store.rows(Range::prefix(lease::all())).await?;
        rows.iter().map(|(key, value)| Ok(lease::decode(lease::node_of(key)?, value))).collect()
    }

    /// Removes the lease of a node that leaves or is dead, unless it was renewed after `revision`.
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
