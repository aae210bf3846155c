//! What a node does about the leases that it finds, before it has one of its own.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use postrider_cluster::membership::TTL;
use postrider_domain::ids::BootId;
use postrider_store::Records;
use tokio::time::Instant;

use crate::data_dir::DataDir;

/// How often the leases of others are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Removes the lease of this node's last run, which nobody need wait for, and notes this one. The
/// locks on the data directory tell that it is over.
///
/// # Errors
/// When the store fails.
pub async fn succeed(records: &Records, dir: &DataDir, this: BootId) -> Result<()> {
    if let Some(last) = dir.last_run() {
        let removed = records.remove_lease(last, u64::MAX).await;
        removed.context("cannot remove this node's old lease")?;
    }
    if let Err(error) = dir.note_run(this) {
        tracing::warn!(%error, "after a crash, the others will wait until this node's lease is over");
    }
    Ok(())
}

/// Makes sure that nobody else works on the store. A node that is alone takes every shard, and two
/// that believe so would take them from each other without end. On one host their locks keep them
/// apart; on several, only what moves in the store tells.
///
/// # Errors
/// When another node renews its lease, or the store fails.
pub async fn make_sure_to_be_alone(records: &Records) -> Result<()> {
    let seen = records.leases().await?;
    if seen.is_empty() {
        return Ok(());
    }
    tracing::info!(
        leases = seen.len(),
        "waiting whether the nodes that have leases are still there"
    );
    let deadline = Instant::now() + TTL;
    while Instant::now() < deadline {
        tokio::time::sleep(LOOK_EVERY).await;
        let now = records.leases().await?;
        if let Some(other) = now.into_iter().find(|lease| !seen.contains(lease)) {
            bail!(
                "another node, {}, works on this store. Give each of them [cluster] listen and seeds, \
                 so that they share the work; or give one of them a store of its own",
                other.name
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use postrider_store::Lease;
    use postrider_store::kv::Store;
    use postrider_store::memory::Memory;

    use super::*;

    async fn records() -> Records {
        Records::open(Store::new(Arc::new(Memory::new()), 1), 4).await.unwrap()
    }

    fn lease(revision: u64) -> Lease {
        Lease {
            node: BootId::MAX,
            name: "node-2".to_owned(),
            address: None,
            version: String::new(),
            draining: false,
            revision,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_and_the_dead_are_no_hindrance() {
        let records = records().await;
        let begun = Instant::now();
        make_sure_to_be_alone(&records).await.unwrap();
        assert_eq!(begun.elapsed(), Duration::ZERO);
        records.renew_lease(&lease(1)).await.unwrap();
        make_sure_to_be_alone(&records).await.unwrap();
        assert!(begun.elapsed() >= TTL);
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_lives_is_named() {
        let records = records().await;
        records.renew_lease(&lease(1)).await.unwrap();
        let other = records.clone();
        let renewing = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(2)).await;
            other.renew_lease(&lease(2)).await
        });
        let refused = make_sure_to_be_alone(&records).await.unwrap_err().to_string();
        assert!(refused.contains("node-2"), "{refused}");
        renewing.await.unwrap().unwrap();
    }
}
