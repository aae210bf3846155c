//! Copying a whole store into another one, whatever their engines: how somebody who outgrows one
//! machine goes on with all that is on record.
//!
//! Who takes part: the *source*, which is only read, and on which nobody may work meanwhile (the
//! caller sees to that); the *target*, which holds nothing at first; and the [`Marker`], a row of the
//! target that says whose copy it holds a part of, and how far that has come.
//!
//! How data passes through: the source is read once for its [`Digest`]. The marker is written if
//! nothing else is there. Then the rows go over in the order of their keys, in batches: each is one
//! transaction, and moves the marker on. Then the target is read for its digest, and when the two
//! are alike, the marker goes. Nobody opens the records while it is there.
//!
//! A copy that was ended at any moment goes on when it is started again. The digest tells whether
//! the source is still the one that was begun with: half of what it was and half of what it became
//! would be neither.
//!
//! Leases are not copied: the nodes that they tell of do not run on the target. The owners are: none
//! of them has a lease there, so that every shard is taken at once by whoever starts first; and with
//! them stay the epochs, which count on, so that an epoch never means two owners, in the records, in
//! logs, or to a node that was asleep.

use sha2::{Digest as _, Sha256};

use crate::codec::RecordTx;
use crate::keys::copying::{self, Marker};
use crate::keys::meta::{self, Meta};
use crate::keys::{lease, probe};
use crate::kv::{Error, Pair, Range, Store, prefix_end};
use crate::records::FORMAT;
use serde::{Deserialize, Serialize};

/// The most bytes of keys and values that go over in one transaction, beside the marker.
const BATCH_BYTES: usize = 800_000;
/// The most rows that go over in one transaction.
const BATCH_ROWS: usize = 5_000;
/// How many bytes a page should have that is read at once: a snapshot is held for as long.
const PAGE_BYTES: usize = 1 << 20;
/// The most rows of a page. One that turns out to be of the longest values has 46 MB.
const PAGE_ROWS: usize = 512;
/// The rows of the first page.
const FIRST_PAGE_ROWS: usize = 64;

/// What a store holds, in short: alike for those that hold the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digest {
    /// How many rows there are.
    pub rows: u64,
    /// How many bytes their keys and values have.
    pub bytes: u64,
    /// SHA-256 over all keys and values in order, the length before each.
    pub sha256: [u8; 32],
}

/// A copy that has ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copied {
    /// What the source holds.
    pub source: Digest,
    /// What the target holds, as it was read back from there.
    pub target: Digest,
    /// How many of the rows an earlier run had copied.
    pub earlier: u64,
}

/// What is being done at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The source is read for its digest.
    Reading,
    /// Its rows go over.
    Copying,
    /// The target is read for its digest.
    Comparing,
}

/// How far a stage has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The stage.
    pub stage: Stage,
    /// How many rows it is through with.
    pub rows: u64,
    /// How many there are; not known while the source is first read.
    pub of: Option<u64>,
}

/// Why a copy did not end well.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CopyError {
    /// It must not be begun. The target is as it was.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The source failed. The copy can be started again.
    #[error("the source cannot be read: {0}")]
    Source(#[source] Error),
    /// The target failed. The copy can be started again.
    #[error("the target failed: {0}")]
    Target(#[from] Error),
    /// Somebody else writes to the target.
    #[error("another copy into the same target is under way")]
    Overtaken,
    /// The target does not hold what the source does, though all went over.
    #[error("the target does not hold what the source does")]
    Differs {
        /// What the source holds.
        source_digest: Digest,
        /// What the target holds.
        target_digest: Digest,
    },
}

/// Why a copy must not be begun.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is nothing to copy.
    #[error("the source holds no records")]
    NothingThere,
    /// The source is no whole store.
    #[error("the source is itself an unfinished copy of another store")]
    Unfinished,
    /// This version does not know which rows to leave out.
    #[error("the source was written by a newer version (format {found}; this one reads {FORMAT})")]
    Newer {
        /// Its format.
        found: u32,
    },
    /// The target is somebody's.
    #[error("the target holds something already, and not the same as the source")]
    Occupied,
    /// Copied is another source, or this one before it changed.
    #[error(
        "the target holds an unfinished copy of another source, or of this one before it changed"
    )]
    OtherSource,
}

/// Copies everything in `from` into `to`, or goes on with that where an earlier run was ended; also
/// when it had come to its end and nobody was told. `watch` hears how far it has come.
///
/// Nobody may write to `from` meanwhile.
///
/// # Errors
/// When it must not be begun, or a store fails; then it can be started again.
pub async fn copy(
    from: &Store,
    to: &Store,
    watch: &(dyn Fn(Progress) + Send + Sync),
) -> Result<Copied, CopyError> {
    check_source(from).await?;
    let source = digest(from, Stage::Reading, None, watch).await.map_err(CopyError::Source)?;
    let Some(marker) = begin(to, source).await? else {
        // All of it may be there, from a run that was ended just before it could say so.
        if are_alike(from, to).await? {
            return Ok(Copied { source, target: source, earlier: source.rows });
        }
        return Err(Refusal::Occupied.into());
    };
    if marker.source != source {
        return Err(Refusal::OtherSource.into());
    }
    let earlier = marker.rows;
    let marker = transfer(from, to, marker, watch).await?;
    let target = digest(to, Stage::Comparing, Some(source.rows), watch).await?;
    if target != source {
        return Err(CopyError::Differs { source_digest: source, target_digest: target });
    }
    finish(to, &marker).await?;
    Ok(Copied { source, target, earlier })
}

async fn check_source(from: &Store) -> Result<(), CopyError> {
    let found = from.read(|tx| async move {
        let is_part = tx.snap_get(copying::key()).await?.is_some();
        Ok::<_, Error>((is_part, tx.snap_load::<Meta>(&meta::key()).await?))
    });
    match found.await.map_err(CopyError::Source)? {
        (true, _) => Err(Refusal::Unfinished.into()),
        (_, None) => Err(Refusal::NothingThere.into()),
        (_, Some(Meta { format, .. })) if format > FORMAT => {
            Err(Refusal::Newer { found: format }.into())
        }
        _ => Ok(()),
    }
}

/// Writes the marker into an empty target, or finds the one that is there; none if something else
/// is.
async fn begin(to: &Store, source: Digest) -> Result<Option<Marker>, CopyError> {
    to.transact(|tx, _| async move {
        if let Some(found) = tx.load(&copying::key()).await? {
            return Ok(Some(found));
        }
        for part in around_probes() {
            if !tx.range(part.limit(1)).await?.is_empty() {
                return Ok(None);
            }
        }
        let marker = Marker { source, rows: 0, last: None };
        tx.save(copying::key(), &marker);
        Ok(Some(marker))
    })
    .await
}

/// Where a target must be empty. Who tries it out at the same time is no hindrance.
fn around_probes() -> [Range; 2] {
    let probes = Range::prefix(probe::all());
    [Range::new([], probes.begin), Range::new(probes.end, prefix_end(&[]))]
}

/// Copies what is not there yet, and gives the marker as it is then.
async fn transfer(
    from: &Store,
    to: &Store,
    mut marker: Marker,
    watch: &(dyn Fn(Progress) + Send + Sync),
) -> Result<Marker, CopyError> {
    let of = Some(marker.source.rows);
    let mut rows = Rows::after(from, marker.last.as_deref());
    loop {
        watch(Progress { stage: Stage::Copying, rows: marker.rows, of });
        let batch = rows.batch().await.map_err(CopyError::Source)?;
        let Some((last, _)) = batch.last() else {
            return Ok(marker);
        };
        let rows = marker.rows + batch.len() as u64;
        let moved = Marker { source: marker.source, rows, last: Some(last.to_vec()) };
        write(to, &batch, &marker, &moved).await?;
        marker = moved;
    }
}

async fn write(to: &Store, batch: &[Pair], now: &Marker, then: &Marker) -> Result<(), CopyError> {
    to.transact(|tx, _| async move {
        let found: Option<Marker> = tx.load(&copying::key()).await?;
        if found.as_ref() == Some(then) {
            // An earlier run of this was committed after all.
            return Ok(());
        }
        if found.as_ref() != Some(now) {
            return Err(CopyError::Overtaken);
        }
        for (key, value) in batch {
            tx.set(key.to_vec(), value.clone());
        }
        tx.save(copying::key(), then);
        Ok(())
    })
    .await
}

/// From here on the target is a store like any other.
async fn finish(to: &Store, marker: &Marker) -> Result<(), CopyError> {
    to.transact(|tx, maybe_committed| async move {
        match tx.load::<Marker>(&copying::key()).await? {
            Some(found) if found == *marker => tx.clear(copying::key()),
            None if maybe_committed => {}
            _ => return Err(CopyError::Overtaken),
        }
        Ok(())
    })
    .await
}

async fn digest(
    store: &Store,
    stage: Stage,
    of: Option<u64>,
    watch: &(dyn Fn(Progress) + Send + Sync),
) -> Result<Digest, Error> {
    let mut rows = Rows::after(store, None);
    let (mut count, mut bytes, mut hash) = (0, 0, Sha256::new());
    loop {
        watch(Progress { stage, rows: count, of });
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

/// Whether two stores hold the same. The first difference ends it, so that it takes long only if
/// they do.
async fn are_alike(from: &Store, to: &Store) -> Result<bool, CopyError> {
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

/// The rows of a store that a copy is about, in order.
struct Rows<'a> {
    store: &'a Store,
    /// Where the page after this one begins.
    begin: Vec<u8>,
    /// How many rows that page has at most.
    limit: usize,
    page: std::vec::IntoIter<Pair>,
    /// Whether there is no page after this one.
    ended: bool,
    /// Read and not yet handed out.
    held: Option<Pair>,
}

impl<'a> Rows<'a> {
    fn after(store: &'a Store, last: Option<&[u8]>) -> Self {
        let begin = last.map(behind).unwrap_or_default();
        let page = Vec::new().into_iter();
        Self { store, begin, limit: FIRST_PAGE_ROWS, page, ended: false, held: None }
    }

    /// As many rows as go over at once; none at the end.
    async fn batch(&mut self) -> Result<Vec<Pair>, Error> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while let Some(row) = self.next().await? {
            bytes += size(&row);
            if batch.len() == BATCH_ROWS || bytes > BATCH_BYTES {
                self.held = Some(row);
                break;
            }
            batch.push(row);
        }
        Ok(batch)
    }

    async fn next(&mut self) -> Result<Option<Pair>, Error> {
        if let Some(row) = self.held.take() {
            return Ok(Some(row));
        }
        loop {
            if let Some(row) = self.page.find(|(key, _)| is_copied(key)) {
                return Ok(Some(row));
            }
            if self.ended {
                return Ok(None);
            }
            self.turn_over().await?;
        }
    }

    async fn turn_over(&mut self) -> Result<(), Error> {
        let range = Range::new(self.begin.clone(), prefix_end(&[])).limit(self.limit);
        let page = self.store.rows(range).await?;
        self.ended = page.len() < self.limit;
        if let Some((last, _)) = page.last() {
            self.begin = behind(last);
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
    let left_out = [lease::all(), probe::all(), copying::key()];
    !left_out.iter().any(|prefix| key.starts_with(prefix))
}

fn size((key, value): &Pair) -> usize {
    key.len() + value.len()
}

/// The first key after this one.
fn behind(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}

#[cfg(test)]
mod tests;
