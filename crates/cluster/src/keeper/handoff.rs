//! Giving a shard to its heir: nothing new begins, what is under way ends and is on record, and only
//! then is the heir written as the owner, by the right of the old fence.

use std::time::Duration;

use postrider_domain::ids::BootId;
use postrider_domain::ownership::Fence;
use postrider_store::{OwnerError, Records};

use crate::tenure::Tenancy;

/// A handoff that is done with.
pub(super) struct Handoff {
    pub(super) ended: Ended,
    /// Something was still under way when the patience was over.
    pub(super) overrun: bool,
}

/// What became of a handoff.
pub(super) enum Ended {
    /// The heir owns the shard under this fence.
    HandedOver(Fence),
    /// Another owner had it already.
    Fenced,
    /// The store failed: the shard is still this node's, by the store's word.
    Failed,
}

/// Hands the shard of `tenancy` over. One on which something is still under way after `patience` is
/// handed over all the same: the fence refuses what comes too late.
pub(super) async fn hand_over(
    records: &Records,
    tenancy: &mut Tenancy,
    heir: BootId,
    patience: Duration,
) -> Handoff {
    let fence = tenancy.fence();
    tenancy.end();
    let overrun = tokio::time::timeout(patience, tenancy.released()).await.is_err();
    if overrun {
        let shard = fence.shard;
        tracing::warn!(shard, "a shard is handed over while something on it is still under way");
    }
    let ended = match records.hand_over(fence, heir).await {
        Ok(fence) => Ended::HandedOver(fence),
        Err(OwnerError::Fenced) => Ended::Fenced,
        Err(OwnerError::Store(error)) => {
            tracing::warn!(shard = fence.shard, %error, "a shard cannot be handed over");
            Ended::Failed
        }
    };
    Handoff { ended, overrun }
}
