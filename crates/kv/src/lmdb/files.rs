//! Checks that LMDB does not make before it maps its files. Touching a mapped page beyond the end
//! of the file, or one that the disk has no space for, kills the process with SIGBUS.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use heed::{DatabaseStat, Env, WithoutTls};
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

/// The size of both meta pages at the smallest page size.
const META_PAGES: u64 = 2 * 4096;
/// The size of a reader slot in the lock file.
const SLOT_SIZE: u64 = 64;
/// An upper bound for the size of the lock file's header.
const LOCK_HEADER: u64 = 8192;

/// Why the files of a directory cannot be opened as a store.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    #[error(transparent)]
    Lmdb(#[from] heed::Error),
    #[error("the disk has no space for lock.mdb; free some disk space")]
    LockFile(#[source] io::Error),
    #[error(
        "the store is damaged: data.mdb is shorter than the expected {expected} bytes; \
         restore it from a backup"
    )]
    Truncated { expected: u64 },
}

impl From<io::Error> for FileError {
    fn from(error: io::Error) -> Self {
        Self::Lmdb(error.into())
    }
}

/// Allocates the lock file on disk, as LMDB would create a sparse file and write to it through a
/// map. The file must stay open as long as this process has the environment open: closing it
/// releases all locks that the process holds on it, including LMDB's.
pub(super) fn allocate_lock_file(dir: &Path, readers: u32) -> Result<File, FileError> {
    let path = dir.join("lock.mdb");
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let file = options.open(path)?;
    let size = u64::from(readers) * SLOT_SIZE + LOCK_HEADER;
    match fallocate(&file, FallocateFlags::empty(), 0, size) {
        Err(error @ (Errno::NOSPC | Errno::DQUOT | Errno::FBIG)) => {
            Err(FileError::LockFile(error.into()))
        }
        // Allocated, or the file system does not support preallocation.
        _ => Ok(file),
    }
}

/// Rejects a data file that was truncated within its meta pages. An empty file is valid: an
/// interrupted first start leaves one behind.
pub(super) fn check_meta_pages(dir: &Path) -> Result<(), FileError> {
    match std::fs::metadata(dir.join("data.mdb")) {
        Ok(data) if (1..META_PAGES).contains(&data.len()) => {
            Err(FileError::Truncated { expected: META_PAGES })
        }
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Rejects a data file that ends before its last page. Call before reading any page other than the
/// meta pages.
pub(super) fn check_length(env: &Env<WithoutTls>) -> Result<(), FileError> {
    let expected = used_length(env);
    if env.real_disk_size()? < expected {
        return Err(FileError::Truncated { expected });
    }
    Ok(())
}

/// The length of the data file up to the last page ever used.
pub(super) fn used_length(env: &Env<WithoutTls>) -> u64 {
    let page_size = u64::from(env.unnamed_database_stat().page_size);
    (env.info().last_page_number as u64 + 1) * page_size
}

/// The length of the pages before [`used_length`] that hold no rows. This includes the list of free
/// pages, which is small. Nothing is counted: LMDB keeps the number of pages with rows.
pub(super) fn free_length(env: &Env<WithoutTls>) -> u64 {
    let DatabaseStat { page_size, branch_pages, leaf_pages, overflow_pages, .. } =
        env.unnamed_database_stat();
    let page_size = u64::from(page_size);
    let with_rows = (branch_pages + leaf_pages + overflow_pages) as u64 * page_size;
    used_length(env).saturating_sub(META_PAGES.max(2 * page_size) + with_rows)
}
