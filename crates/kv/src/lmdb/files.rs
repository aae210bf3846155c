//! What LMDB does not ask of its files before it maps them. To touch a mapped page that the file
//! does not have, or that the disk has no room for, kills the process.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use heed::{Env, WithoutTls};
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

/// Both meta pages, with the smallest pages there are.
const META_PAGES: u64 = 2 * 4096;
/// One reader's slot in the lock file.
const SLOT: u64 = 64;
/// More than the lock file's header has.
const LOCK_HEADER: u64 = 8192;

/// Why a directory's files are no store.
#[derive(Debug, thiserror::Error)]
pub(super) enum Problem {
    #[error(transparent)]
    Lmdb(#[from] heed::Error),
    #[error("there is no room for lock.mdb")]
    LockFile(#[source] io::Error),
    #[error(
        "the store is damaged: data.mdb is shorter than its {expected} bytes; \
         restore it from a backup"
    )]
    Short { expected: u64 },
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Self {
        Self::Lmdb(error.into())
    }
}

/// Gives the lock file its room on the disk, as LMDB would make it a hole and write to it through
/// a map. The file must stay open for as long as this process has the environment open: closing it
/// ends the locks that the process has on it, LMDB's among them.
pub(super) fn allocate_lock_file(dir: &Path, readers: u32) -> Result<File, Problem> {
    let path = dir.join("lock.mdb");
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let file = options.open(path)?;
    let size = u64::from(readers) * SLOT + LOCK_HEADER;
    match fallocate(&file, FallocateFlags::empty(), 0, size) {
        Err(error @ (Errno::NOSPC | Errno::DQUOT | Errno::FBIG)) => {
            Err(Problem::LockFile(error.into()))
        }
        // Done, or a file system that cannot allocate ahead: do without.
        _ => Ok(file),
    }
}

/// Refuses a data file that has been cut within its meta pages. An empty one is what a first
/// start leaves that was ended early.
pub(super) fn check_meta_pages(dir: &Path) -> Result<(), Problem> {
    match std::fs::metadata(dir.join("data.mdb")) {
        Ok(data) if (1..META_PAGES).contains(&data.len()) => {
            Err(Problem::Short { expected: META_PAGES })
        }
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Refuses a data file that ends before its last page. To be called before any page but the meta
/// pages is read.
pub(super) fn check_length(env: &Env<WithoutTls>) -> Result<(), Problem> {
    let expected = used(env);
    if env.real_disk_size()? < expected {
        return Err(Problem::Short { expected });
    }
    Ok(())
}

/// How long the data file is with the last page that was ever used.
pub(super) fn used(env: &Env<WithoutTls>) -> u64 {
    let page_size = u64::from(env.unnamed_database_stat().page_size);
    (env.info().last_page_number as u64 + 1) * page_size
}
