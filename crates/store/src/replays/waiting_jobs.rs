//! Whether a shard has jobs to work on, for an owner who may not have been told.

use postrider_domain::ownership::Shard;

use crate::keys::{fan_out, replay, resend};
use crate::kv::{Error, Range};
use crate::records::Records;

/// Which jobs a shard has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WaitingJobs {
    /// Fan-outs, of new events or of past ones that are sent again.
    pub fan_outs: bool,
    /// Replays that run.
    pub replays: bool,
}

impl Records {
    /// Which jobs a shard has: one read of at most five rows.
    ///
    /// # Errors
    /// When the store fails.
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
