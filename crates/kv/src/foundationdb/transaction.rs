//! A transaction: reads at one version, with writes buffered until the commit.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use foundationdb::options::{StreamingMode, TransactionOption};
use foundationdb::{FdbResult, KeySelector, RangeOption};
use futures::future::try_join_all;
use parking_lot::Mutex;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

use super::committer::{self, KeyRange, Submission};
use super::{Cluster, failure};
use crate::{Change, Error, Pair, Range, Scan, Transaction, Writes};

pub(super) struct FdbTransaction {
    cluster: Arc<Cluster>,
    commits: mpsc::Sender<Submission>,
    is_urgent: bool,
    /// Used for reads only; its read version is fixed by the first read.
    reader: foundationdb::Transaction,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The ranges that must be unchanged at the commit.
    reads: Vec<KeyRange>,
    /// Prefetched values.
    prefetched: HashMap<Vec<u8>, Option<Bytes>>,
    writes: Writes,
}

impl FdbTransaction {
    pub(super) fn begin(
        cluster: Arc<Cluster>,
        commits: mpsc::Sender<Submission>,
    ) -> FdbResult<Self> {
        let reader = cluster.database.create_trx()?;
        // Our own writes are overlaid on reads here, not by the client.
        reader.set_option(TransactionOption::ReadYourWritesDisable)?;
        Ok(Self { cluster, commits, is_urgent: false, reader, state: Mutex::default() })
    }

    /// A transaction that joins no group and reads with system-immediate priority.
    pub(super) fn begin_urgent(
        cluster: Arc<Cluster>,
        commits: mpsc::Sender<Submission>,
    ) -> FdbResult<Self> {
        let transaction = Self::begin(cluster, commits)?;
        transaction.reader.set_option(TransactionOption::PrioritySystemImmediate)?;
        Ok(Self { is_urgent: true, ..transaction })
    }

    /// The value of `key` including this transaction's own writes. If `checked`, a value that came
    /// from the store is recorded as a read conflict.
    async fn value(&self, key: &[u8], checked: bool) -> Result<Option<Bytes>, Error> {
        let change = self.state.lock().writes.get(key);
        match change {
            Some(Change::Set(value)) => return Ok(Some(value)),
            Some(Change::Clear) => return Ok(None),
            Some(Change::Add(_)) | None => {}
        }
        let value = self.stored(key).await?;
        if checked {
            self.state.lock().reads.push((key.to_vec(), [key, &[0]].concat()));
        }
        Ok(match change {
            Some(change) => change.apply(value.as_deref()),
            None => value,
        })
    }

    async fn stored(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        if let Some(value) = self.state.lock().prefetched.get(key) {
            return Ok(value.clone());
        }
        // Always a snapshot read: conflict ranges are added at the commit.
        let value =
            self.reader.get(&self.cluster.key(key), true).await.map_err(failure::from_read)?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    /// The rows of `range` including this transaction's own writes. If `checked`, the part of the
    /// range that was scanned is recorded as a read conflict.
    async fn rows(&self, range: Range, checked: bool) -> Result<Vec<Pair>, Error> {
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let limit = range.limit;
        let overlaps = self.state.lock().writes.overlaps(&range.begin, &range.end);
        let scan = self.scan(range, overlaps).await?;
        let mut state = self.state.lock();
        let rows = scan.after(&state.writes, limit);
        if checked {
            state.reads.push((scan.begin, scan.end));
        }
        Ok(rows)
    }

    /// Reads the store until `range.limit` rows survive this transaction's own writes.
    async fn scan(&self, range: Range, overlaps: bool) -> Result<Scan, Error> {
        let (mut begin, mut end) = (self.cluster.key(&range.begin), self.cluster.key(&range.end));
        let mut rows = Vec::new();
        let mut found = 0;
        loop {
            let wanted = range.limit - found;
            let options = RangeOption {
                begin: KeySelector::first_greater_or_equal(begin.as_slice()),
                end: KeySelector::first_greater_or_equal(end.as_slice()),
                limit: i32::try_from(wanted).ok().and(Some(wanted)),
                reverse: range.reverse,
                mode: StreamingMode::WantAll,
                ..RangeOption::default()
            };
            let page =
                self.reader.get_range(&options, 1, true).await.map_err(failure::from_read)?;
            for row in &page {
                let key = self.cluster.without_prefix(row.key());
                found += usize::from(!overlaps || self.state.lock().writes.keeps(key));
                rows.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(row.value())));
            }
            match page.last() {
                Some(last) if page.more() && found < range.limit => {
                    if range.reverse {
                        end = last.key().to_vec();
                    } else {
                        begin = [last.key(), &[0]].concat();
                    }
                }
                _ => break,
            }
        }
        let all = found < range.limit;
        Ok(Scan::new(range, rows, all))
    }
}

#[async_trait]
impl Transaction for FdbTransaction {
    fn supports_prefetch(&self) -> bool {
        true
    }

    async fn prefetch(&self, mut keys: Vec<Vec<u8>>) -> Result<(), Error> {
        keys.sort_unstable();
        keys.dedup();
        let values = try_join_all(keys.iter().map(|key| self.stored(key))).await?;
        self.state.lock().prefetched.extend(keys.into_iter().zip(values));
        Ok(())
    }

    async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        self.value(key, true).await
    }

    async fn snap_get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        self.value(key, false).await
    }

    async fn range(&self, range: Range) -> Result<Vec<Pair>, Error> {
        self.rows(range, true).await
    }

    async fn snap_range(&self, range: Range) -> Result<Vec<Pair>, Error> {
        self.rows(range, false).await
    }

    fn set(&self, key: Vec<u8>, value: Bytes) {
        self.state.lock().writes.set(key, value);
    }

    fn clear(&self, key: Vec<u8>) {
        self.state.lock().writes.clear(key);
    }

    fn clear_range(&self, begin: Vec<u8>, end: Vec<u8>) {
        self.state.lock().writes.clear_range(begin, end);
    }

    fn add(&self, key: Vec<u8>, delta: i64) {
        self.state.lock().writes.add(key, delta);
    }

    async fn commit(self: Box<Self>) -> Result<(), Error> {
        let Self { cluster, commits, is_urgent, reader, state } = *self;
        let State { reads, writes, .. } = state.into_inner();
        if writes.is_empty() {
            return Ok(());
        }
        let version = match reads.is_empty() {
            true => None,
            false => Some(reader.get_read_version().await.map_err(failure::from_read)?),
        };
        drop(reader);
        let (reply, reply_rx) = oneshot::channel();
        let submission = Submission { reads, version, writes, reply };
        if is_urgent {
            tokio::spawn(async move { committer::commit_single(submission, &cluster).await });
            return reply_rx.await.unwrap_or(Err(Error::MaybeCommitted));
        }
        commits.try_send(submission).map_err(|error| match error {
            TrySendError::Full(_) => {
                Error::Unavailable("too many transactions are queued".to_owned())
            }
            TrySendError::Closed(_) => stopped(),
        })?;
        // Without a reply the commit's result is unknown.
        reply_rx.await.unwrap_or(Err(Error::MaybeCommitted))
    }
}

fn stopped() -> Error {
    Error::Unavailable("the store has stopped".to_owned())
}
