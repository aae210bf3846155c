//! Whether a shard has jobs, for an owner that may have missed a wake-up.

use postrider_domain::assignment::Shard;

use crate::keys::{fan_out, replay, resend};
use crate::kv::{Error, Range};
use crate::records::Records;

/// The kinds of jobs that a shard has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WaitingJobs {
    /// Fan-outs of new events or of resends.
    pub fan_outs: bool,
    /// Running replays.
    pub replays: bool,
}

impl Records {
    /// Returns the kinds of jobs that a shard has, in one transaction that reads at most five rows.
    pub async fn waiting_jobs(&self, shard: Shard) -> Result<WaitingJobs, Error> {
        self.store
            .read(|tx| async move {
                let tx = &tx;
                let any = async |prefix: Vec<u8>| {
                    let rows = tx.snap_range(Range::prefix(prefix).limit(1)).await?;
                    Ok::<_, Error>(!rows.is_empty())
                };
                let mut fan_outs = false;
                for prefix in fan_out::of_shard(shard).into_iter().chain(resend::of_shard(shard)) {
                    fan_outs = fan_outs || any(prefix).await?;
                }
                Ok(WaitingJobs { fan_outs, replays: any(replay::running_in(shard)).await? })
            })
            .await
    }
}
