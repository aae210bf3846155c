//! A transaction's read and write sets, for engines that validate reads by value at the commit.

use bytes::Bytes;

use super::{Change, Error, Pair, Range, Writes};

/// A stored row.
pub(crate) type Row<'a> = (&'a [u8], &'a [u8]);

/// A consistent state of the store to read from.
pub(crate) trait Snapshot {
    fn value(&self, key: &[u8]) -> Result<Option<&[u8]>, Error>;

    /// The rows with `begin ≤ key < end`, in descending order if `reverse`.
    fn rows<'a>(
        &'a self,
        begin: &'a [u8],
        end: &'a [u8],
        reverse: bool,
    ) -> Result<impl Iterator<Item = Result<Row<'a>, Error>>, Error>;
}

/// The reads to validate and the writes to apply.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    gets: Vec<(Vec<u8>, Option<Bytes>)>,
    ranges: Vec<Scan>,
    pub(crate) writes: Writes,
}

/// A key range that was read, with every row in it.
#[derive(Debug)]
pub(crate) struct Scan {
    pub(crate) begin: Vec<u8>,
    pub(crate) end: Vec<u8>,
    rows: Vec<Pair>,
    reverse: bool,
}

impl Buffer {
    /// The value of `key` including this transaction's own writes. If `checked`, a value that came
    /// from the snapshot is recorded for validation.
    pub(crate) fn get(
        &mut self,
        snapshot: &impl Snapshot,
        key: &[u8],
        checked: bool,
    ) -> Result<Option<Bytes>, Error> {
        let change = self.writes.get(key);
        match change {
            Some(Change::Set(value)) => return Ok(Some(value)),
            Some(Change::Clear) => return Ok(None),
            Some(Change::Add(_)) | None => {}
        }
        let value = snapshot.value(key)?.map(Bytes::copy_from_slice);
        if checked {
            self.gets.push((key.to_vec(), value.clone()));
        }
        Ok(match change {
            Some(change) => change.apply(value.as_deref()),
            None => value,
        })
    }

    /// The rows of `range` including this transaction's own writes. If `checked`, the part of the
    /// range that was scanned is recorded for validation.
    pub(crate) fn range(
        &mut self,
        snapshot: &impl Snapshot,
        range: Range,
        checked: bool,
    ) -> Result<Vec<Pair>, Error> {
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let limit = range.limit;
        let overlaps = self.writes.overlaps(&range.begin, &range.end);
        let scan = self.scan(snapshot, range, overlaps)?;
        let result = if overlaps { scan.after(&self.writes, limit) } else { scan.rows.clone() };
        if checked {
            self.ranges.push(scan);
        }
        Ok(result)
    }

    /// Reads the snapshot until `range.limit` rows survive this transaction's own writes, and
    /// narrows the range to the scanned part.
    fn scan(&self, snapshot: &impl Snapshot, range: Range, overlaps: bool) -> Result<Scan, Error> {
        let mut rows = Vec::new();
        let mut found = 0;
        for row in snapshot.rows(&range.begin, &range.end, range.reverse)? {
            let (key, value) = row?;
            found += usize::from(!overlaps || self.writes.keeps(key));
            rows.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
            if found == range.limit {
                break;
            }
        }
        let all = found < range.limit;
        Ok(Scan::new(range, rows, all))
    }

    pub(crate) fn keys_read(&self) -> impl Iterator<Item = &[u8]> {
        self.gets.iter().map(|(key, _)| key.as_slice())
    }

    /// The ranges read, as `(begin, end)`.
    pub(crate) fn ranges_read(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.ranges.iter().map(|scan| (scan.begin.as_slice(), scan.end.as_slice()))
    }

    /// Whether every recorded read is the same in `snapshot`.
    pub(crate) fn is_unchanged_in(&self, snapshot: &impl Snapshot) -> Result<bool, Error> {
        for (key, value) in &self.gets {
            if snapshot.value(key)? != value.as_deref() {
                return Ok(false);
            }
        }
        for scan in &self.ranges {
            if !scan.is_unchanged_in(snapshot)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Scan {
    /// The scanned part of `range`: `all` of it, or up to the last of `rows`.
    pub(crate) fn new(range: Range, rows: Vec<Pair>, all: bool) -> Self {
        let Range { mut begin, mut end, reverse, .. } = range;
        match rows.last() {
            Some((last, _)) if !all && reverse => begin = last.to_vec(),
            Some((last, _)) if !all => end = [last.as_ref(), &[0]].concat(),
            _ => {}
        }
        Self { begin, end, rows, reverse }
    }

    /// The first `limit` rows after applying `writes`.
    pub(crate) fn after(&self, writes: &Writes, limit: usize) -> Vec<Pair> {
        let merged = writes.overlay(&self.rows, &self.begin, &self.end).into_iter();
        if self.reverse { merged.rev().take(limit).collect() } else { merged.take(limit).collect() }
    }

    fn is_unchanged_in(&self, snapshot: &impl Snapshot) -> Result<bool, Error> {
        let mut rows = snapshot.rows(&self.begin, &self.end, self.reverse)?;
        for (key, value) in &self.rows {
            match rows.next().transpose()? {
                Some(row) if row == (key.as_ref(), value.as_ref()) => {}
                _ => return Ok(false),
            }
        }
        Ok(rows.next().is_none())
    }
}
