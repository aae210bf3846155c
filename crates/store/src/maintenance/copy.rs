//! Copies a whole store into another one, whatever their engines. This is how an installation that
//! outgrows one machine moves with all its records.
//!
//! Participants: the *source*, which is only read, and which nobody may write to in the meantime
//! (the caller ensures that); the *target*, which is initially empty; and the [`Marker`], a row of
//! the target that identifies the source and records the progress.
//!
//! Data flow: the source is read once for its [`Digest`]. The marker is written if the target is
//! empty. The rows are copied in key order, in batches: each batch is one transaction that also
//! advances the marker. Then the target is read for its digest. If the digests are equal, the
//! marker is removed. A store with a marker cannot be opened.
//!
//! An interrupted copy resumes when started again. The digest ensures that the source has not
//! changed since: a mix of its old and new states would be neither.
//!
//! Leases are not copied, as the nodes that hold them do not use the target. Owners are copied:
//! none of them has a lease there, so the first node to start takes over every shard at once. The
//! epochs are kept and continue to increase, so that an epoch never denotes two owners, whether in
//! the records, in logs, or to a node that was suspended.

use sha2::{Digest as _, Sha256};

use crate::codec::RecordTx;
use crate::keys::copy_marker::Digest;
use crate::keys::copy_marker::{self, Marker};
use crate::keys::meta::{self, Meta};
use crate::keys::{lease, probe};
use crate::kv::{Error, Pair, Range, Store, prefix_end};
use crate::records::FORMAT;

/// The maximum number of bytes of keys and values per transaction, excluding the marker.
const BATCH_BYTES: usize = 800_000;
/// The maximum number of rows per transaction.
const BATCH_ROWS: usize = 5_000;
/// The target size of a page read at once. A snapshot is held for as long as the read takes.
const PAGE_BYTES: usize = 1 << 20;
/// The maximum number of rows of a page. A page of values of maximum length is 46 MB.
const PAGE_ROWS: usize = 512;
/// The row limit of the first page.
const FIRST_PAGE_ROWS: usize = 64;

/// The result of a successful copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopySummary {
    /// The digest of the source.
    pub source: Digest,
    /// The digest of the target, read back after the copy.
    pub target: Digest,
    /// The number of rows copied by an earlier run.
    pub resumed_rows: u64,
}

/// The current stage of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Computing the digest of the source.
    Reading,
    /// Copying the rows.
    Copying,
    /// Computing the digest of the target.
    Comparing,
}

/// The progress of a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The current stage.
    pub stage: Stage,
    /// The number of rows processed.
    pub rows: u64,
    /// The total number of rows; unknown while the source is first read.
    pub of: Option<u64>,
}

/// Why a copy failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CopyError {
    /// The copy cannot start. The target is unchanged.
    #[error(transparent)]
    Rejected(#[from] CopyRejected),
    /// Reading the source failed. The copy can be resumed.
    #[error("cannot read the source: {0}")]
    Source(#[source] Error),
    /// An operation on the target failed. The copy can be resumed.
    #[error("cannot access the target: {0}")]
    Target(#[from] Error),
    /// Another copy writes to the target.
    #[error("another copy into the same target is running")]
    ConcurrentCopy,
    /// All rows were copied, but the target's contents differ.
    #[error("the contents of the target differ from the source")]
    Differs {
        /// The digest of the source.
        source_digest: Digest,
        /// The digest of the target.
        target_digest: Digest,
    },
}

/// Why a copy cannot start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CopyRejected {
    /// There is nothing to copy.
    #[error("the source contains no records")]
    EmptySource,
    /// The source is incomplete.
    #[error("the source is itself an unfinished copy of another store")]
    SourceUnfinished,
    /// This version does not know which rows to exclude.
    #[error("the source was written by a newer version (format {found}; this one reads {FORMAT})")]
    Newer {
        /// The source's format.
        found: u32,
    },
    /// The target is in use.
    #[error("the target is not empty, and its contents differ from the source")]
    TargetNotEmpty,
    /// The target contains a part of another source, or of this one before it changed.
    #[error(
        "the target contains an unfinished copy of another source, or of this one before it changed"
    )]
    SourceMismatch,
}

/// Copies everything in `from` into `to`, or resumes an interrupted copy. If an earlier run
/// finished without reporting it, this reports success. `on_progress` is called with the progress.
///
/// Nobody may write to `from` in the meantime.
///
/// # Errors
/// If the copy cannot start, or a store fails; in the latter case it can be resumed.
pub async fn copy(
    from: &Store,
    to: &Store,
    on_progress: &(dyn Fn(Progress) + Send + Sync),
) -> Result<CopySummary, CopyError> {
    check_source(from).await?;
    let source =
        digest(from, Stage::Reading, None, on_progress).await.map_err(CopyError::Source)?;
    let Some(marker) = begin(to, source).await? else {
        // An earlier run may have finished without reporting it.
        if are_equal(from, to).await? {
            return Ok(CopySummary { source, target: source, resumed_rows: source.rows });
        }
        return Err(CopyRejected::TargetNotEmpty.into());
    };
    if marker.source != source {
        return Err(CopyRejected::SourceMismatch.into());
    }
    let resumed_rows = marker.rows;
    let marker = transfer(from, to, marker, on_progress).await?;
    let target = digest(to, Stage::Comparing, Some(source.rows), on_progress).await?;
    if target != source {
        return Err(CopyError::Differs { source_digest: source, target_digest: target });
    }
    finish(to, &marker).await?;
    Ok(CopySummary { source, target, resumed_rows })
}

async fn check_source(from: &Store) -> Result<(), CopyError> {
    let found = from.read(|tx| async move {
        let is_unfinished = tx.snap_get(copy_marker::key()).await?.is_some();
        Ok::<_, Error>((is_unfinished, tx.snap_load::<Meta>(&meta::key()).await?))
    });
    match found.await.map_err(CopyError::Source)? {
        (true, _) => Err(CopyRejected::SourceUnfinished.into()),
        (_, None) => Err(CopyRejected::EmptySource.into()),
        (_, Some(Meta { format, .. })) if format > FORMAT => {
            Err(CopyRejected::Newer { found: format }.into())
        }
        _ => Ok(()),
    }
}

/// Writes the marker into an empty target, or loads an existing one. `None` if the target contains
/// other rows.
async fn begin(to: &Store, source: Digest) -> Result<Option<Marker>, CopyError> {
    to.transact(|tx, _| async move {
        if let Some(found) = tx.load(&copy_marker::key()).await? {
            return Ok(Some(found));
        }
        for part in ranges_outside_probes() {
            if !tx.range(part.limit(1)).await?.is_empty() {
                return Ok(None);
            }
        }
        let marker = Marker { source, rows: 0, last: None };
        tx.save(copy_marker::key(), &marker);
        Ok(Some(marker))
    })
    .await
}

/// The ranges in which a target must be empty. Concurrent probes are ignored.
fn ranges_outside_probes() -> [Range; 2] {
    let probes = Range::prefix(probe::all());
    [Range::new([], probes.begin), Range::new(probes.end, prefix_end(&[]))]
}

/// Copies the remaining rows and returns the final marker.
async fn transfer(
    from: &Store,
    to: &Store,
    mut marker: Marker,
    on_progress: &(dyn Fn(Progress) + Send + Sync),
) -> Result<Marker, CopyError> {
    let of = Some(marker.source.rows);
    let mut rows = Rows::after(from, marker.last.as_deref());
    loop {
        on_progress(Progress { stage: Stage::Copying, rows: marker.rows, of });
        let batch = rows.batch().await.map_err(CopyError::Source)?;
        let Some((last, _)) = batch.last() else {
            return Ok(marker);
        };
        let rows = marker.rows + batch.len() as u64;
        let advanced = Marker { source: marker.source, rows, last: Some(last.to_vec()) };
        write(to, &batch, &marker, &advanced).await?;
        marker = advanced;
    }
}

async fn write(
    to: &Store,
    batch: &[Pair],
    before: &Marker,
    after: &Marker,
) -> Result<(), CopyError> {
    to.transact(|tx, _| async move {
        let found: Option<Marker> = tx.load(&copy_marker::key()).await?;
        if found.as_ref() == Some(after) {
            // An earlier run of this closure was committed.
            return Ok(());
        }
        if found.as_ref() != Some(before) {
            return Err(CopyError::ConcurrentCopy);
        }
        for (key, value) in batch {
            tx.set(key.to_vec(), value.clone());
        }
        tx.save(copy_marker::key(), after);
        Ok(())
    })
    .await
}

/// Removes the marker, which makes the target a regular store.
async fn finish(to: &Store, marker: &Marker) -> Result<(), CopyError> {
    to.transact(|tx, maybe_committed| async move {
        match tx.load::<Marker>(&copy_marker::key()).await? {
            Some(found) if found == *marker => tx.clear(copy_marker::key()),
            None if maybe_committed => {}
            _ => return Err(CopyError::ConcurrentCopy),
        }
        Ok(())
    })
    .await
}

async fn digest(
    store: &Store,
    stage: Stage,
    of: Option<u64>,
    on_progress: &(dyn Fn(Progress) + Send + Sync),
) -> Result<Digest, Error> {
    let mut rows = Rows::after(store, None);
    let (mut count, mut bytes, mut hash) = (0, 0, Sha256::new());
    loop {
        on_progress(Progress { stage, rows: count, of });
        let batch = rows.batch().await?;
        if batch.is_empty() {
            return Ok(Digest { rows: count, bytes, sha256: hash.finalize().into() });
        }
        for field in batch.iter().flat_map(|(key, value)| [key, value]) {
            bytes += field.len() as u64;
            hash.update((field.len() as u64).to_be_bytes());
            hash.update(field);
        }
        count += batch.len() as u64;
    }
}

/// Whether two stores have equal contents. Stops at the first difference.
async fn are_equal(from: &Store, to: &Store) -> Result<bool, CopyError> {
    let (mut ours, mut theirs) = (Rows::after(from, None), Rows::after(to, None));
    loop {
        let row = ours.next().await.map_err(CopyError::Source)?;
        if row != theirs.next().await? {
            return Ok(false);
        }
        if row.is_none() {
            return Ok(true);
        }
    }
}

/// Iterates over the rows to copy, in key order.
struct Rows<'a> {
    store: &'a Store,
    /// The first key of the next page.
    begin: Vec<u8>,
    /// The row limit of the next page.
    limit: usize,
    page: std::vec::IntoIter<Pair>,
    /// Whether this is the last page.
    is_last: bool,
    /// A row that was read but not yet returned.
    peeked: Option<Pair>,
}

impl<'a> Rows<'a> {
    fn after(store: &'a Store, last: Option<&[u8]>) -> Self {
        let begin = last.map(key_after).unwrap_or_default();
        let page = Vec::new().into_iter();
        Self { store, begin, limit: FIRST_PAGE_ROWS, page, is_last: false, peeked: None }
    }

    /// The next batch; empty at the end.
    async fn batch(&mut self) -> Result<Vec<Pair>, Error> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while let Some(row) = self.next().await? {
            bytes += size(&row);
            if batch.len() == BATCH_ROWS || bytes > BATCH_BYTES {
                self.peeked = Some(row);
                break;
            }
            batch.push(row);
        }
        Ok(batch)
    }

    async fn next(&mut self) -> Result<Option<Pair>, Error> {
        if let Some(row) = self.peeked.take() {
            return Ok(Some(row));
        }
        loop {
            if let Some(row) = self.page.find(|(key, _)| is_copied(key)) {
                return Ok(Some(row));
            }
            if self.is_last {
                return Ok(None);
            }
            self.next_page().await?;
        }
    }

    async fn next_page(&mut self) -> Result<(), Error> {
        let range = Range::new(self.begin.clone(), prefix_end(&[])).limit(self.limit);
        let page = self.store.rows(range).await?;
        self.is_last = page.len() < self.limit;
        if let Some((last, _)) = page.last() {
            self.begin = key_after(last);
        }
        self.limit = match page.iter().map(size).sum::<usize>() {
            bytes if bytes > PAGE_BYTES => (self.limit / 2).max(1),
            bytes if bytes < PAGE_BYTES / 2 => (self.limit * 2).min(PAGE_ROWS),
            _ => self.limit,
        };
        self.page = page.into_iter();
        Ok(())
    }
}

fn is_copied(key: &[u8]) -> bool {
    let excluded = [lease::all(), probe::all(), copy_marker::key()];
    !excluded.iter().any(|prefix| key.starts_with(prefix))
}

fn size((key, value): &Pair) -> usize {
    key.len() + value.len()
}

/// The first key after `key`.
fn key_after(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}

#[cfg(test)]
mod tests;
