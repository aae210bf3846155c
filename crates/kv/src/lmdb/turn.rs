//! The turnstile in front of LMDB's write lock, which lets the processes of the host write in turn.
//!
//! LMDB's lock is unfair: a process that commits group after group would take it again before
//! another, which waits, has woken up. So a writer first takes `turn`, then `writer`, then gives
//! `turn` back, and gives `writer` back when it has written. Who waits for `writer` has `turn`, and
//! so cannot be overtaken by who has just given `writer` back.
//!
//! Both are record locks of POSIX on files of their own. The kernel takes them from a process that
//! dies, and tells everybody which process holds them: that is what the [`watchdog`] looks at. In
//! return they are the whole process's, so that there is one [`Turnstile`] in a process, which one
//! thread has at a time; and to close any descriptor of the files gives the locks away, so that each
//! file is opened once. (Locks of an open file description would be simpler, but have no holder to
//! be asked for.)
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

/// The pause after the kernel has mistaken a wait for a deadlock.
const DEADLOCK_PAUSE: Duration = Duration::from_millis(1);

/// This process's way to a turn.
pub(super) struct Turnstile {
    gate: Arc<Gate>,
}

/// The right to write, until it is dropped.
pub(super) struct Turn<'t> {
    gate: &'t Gate,
}

/// The two locks, as the watchdog sees them too.
pub(super) struct Gate {
    turn: File,
    writer: File,
    /// Odd while this process waits for a turn.
    waits: AtomicU64,
}

/// Who keeps the others from writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holder {
    Process(Pid),
    /// A process of another pid namespace.
    Unseen,
}

impl Turnstile {
    /// To be called once for a directory that this process does not have open.
    pub(super) fn open(dir: &Path) -> io::Result<Self> {
        let open = |name| {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false).mode(0o600);
            options.open(dir.join(name))
        };
        let (turn, writer) = (open("turn.lock")?, open("writer.lock")?);
        Ok(Self { gate: Arc::new(Gate { turn, writer, waits: AtomicU64::new(0) }) })
    }

    pub(super) fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    /// Waits for this process's turn.
    ///
    /// # Errors
    /// The kernel has no room for a lock.
    pub(super) fn take(&mut self) -> io::Result<Turn<'_>> {
        self.gate.waits.fetch_add(1, Ordering::Relaxed);
        let taken = self.gate.pass();
        self.gate.waits.fetch_add(1, Ordering::Relaxed);
        taken.map(|()| Turn { gate: &self.gate })
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        unlock(&self.gate.writer);
    }
}

impl Gate {
    /// Which wait for a turn is under way in this process.
    pub(super) fn wait(&self) -> Option<u64> {
        let waits = self.waits.load(Ordering::Relaxed);
        (waits % 2 == 1).then_some(waits)
    }

    /// The other process that has the locks: the one that writes, or else the one that would.
    pub(super) fn holder(&self) -> io::Result<Option<Holder>> {
        Ok(match holder(&self.writer)? {
            None => holder(&self.turn)?,
            writer => writer,
        })
    }

    fn pass(&self) -> io::Result<()> {
        wait_for(&self.turn)?;
        #[cfg(test)]
        super::hook::reached(super::hook::Stage::Turn);
        let taken = wait_for(&self.writer);
        unlock(&self.turn);
        taken
    }
}

fn wait_for(file: &File) -> io::Result<()> {
    loop {
        match fcntl_lock(file, FlockOperation::LockExclusive) {
            Ok(()) => return Ok(()),
            Err(Errno::INTR) => {}
            // The kernel looks at processes, not threads: two processes that share two stores can
            // wait for each other without being in each other's way.
            Err(Errno::DEADLK) => std::thread::sleep(DEADLOCK_PAUSE),
            Err(error) => return Err(error.into()),
        }
    }
}

fn unlock(file: &File) {
    if let Err(error) = fcntl_lock(file, FlockOperation::Unlock) {
        tracing::error!(%error, "cannot give back the store's write lock");
    }
}

fn holder(file: &File) -> io::Result<Option<Holder>> {
    let lock = fcntl_getlk(file, &Flock::from(FlockType::WriteLock))?;
    Ok(lock.map(|lock| lock.pid.map_or(Holder::Unseen, Holder::Process)))
}
