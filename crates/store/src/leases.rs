//! Which nodes claim to be alive. A node renews its lease by writing a greater revision; whether
//! it is alive is for each observer to judge, by how long the revision has stood still on the
//! observer's own clock. No transaction of the data reads a lease.

use std::net::SocketAddr;

use postrider_domain::ids::BootId;
use serde::{Deserialize, Serialize};

use crate::codec::decode;
use crate::keys::lease;
use crate::kv::{Error, Range};
use crate::records::Records;

/// A node's claim to be alive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Grows with every renewal.
    pub revision: u64,
}

impl Records {
    /// Writes a lease, and tells whether there was one of this node before.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn renew_lease(&self, lease: &Lease) -> Result<bool, Error> {
        let key = lease::key(lease.node);
        let key = &key;
        self.store
            .transact(|tx, _| async move {
                let before: Option<Lease> = tx.load(key).await?;
                tx.save(key.clone(), lease);
                Ok(before.is_some())
            })
            .await
    }

    /// Every lease, also those of nodes that died.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn leases(&self) -> Result<Vec<Lease>, Error> {
        let rows = self.store.rows(Range::prefix(lease::all())).await?;
        rows.iter().map(|(_, value)| decode(value)).collect()
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
                let lease: Option<Lease> = tx.load(key).await?;
                if lease.is_some_and(|lease| lease.revision <= revision) {
                    tx.clear(key.clone());
                }
                Ok(())
            })
            .await
    }
}
