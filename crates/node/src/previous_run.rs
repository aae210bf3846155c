//! Removes the lease of this node's previous run.
//!
//! The locks on the data directory show that the previous run has ended, so other nodes need not
//! wait for its lease to expire. However, the data directory may be a copy, restored on another
//! host while the original node keeps running. The lease is therefore removed only if connections
//! to its address are refused, or if it has not been renewed for so long that its node must have
//! stopped itself.

use std::time::Duration;

use anyhow::{Context, Result};
use postrider_cluster::membership::SELF_FENCE_AFTER;
use postrider_domain::ids::BootId;
use postrider_net::transport;
use postrider_store::kv::Error;
use postrider_store::{Lease, Records};

use crate::data_dir::DataDir;

/// How long startup waits for the previous address to respond.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// A node whose lease has not been renewed for this long has stopped itself.
const STALE_AFTER: Duration = SELF_FENCE_AFTER.saturating_add(Duration::from_millis(500));

/// Removes the lease of the previous run, at once or after [`STALE_AFTER`], and records this run.
/// Call this before the node listens for peers: it may use the address of the previous run.
pub async fn clear_previous_lease(records: &Records, dir: &DataDir, this: BootId) -> Result<()> {
    if let Some(last) = dir.last_run() {
        remove(records, last)
            .await
            .context("cannot remove the lease of this node's previous run")?;
    }
    if let Err(error) = dir.record_run(this) {
        tracing::warn!(%error, "cannot record this run; after a crash, other nodes will wait for its lease to expire");
    }
    Ok(())
}

async fn remove(records: &Records, last: BootId) -> Result<(), Error> {
    let leases = records.leases().await?;
    let Some(lease) = leases.into_iter().find(|lease| lease.node == last) else { return Ok(()) };
    if is_refused(&lease).await {
        return records.remove_lease(last, lease.revision).await;
    }
    let records = records.clone();
    tokio::spawn(async move {
        tokio::time::sleep(STALE_AFTER).await;
        // This has no effect if the lease was renewed in the meantime.
        if let Err(error) = records.remove_lease(last, lease.revision).await {
            tracing::warn!(%error, "cannot remove the lease of the previous run; it will expire");
        }
    });
    Ok(())
}

/// Whether the host of the previous run refuses connections to its address.
async fn is_refused(lease: &Lease) -> bool {
    let Some(address) = lease.address else { return false };
    tokio::time::timeout(CONNECT_TIMEOUT, transport::is_refused(address)).await.unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Arc;

    use postrider_store::kv::Store;
    use postrider_store::kv::memory::Memory;
    use tokio::net::TcpListener;

    use super::*;
    use crate::data_dir::LockMode;

    const LAST: BootId = BootId::MIN;
    const THIS: BootId = BootId::MAX;

    fn lease(address: Option<SocketAddr>, revision: u64) -> Lease {
        Lease {
            node: LAST,
            name: "node-1".to_owned(),
            address,
            version: "1".to_owned(),
            draining: false,
            revision,
            is_readable: true,
        }
    }

    /// A store that held a lease of the previous run, after this run has started.
    async fn after_start(address: Option<SocketAddr>) -> Records {
        let records =
            Records::open(Store::new(Arc::new(Memory::new()), 1), 4).await.expect("opens");
        records.renew_lease(&lease(address, 1)).await.expect("renewed");
        let dir = tempfile::tempdir().expect("a directory");
        let dir = DataDir::open(dir.path(), "node-1", LockMode::Exclusive).expect("unlocked");
        dir.record_run(LAST).expect("recorded");
        clear_previous_lease(&records, &dir, THIS).await.expect("starts");
        assert_eq!(dir.last_run(), Some(THIS));
        records
    }

    async fn count(records: &Records) -> usize {
        records.leases().await.expect("read").len()
    }

    #[tokio::test]
    async fn a_lease_whose_address_refuses_connections_is_removed_at_once() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        drop(listener);
        assert_eq!(count(&after_start(Some(address)).await).await, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_is_not_renewed_is_removed() {
        let records = after_start(None).await;
        assert_eq!(count(&records).await, 1, "its node may still be running");
        tokio::time::sleep(STALE_AFTER + CONNECT_TIMEOUT).await;
        assert_eq!(count(&records).await, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_lease_of_a_running_node_is_kept() {
        let records = after_start(None).await;
        tokio::time::sleep(STALE_AFTER - CONNECT_TIMEOUT).await;
        records.renew_lease(&lease(None, 2)).await.expect("renewed");
        tokio::time::sleep(STALE_AFTER * 2).await;
        assert_eq!(count(&records).await, 1);
    }
}
