//! The disk reserve, and the classification of failed writes.
//!
//! The data file is allocated ahead of use, so that a full disk is detected here in time rather
//! than by LMDB in the middle of a commit. The store is then nearly full: new work is rejected, and
//! accepted work finishes in the reserve. This works like a ballast file that an operator deletes
//! in an emergency, except that no other process can take the space in between.
//!
//! The file never shrinks, but LMDB reuses its free pages. So when the disk or the map has no space
//! for the reserve, free pages take its place: deleting data makes room.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;

use heed::{Env, MdbError, WithoutTls};
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

use super::files::{free_length, used_length};
use super::write_lock::WriteGuard;

/// The file is extended when less than this is allocated beyond the last used page.
const RESERVE: u64 = 8 << 20;
/// How much the file is extended at a time.
const STEP: u64 = 16 << 20;

pub(super) struct DiskReserve {
    env: Env<WithoutTls>,
    file: File,
    /// The last known length of the file.
    allocated: u64,
}

impl DiskReserve {
    pub(super) fn new(env: Env<WithoutTls>) -> Result<Self, heed::Error> {
        let file = env.try_clone_inner_file()?;
        let allocated = file.metadata()?.len();
        Ok(Self { env, file, allocated })
    }

    /// Whether the data file was removed from its directory, so that everything written is lost.
    pub(super) fn is_removed(&self) -> bool {
        self.file.metadata().is_ok_and(|metadata| metadata.nlink() == 0)
    }

    /// Restores the reserve if necessary; false if there is no space for it. Requires the write
    /// lock, as every process of the host does this.
    pub(super) fn ensure(&mut self, guard: &WriteGuard<'_>) -> bool {
        let map_size = self.env.info().map_size as u64;
        let wanted = used_length(&self.env) + RESERVE;
        let fits_map = wanted <= map_size;
        if fits_map && self.allocated >= wanted {
            return true;
        }
        // Another process may have extended it.
        self.allocated = self.file.metadata().map_or(0, |metadata| metadata.len());
        let is_allocated = self.allocated >= wanted.min(map_size)
            || self.grow((wanted + STEP - RESERVE).min(map_size));
        (fits_map && is_allocated) || self.has_room(guard)
    }

    /// Whether there is room of the size of the reserve within the file. Free pages count half: a
    /// large value needs a run of them, and a snapshot keeps those that were freed after it.
    pub(super) fn has_room(&self, _guard: &WriteGuard<'_>) -> bool {
        let map_size = self.env.info().map_size as u64;
        let beyond_used = self.allocated.min(map_size).saturating_sub(used_length(&self.env));
        beyond_used + free_length(&self.env) / 2 >= RESERVE
    }

    /// After a commit, extends the file to the length that the store's metadata implies. Without
    /// the reserve it may be shorter, as LMDB does not write pages that a transaction allocated and
    /// freed. A short file would be rejected as damaged, even after a power failure, so the length
    /// is synced. Call while still holding the commit's write lock, so that no process opens the
    /// store meanwhile.
    pub(super) fn extend_to_used(&mut self, _guard: &WriteGuard<'_>) {
        let used = used_length(&self.env);
        if self.allocated >= used {
            return;
        }
        self.allocated = self.file.metadata().map_or(used, |metadata| metadata.len());
        let grown = || self.file.set_len(used).and_then(|()| self.file.sync_all());
        if self.allocated < used && grown().is_ok() {
            self.allocated = used;
        }
    }

    fn grow(&mut self, target: u64) -> bool {
        let more = target.saturating_sub(self.allocated);
        match fallocate(&self.file, FallocateFlags::empty(), self.allocated, more) {
            Ok(()) => {
                self.allocated = target;
                true
            }
            Err(Errno::NOSPC | Errno::DQUOT | Errno::FBIG) => false,
            // The file system does not support preallocation.
            Err(_) => true,
        }
    }

    /// Whether `error` means a full disk, so that nothing was written and a retry may succeed
    /// later. Otherwise the disk has failed.
    pub(super) fn is_out_of_space(&mut self, error: &heed::Error, _guard: &WriteGuard<'_>) -> bool {
        match error {
            heed::Error::Mdb(MdbError::MapFull | MdbError::TxnFull) => true,
            heed::Error::Io(error) => match Errno::from_io_error(error) {
                Some(Errno::NOSPC | Errno::DQUOT | Errno::FBIG) => true,
                // LMDB reports a short write as EIO. It is a full disk only if allocation fails
                // now.
                Some(Errno::IO) => self.probe_disk_full(),
                _ => false,
            },
            _ => false,
        }
    }

    fn probe_disk_full(&mut self) -> bool {
        let length = self.file.metadata().map(|metadata| metadata.len());
        let grown = length.map(|length| (self.allocated = length, self.grow(length + STEP)));
        matches!(grown, Ok(((), false)))
    }
}

/// Whether `error` came from the operating system rather than from LMDB's own checks.
pub(super) fn is_os_error(error: &heed::Error) -> bool {
    matches!(error, heed::Error::Io(error) if error.kind() != io::ErrorKind::OutOfMemory)
        || matches!(error, heed::Error::Mdb(MdbError::Panic))
}
