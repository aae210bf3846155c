//! The times that the nodes' clocks have shown. They show whether a clock is wrong, and whether it
//! was set back while no node ran.

use postrider_domain::ids::BootId;
use postrider_domain::time::Timestamp;

use crate::codec::{Record, RecordTx};
use crate::keys::clock;
use crate::kv::{Error, Range};
use crate::records::Records;

/// How many times are read. A run of a node removes those of earlier runs.
const MAX_CLOCKS: usize = 10_000;

impl Records {
    /// Records the time of a run of a node, and removes the times of `obsolete` runs.
    pub async fn record_clock(
        &self,
        node: BootId,
        now: Timestamp,
        obsolete: &[BootId],
    ) -> Result<(), Error> {
        self.store
            .transact(|tx, _| async move {
                tx.save(clock::key(node), &now);
                for node in obsolete {
                    tx.clear(clock::key(*node));
                }
                Ok(())
            })
            .await
    }

    /// Returns the recorded time of each run of a node.
    pub async fn clocks(&self) -> Result<Vec<(BootId, Timestamp)>, Error> {
        let range = Range::prefix(clock::all()).limit(MAX_CLOCKS);
        self.readable_rows(range, |key, value| {
            Ok((clock::node_of(key)?, Timestamp::decode(value)?))
        })
        .await
    }

    /// Returns the latest recorded time.
    pub async fn latest_clock(&self) -> Result<Option<Timestamp>, Error> {
        Ok(self.clocks().await?.into_iter().map(|(_, time)| time).max())
    }
}
