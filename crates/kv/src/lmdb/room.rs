//! Disk space kept in reserve, and what a failed write means.
//!
//! The data file is allocated ahead of its use, so that a full disk is met here, in good time,
//! rather than by LMDB in the middle of a commit: the store is then nearly full, new work is to be
//! refused, and the work at hand is finished in the reserve. This is the ballast file that one
//! would delete in an emergency, only that nobody else can take the room in between.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;

use heed::{Env, MdbError, WithoutTls};
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

use super::files::used;
use super::turn::Turn;

/// The file grows when less than this lies allocated beyond the last page in use.
const RESERVE: u64 = 8 << 20;
/// How much it grows at a time.
const STEP: u64 = 16 << 20;

pub(super) struct Room {
    env: Env<WithoutTls>,
    file: File,
    /// The length of the file as last seen.
    allocated: u64,
}

impl Room {
    pub(super) fn new(env: Env<WithoutTls>) -> Result<Self, heed::Error> {
        let file = env.try_clone_inner_file()?;
        let allocated = file.metadata()?.len();
        Ok(Self { env, file, allocated })
    }

    /// Whether the data file has been removed from its directory: what is written to it is lost.
    pub(super) fn is_removed(&self) -> bool {
        self.file.metadata().is_ok_and(|metadata| metadata.nlink() == 0)
    }

    /// Restores the reserve if need be, and says whether it is there. It takes a turn, as every
    /// process of the host does this.
    pub(super) fn ensure(&mut self, _turn: &Turn<'_>) -> bool {
        let wanted = used(&self.env) + RESERVE;
        if self.allocated >= wanted {
            return true;
        }
        // Another process may have made it grow.
        self.allocated = self.file.metadata().map_or(0, |metadata| metadata.len());
        self.allocated >= wanted || self.grow(wanted + STEP - RESERVE)
    }

    /// After a commit, makes the file as long as the store says it is. Without the reserve it may
    /// be shorter, as LMDB does not write pages that a transaction took and gave back; and a file
    /// that is too short is taken for a damaged one, also after the power was lost, so the length is
    /// synced. To be called in the turn of the commit, so that nobody opens the store in between.
    pub(super) fn cover(&mut self, _turn: &Turn<'_>) {
        let used = used(&self.env);
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
            // A file system that cannot allocate ahead: do without.
            Err(_) => true,
        }
    }

    /// Whether a write or commit that failed with `error` met a full disk, so that nothing was
    /// written and it may be tried again later. If not, the disk has failed.
    pub(super) fn is_full(&mut self, error: &heed::Error, _turn: &Turn<'_>) -> bool {
        match error {
            heed::Error::Mdb(MdbError::MapFull | MdbError::TxnFull) => true,
            heed::Error::Io(error) => match Errno::from_io_error(error) {
                Some(Errno::NOSPC | Errno::DQUOT | Errno::FBIG) => true,
                // LMDB reports a short write as EIO. It is one only if there is no room now.
                Some(Errno::IO) => self.is_disk_full(),
                _ => false,
            },
            _ => false,
        }
    }

    fn is_disk_full(&mut self) -> bool {
        let length = self.file.metadata().map(|metadata| metadata.len());
        let grown = length.map(|length| (self.allocated = length, self.grow(length + STEP)));
        matches!(grown, Ok(((), false)))
    }
}

/// Whether `error` came from the operating system rather than from LMDB's own rules.
pub(super) fn is_io(error: &heed::Error) -> bool {
    matches!(error, heed::Error::Io(error) if error.kind() != io::ErrorKind::OutOfMemory)
        || matches!(error, heed::Error::Mdb(MdbError::Panic))
}
