//! Trying a store out, beside whatever else goes on in it.

use bytes::Bytes;

use crate::codec::RecordTx;
use crate::keys::copying::{self, Marker};
use crate::keys::meta::{self, Meta};
use crate::keys::probe;
use crate::kv::{Error, Range, Store};

/// Writes and reads rows that are no records, in a place of its own. Clones are the same probe.
#[derive(Clone, Debug)]
pub struct Probe {
    store: Store,
    run: u64,
}

/// What a store holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// No records: nobody has opened it yet.
    Nothing,
    /// Records.
    Records {
        /// Their layout; see [`FORMAT`](crate::FORMAT).
        format: u32,
        /// How many shards there are.
        shards: u16,
    },
    /// A part of another store.
    UnfinishedCopy {
        /// How many rows are there.
        rows: u64,
        /// How many there will be.
        of: u64,
    },
}

impl Probe {
    /// A probe of `store`; two that are at work at once need different numbers.
    #[must_use]
    pub fn new(store: Store, run: u64) -> Self {
        Self { store, run }
    }

    /// What the store holds.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn find(&self) -> Result<Found, Error> {
        self.store
            .read(|tx| async move {
                if let Some(marker) = tx.snap_load::<Marker>(&copying::key()).await? {
                    let Marker { rows, source, .. } = marker;
                    return Ok(Found::UnfinishedCopy { rows, of: source.rows });
                }
                let meta: Option<Meta> = tx.snap_load(&meta::key()).await?;
                Ok(meta.map_or(Found::Nothing, |Meta { format, shards }| Found::Records {
                    format,
                    shards,
                }))
            })
            .await
    }

    /// Writes a row.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn write(&self, row: u64, value: Bytes) -> Result<(), Error> {
        let (key, value) = (&probe::key(self.run, row), &value);
        self.store
            .transact(|tx, _| async move {
                tx.set(key.clone(), value.clone());
                Ok(())
            })
            .await
    }

    /// Reads a row.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn read(&self, row: u64) -> Result<Option<Bytes>, Error> {
        let key = &probe::key(self.run, row);
        self.store.read(|tx| async move { tx.get(key).await }).await
    }

    /// Removes every row that this probe has written.
    ///
    /// # Errors
    /// When the store fails.
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
    async fn what_is_there_is_told_and_stays() {
        let store = Store::new(Arc::new(Memory::new()), 1);
        let (one, two) = (Probe::new(store.clone(), 1), Probe::new(store.clone(), 2));
        assert_eq!(one.find().await, Ok(Found::Nothing));
        Records::open(store, 8).await.unwrap();
        for probe in [&one, &two] {
            probe.write(3, Bytes::from_static(b"x")).await.unwrap();
        }
        one.remove().await.unwrap();
        assert_eq!(one.read(3).await, Ok(None));
        assert_eq!(two.read(3).await, Ok(Some(Bytes::from_static(b"x"))));
        assert_eq!(one.find().await, Ok(Found::Records { format: FORMAT, shards: 8 }));
    }
}
