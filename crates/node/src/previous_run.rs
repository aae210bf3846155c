//! The lease of this node's previous run. The locks on the data directory tell that this run is over,
//! so nobody need wait until its lease runs out: it is removed. But a data directory may be a copy,
//! restored on another host, while the node that it was copied from goes on. So a lease goes only when
//! nobody listens at its address any more, or when it has not been renewed for so long that its node
//! has stopped by itself.

use std::time::Duration;

use anyhow::{Context, Result};
use postrider_cluster::membership::SELF_STOP;
use postrider_domain::ids::BootId;
use postrider_net::transport;
use postrider_store::kv::Error;
use postrider_store::{Lease, Records};

use crate::data_dir::DataDir;

/// How long the start waits for an answer from the old address.
const ASK: Duration = Duration::from_millis(500);
/// The node of a lease that has not moved for so long does nothing any more.
const STANDS_STILL: Duration = SELF_STOP.saturating_add(Duration::from_millis(500));

/// Removes the lease of the previous run, now or in a moment, and notes this run in its place. To be
/// called before this node listens for others: its address may be that of the previous run.
pub async fn succeed(records: &Records, dir: &DataDir, this: BootId) -> Result<()> {
    if let Some(last) = dir.last_run() {
        remove(records, last).await.context("cannot remove this node's old lease")?;
    }
    if let Err(error) = dir.note_run(this) {
        tracing::warn!(%error, "after a crash, the others will wait until this node's lease is over");
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
        tokio::time::sleep(STANDS_STILL).await;
        // Only if it has not been renewed meanwhile.
        if let Err(error) = records.remove_lease(last, lease.revision).await {
            tracing::warn!(%error, "this node's old lease cannot be removed; it runs out by itself");
        }
    });
    Ok(())
}

/// Whether the host of the previous run says that nobody listens there any more.
async fn is_refused(lease: &Lease) -> bool {
    let Some(address) = lease.address else { return false };
    tokio::time::timeout(ASK, transport::is_refused(address)).await.unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Arc;

    use postrider_store::kv::Store;
    use postrider_store::kv::memory::Memory;
    use tokio::net::TcpListener;

    use super::*;
    use crate::data_dir::Use;

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

    /// A store with a lease of the previous run, after this one has begun.
    async fn begun(address: Option<SocketAddr>) -> Records {
        let records =
            Records::open(Store::new(Arc::new(Memory::new()), 1), 4).await.expect("opens");
        records.renew_lease(&lease(address, 1)).await.expect("renewed");
        let dir = tempfile::tempdir().expect("a directory");
        let dir = DataDir::take(dir.path(), "node-1", Use::Alone).expect("it is free");
        dir.note_run(LAST).expect("noted");
        succeed(&records, &dir, THIS).await.expect("it goes on");
        assert_eq!(dir.last_run(), Some(THIS));
        records
    }

    async fn count(records: &Records) -> usize {
        records.leases().await.expect("read").len()
    }

    #[tokio::test]
    async fn the_lease_goes_at_once_when_nobody_listens_there() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        drop(listener);
        assert_eq!(count(&begun(Some(address)).await).await, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_lease_goes_when_it_stands_still() {
        let records = begun(None).await;
        assert_eq!(count(&records).await, 1, "it may be that of a node that goes on");
        tokio::time::sleep(STANDS_STILL + ASK).await;
        assert_eq!(count(&records).await, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_lease_of_a_node_that_goes_on_stays() {
        let records = begun(None).await;
        tokio::time::sleep(STANDS_STILL - ASK).await;
        records.renew_lease(&lease(None, 2)).await.expect("renewed");
        tokio::time::sleep(STANDS_STILL * 2).await;
        assert_eq!(count(&records).await, 1);
    }
}
