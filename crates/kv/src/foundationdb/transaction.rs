//! One transaction: reads at one version, writes gathered until the commit.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use foundationdb::options::{StreamingMode, TransactionOption};
use foundationdb::{FdbResult, KeySelector, RangeOption};
use futures::future::try_join_all;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

use super::group::{self, Stretch, Submission};
use super::{Cluster, failure};
use crate::{Change, Error, Pair, Range, Scan, Transaction, Writes, lock};

pub(super) struct FdbTransaction {
    cluster: Arc<Cluster>,
    commits: mpsc::Sender<Submission>,
    is_urgent: bool,
    /// Never commits; its version is that of its first read.
    reader: foundationdb::Transaction,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What must not have changed at the commit.
    reads: Vec<Stretch>,
    /// Values that were fetched ahead.
    fetched: HashMap<Vec<u8>, Option<Bytes>>,
    writes: Writes,
}

impl FdbTransaction {
    pub(super) fn begin(
        cluster: Arc<Cluster>,
        commits: mpsc::Sender<Submission>,
    ) -> FdbResult<Self> {
        let reader = cluster.database.create_trx()?;
        // What it wrote itself is laid over what it reads here, not in the client.
        reader.set_option(TransactionOption::ReadYourWritesDisable)?;
        Ok(Self { cluster, commits, is_urgent: false, reader, state: Mutex::default() })
    }

    /// One that joins no group, and whose reads have priority at the cluster.
    pub(super) fn begin_urgent(
        cluster: Arc<Cluster>,
        commits: mpsc::Sender<Submission>,
    ) -> FdbResult<Self> {
        let transaction = Self::begin(cluster, commits)?;
        transaction.reader.set_option(TransactionOption::PrioritySystemImmediate)?;
        Ok(Self { is_urgent: true, ..transaction })
    }

    /// The value of `key` after this transaction's own writes. If it is `checked` and came from the
    /// store, it is remembered.
    async fn value(&self, key: &[u8], checked: bool) -> Result<Option<Bytes>, Error> {
        let change = lock(&self.state).writes.of(key);
        match change {
            Some(Change::Set(value)) => return Ok(Some(value)),
            Some(Change::Clear) => return Ok(None),
            Some(Change::Add(_)) | None => {}
        }
        let value = self.stored(key).await?;
        if checked {
            lock(&self.state).reads.push((key.to_vec(), [key, &[0]].concat()));
        }
        Ok(match change {
            Some(change) => change.apply(value.as_deref()),
            None => value,
        })
    }

    async fn stored(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        if let Some(value) = lock(&self.state).fetched.get(key) {
            return Ok(value.clone());
        }
        // Always a snapshot read: what is to be checked is told at the commit.
        let value = self.reader.get(&self.cluster.key(key), true).await.map_err(failure::of)?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    /// The rows of `range` after this transaction's own writes. If they are `checked`, the part of
    /// the range that was looked at is remembered.
    async fn rows(&self, range: Range, checked: bool) -> Result<Vec<Pair>, Error> {
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let limit = range.limit;
        let touched = lock(&self.state).writes.touch(&range.begin, &range.end);
        let scan = self.scan(range, touched).await?;
        let mut state = lock(&self.state);
        let rows = scan.after(&state.writes, limit);
        if checked {
            state.reads.push((scan.begin, scan.end));
        }
        Ok(rows)
    }

    /// Reads the store until `range.limit` rows were found that survive this transaction's own
    /// writes.
    async fn scan(&self, range: Range, touched: bool) -> Result<Scan, Error> {
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
            let page = self.reader.get_range(&options, 1, true).await.map_err(failure::of)?;
            for row in &page {
                let key = self.cluster.without_prefix(row.key());
                found += usize::from(!touched || lock(&self.state).writes.keep(key));
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
    fn fetches_ahead(&self) -> bool {
        true
    }

    async fn prefetch(&self, mut keys: Vec<Vec<u8>>) -> Result<(), Error> {
        keys.sort_unstable();
        keys.dedup();
        let values = try_join_all(keys.iter().map(|key| self.stored(key))).await?;
        lock(&self.state).fetched.extend(keys.into_iter().zip(values));
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
        lock(&self.state).writes.set(key, value);
    }

    fn clear(&self, key: Vec<u8>) {
        lock(&self.state).writes.clear(key);
    }

    fn clear_range(&self, begin: Vec<u8>, end: Vec<u8>) {
        lock(&self.state).writes.clear_range(begin, end);
    }

    fn add(&self, key: Vec<u8>, delta: i64) {
        lock(&self.state).writes.add(key, delta);
    }

    async fn commit(self: Box<Self>) -> Result<(), Error> {
        let Self { cluster, commits, is_urgent, reader, state } = *self;
        let State { reads, writes, .. } =
            state.into_inner().unwrap_or_else(PoisonError::into_inner);
        if writes.is_empty() {
            return Ok(());
        }
        let version = match reads.is_empty() {
            true => None,
            false => Some(reader.get_read_version().await.map_err(failure::of)?),
        };
        drop(reader);
        let (answer, answered) = oneshot::channel();
        let submission = Submission { reads, version, writes, answer };
        if is_urgent {
            tokio::spawn(async move { group::commit_alone(submission, &cluster).await });
            return answered.await.unwrap_or(Err(Error::MaybeCommitted));
        }
        commits.try_send(submission).map_err(|error| match error {
            TrySendError::Full(_) => Error::Unavailable("too many transactions wait".to_owned()),
            TrySendError::Closed(_) => stopped(),
        })?;
        // Without an answer nobody knows what became of it.
        answered.await.unwrap_or(Err(Error::MaybeCommitted))
    }
}

fn stopped() -> Error {
    Error::Unavailable("the store has stopped".to_owned())
}
