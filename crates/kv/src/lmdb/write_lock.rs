//! A fair lock in front of LMDB's write lock, shared by the processes of the host.
//!
//! LMDB's lock is unfair: a process that commits continuously would retake it before a waiting
//! process wakes up. So a writer first locks `queue`, then `writer`, then unlocks `queue`, and
//! unlocks `writer` when it has written. The process that waits for `writer` holds `queue`, so the
//! previous writer cannot overtake it.
//!
//! Both are POSIX record locks on files of their own. The kernel releases them when a process dies,
//! and can tell which process holds them, which the [`watchdog`] relies on. In return, they belong
//! to the whole process: there is one [`WriteLock`] per process, used by one thread at a time, and
//! each file is opened once, since closing any descriptor of it releases the lock. (Locks of an
//! open file description would be simpler, but the kernel does not tell their holder.)
//!
//! [`watchdog`]: super::watchdog

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::fs::{FlockOperation, fcntl_lock};
use rustix::io::Errno;
use rustix::process::{Flock, FlockType, Pid, fcntl_getlk};

/// The pause after a false deadlock report from the kernel.
const DEADLOCK_PAUSE: Duration = Duration::from_millis(1);

/// This process's handle to the lock.
pub(super) struct WriteLock {
    files: Arc<LockFiles>,
}

/// Holds the write lock until dropped.
pub(super) struct WriteGuard<'t> {
    files: &'t LockFiles,
}

/// The two lock files, shared with the watchdog.
pub(super) struct LockFiles {
    queue: File,
    writer: File,
    /// Odd while this process waits for the lock.
    wait_sequence: AtomicU64,
}

/// The holder of a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LockOwner {
    Process(Pid),
    /// A process in another pid namespace.
    OtherNamespace,
}

impl WriteLock {
    /// Call once per directory, and only if this process does not have it open.
    pub(super) fn open(dir: &Path) -> io::Result<Self> {
        let open = |name| {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false).mode(0o600);
            options.open(dir.join(name))
        };
        // The file names are shared with processes of earlier versions, so they never change.
        let (queue, writer) = (open("turn.lock")?, open("writer.lock")?);
        Ok(Self { files: Arc::new(LockFiles { queue, writer, wait_sequence: AtomicU64::new(0) }) })
    }

    pub(super) fn files(&self) -> &Arc<LockFiles> {
        &self.files
    }

    /// Blocks until this process holds the write lock.
    ///
    /// # Errors
    /// If the kernel is out of locks.
    pub(super) fn acquire(&mut self) -> io::Result<WriteGuard<'_>> {
        self.files.wait_sequence.fetch_add(1, Ordering::Relaxed);
        let locked = self.files.lock();
        self.files.wait_sequence.fetch_add(1, Ordering::Relaxed);
        locked.map(|()| WriteGuard { files: &self.files })
    }
}

impl Drop for WriteGuard<'_> {
    fn drop(&mut self) {
        unlock(&self.files.writer);
    }
}

impl LockFiles {
    /// The number of the wait in progress, if this process is waiting.
    pub(super) fn current_wait(&self) -> Option<u64> {
        let wait_sequence = self.wait_sequence.load(Ordering::Relaxed);
        (wait_sequence % 2 == 1).then_some(wait_sequence)
    }

    /// The other process that holds a lock: the writer, or else the next in the queue.
    pub(super) fn owner(&self) -> io::Result<Option<LockOwner>> {
        Ok(match owner(&self.writer)? {
            None => owner(&self.queue)?,
            writer => writer,
        })
    }

    fn lock(&self) -> io::Result<()> {
        lock_file(&self.queue)?;
        #[cfg(test)]
        super::failpoint::hit(super::failpoint::Failpoint::Queued);
        let locked = lock_file(&self.writer);
        unlock(&self.queue);
        locked
    }
}

fn lock_file(file: &File) -> io::Result<()> {
    loop {
        match fcntl_lock(file, FlockOperation::LockExclusive) {
            Ok(()) => return Ok(()),
            Err(Errno::INTR) => {}
            // The kernel's deadlock detection is per process, not per thread: two processes that
            // share two stores can appear to wait for each other without a deadlock.
            Err(Errno::DEADLK) => std::thread::sleep(DEADLOCK_PAUSE),
            Err(error) => return Err(error.into()),
        }
    }
}

fn unlock(file: &File) {
    if let Err(error) = fcntl_lock(file, FlockOperation::Unlock) {
        tracing::error!(%error, "releasing the store's write lock failed");
    }
}

fn owner(file: &File) -> io::Result<Option<LockOwner>> {
    let lock = fcntl_getlk(file, &Flock::from(FlockType::WriteLock))?;
    Ok(lock.map(|lock| lock.pid.map_or(LockOwner::OtherNamespace, LockOwner::Process)))
}
