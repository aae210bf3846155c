//! Giving a shard to its target: nothing new begins, what is under way ends and is on record, and only
//! then is the target written as the owner, by the right of the old fence.

use std::time::Duration;

use postrider_domain::assignment::Fence;
use postrider_domain::ids::BootId;
use postrider_store::{OwnerError, Records};

use crate::shard_guard::ShardGrant;

/// A handoff that is done with.
pub(super) struct Handoff {
    pub(super) ended: Ended,
    /// Something was still under way when the drain timeout expired.
    pub(super) overrun: bool,
}

/// What became of a handoff.
pub(super) enum Ended {
    /// The target owns the shard under this fence.
    HandedOver(Fence),
    /// Another owner had it already.
    Fenced,
    /// The store failed: the shard is still this node's, by the store's word.
    Failed,
}

/// Hands the shard of `grant` over. One on which something is still under way after `drain_timeout` is
/// handed over all the same: the fence refuses what comes too late.
pub(super) async fn hand_over(
    records: &Records,
    grant: &mut ShardGrant,
    target: BootId,
    drain_timeout: Duration,
) -> Handoff {
    let fence = grant.fence();
    grant.end();
    let overrun = tokio::time::timeout(drain_timeout, grant.released()).await.is_err();
    if overrun {
        let shard = fence.shard;
        tracing::warn!(shard, "a shard is handed over while something on it is still under way");
    }
    let ended = match records.hand_over(fence, target).await {
        Ok(fence) => Ended::HandedOver(fence),
        Err(OwnerError::Fenced) => Ended::Fenced,
        Err(OwnerError::Store(error)) => {
            tracing::warn!(shard = fence.shard, %error, "a shard cannot be handed over");
            Ended::Failed
        }
    };
    Handoff { ended, overrun }
}
