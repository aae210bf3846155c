//! Tests and measures a store without touching its records.

use bytes::Bytes;

use crate::codec::RecordTx;
use crate::keys::copy_marker::{self, Marker};
use crate::keys::meta::{self, Meta};
use crate::keys::probe;
use crate::kv::{Error, Range, Store};

/// Writes and reads test rows in a key range of its own. Clones share that range.
#[derive(Clone, Debug)]
pub struct Probe {
    store: Store,
    run: u64,
}

/// The contents of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreContents {
    /// No records: the store was never opened.
    Empty,
    /// Records.
    Records {
        /// The records' format; see [`FORMAT`](crate::FORMAT).
        format: u32,
        /// The number of shards.
        shards: u16,
    },
    /// An unfinished copy of another store.
    UnfinishedCopy {
        /// The number of rows copied.
        rows: u64,
        /// The total number of rows.
        of: u64,
    },
}

impl Probe {
    /// A probe of `store`. Concurrent probes need different values of `run`.
    #[must_use]
    pub fn new(store: Store, run: u64) -> Self {
        Self { store, run }
    }

    pub async fn contents(&self) -> Result<StoreContents, Error> {
        self.store
            .read(|tx| async move {
                if let Some(marker) = tx.snap_load::<Marker>(&copy_marker::key()).await? {
                    let Marker { rows, source, .. } = marker;
                    return Ok(StoreContents::UnfinishedCopy { rows, of: source.rows });
                }
                let meta: Option<Meta> = tx.snap_load(&meta::key()).await?;
                Ok(meta.map_or(StoreContents::Empty, |Meta { format, shards }| {
                    StoreContents::Records { format, shards }
                }))
            })
            .await
    }

    /// Writes a test row.
    pub async fn write(&self, row: u64, value: Bytes) -> Result<(), Error> {
        let (key, value) = (&probe::key(self.run, row), &value);
        self.store
            .transact(|tx, _| async move {
                tx.set(key.clone(), value.clone());
                Ok(())
            })
            .await
    }

    /// Reads a test row.
    pub async fn read(&self, row: u64) -> Result<Option<Bytes>, Error> {
        let key = &probe::key(self.run, row);
        self.store.read(|tx| async move { tx.get(key).await }).await
    }

    /// Removes the rows that this probe has written.
    pub async fn remove(&self) -> Result<(), Error> {
        let rows = &Range::prefix(probe::of(self.run));
        self.store
            .transact(|tx, _| async move {
                tx.clear_range(rows.begin.clone(), rows.end.clone());
                Ok(())
            })
            .await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::kv::memory::Memory;
    use crate::{FORMAT, Records};

    #[tokio::test]
    async fn a_probe_reports_the_contents_and_leaves_other_rows() {
        let store = Store::new(Arc::new(Memory::new()), 1);
        let (one, two) = (Probe::new(store.clone(), 1), Probe::new(store.clone(), 2));
        assert_eq!(one.contents().await, Ok(StoreContents::Empty));
        Records::open(store, 8).await.unwrap();
        for probe in [&one, &two] {
            probe.write(3, Bytes::from_static(b"x")).await.unwrap();
        }
        one.remove().await.unwrap();
        assert_eq!(one.read(3).await, Ok(None));
        assert_eq!(two.read(3).await, Ok(Some(Bytes::from_static(b"x"))));
        assert_eq!(one.contents().await, Ok(StoreContents::Records { format: FORMAT, shards: 8 }));
    }
}
