//! Handing a shard over to its target: no new work starts, work in flight ends and is recorded, and
//! only then is the target written as the owner, in a transaction that presents the old fence.

use std::time::Duration;

use postrider_domain::assignment::Fence;
use postrider_domain::ids::BootId;
use postrider_store::{OwnerError, Records};

use crate::shard_guard::ShardGrant;

/// A finished handoff.
pub(super) struct Handoff {
    pub(super) outcome: HandoffOutcome,
    /// Work was still in flight when the drain timeout expired.
    pub(super) drain_timed_out: bool,
}

pub(super) enum HandoffOutcome {
    /// The target owns the shard under this fence.
    HandedOver(Fence),
    /// The shard already had a later owner.
    Fenced,
    /// The store failed. If the transaction did not commit, this node is still the recorded owner.
    Failed,
}

/// Hands over the shard of `grant`. If work is still in flight after `drain_timeout`, the shard is
/// handed over anyway: the fence rejects late writes.
pub(super) async fn hand_over(
    records: &Records,
    grant: &mut ShardGrant,
    target: BootId,
    drain_timeout: Duration,
) -> Handoff {
    let fence = grant.fence();
    grant.revoke();
    let drain_timed_out = tokio::time::timeout(drain_timeout, grant.released()).await.is_err();
    if drain_timed_out {
        let shard = fence.shard;
        tracing::warn!(shard, "handing over a shard with work still in flight");
    }
    let outcome = match records.hand_over(fence, target).await {
        Ok(fence) => HandoffOutcome::HandedOver(fence),
        Err(OwnerError::Fenced) => HandoffOutcome::Fenced,
        Err(OwnerError::Store(error)) => {
            tracing::warn!(shard = fence.shard, %error, "handing over a shard failed");
            HandoffOutcome::Failed
        }
    };
    Handoff { outcome, drain_timed_out }
}
