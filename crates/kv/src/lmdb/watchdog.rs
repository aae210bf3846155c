//! The watchdog thread, which kills a process of the host that holds a lock but has stalled.
//!
//! A process that is stopped (SIGSTOP, a debugger) or frozen while it holds the write lock would
//! block every writer on the host. So while this process waits for the lock, its watchdog inspects
//! the holder. If the [`StallDetector`] reports a stall, the watchdog kills the holder: LMDB
//! discards the unfinished commit, and no acknowledged write is lost. The mutex of LMDB's [reader
//! table](super::reader_table) is watched in the same way.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use heed::{Env, WithoutTls};
use rustix::process::{Pid, PidfdFlags, Signal, getpid, pidfd_open, pidfd_send_signal};
use tokio::time::Instant;

use super::process::{ProcessState, inspect};
use super::reader_table::ReaderTable;
use super::stall::{LockHolder, LockProgress, Stall, StallDetector};
use super::write_lock::{LockFiles, LockOwner};

/// How often the watchdog checks whether this process is waiting for a lock.
const CHECK_INTERVAL: Duration = Duration::from_millis(250);

/// Stops the thread when dropped.
pub(super) struct Watchdog {
    opened: Option<Sender<OpenStore>>,
    thread: Option<JoinHandle<()>>,
}

impl Watchdog {
    /// Starts before the store is open, as opening it takes the write lock too.
    pub(super) fn start(lock_files: Arc<LockFiles>) -> io::Result<Self> {
        let (opened, opened_rx) = channel();
        let watcher =
            Watcher { lock_files, store: None, detectors: Default::default(), warned: false };
        let thread = std::thread::Builder::new()
            .name("store-watchdog".to_owned())
            .spawn(move || watcher.run(&opened_rx))?;
        Ok(Self { opened: Some(opened), thread: Some(thread) })
    }

    /// Called once the store is open: from then on, a new commit counts as progress.
    pub(super) fn opened(&self, env: Env<WithoutTls>, lock_file: Arc<File>) {
        if let Some(opened) = &self.opened {
            // Ignore a closed channel: the thread has panicked, and the panic was reported.
            let _ = opened.send(OpenStore { env, reader_table: ReaderTable::new(lock_file) });
        }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.opened = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was already reported.
            let _ = thread.join();
        }
    }
}

/// Available once the store is open.
struct OpenStore {
    env: Env<WithoutTls>,
    /// Declared after `env`, so that it is dropped after it.
    reader_table: ReaderTable,
}

struct Watcher {
    /// Declared before `store`, so that it is dropped first: see [`Lmdb`](super::Lmdb).
    lock_files: Arc<LockFiles>,
    store: Option<OpenStore>,
    /// One per [`LockKind`].
    detectors: [StallDetector; 2],
    /// Whether the warning about an invisible holder was logged.
    warned: bool,
}

/// The locks that a stalled process can block others with.
#[derive(Debug, Clone, Copy)]
enum LockKind {
    Write,
    ReaderTable,
}

impl Watcher {
    fn run(mut self, opened_rx: &Receiver<OpenStore>) {
        loop {
            match opened_rx.recv_timeout(CHECK_INTERVAL) {
                Ok(store) => self.store = Some(store),
                Err(RecvTimeoutError::Timeout) => {
                    self.check(LockKind::Write);
                    self.check(LockKind::ReaderTable);
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn check(&mut self, kind: LockKind) {
        let found = self.find_holder(kind);
        let detector = &mut self.detectors[kind as usize];
        let Some((holder, state)) = found else {
            detector.clear();
            return;
        };
        if let Some(stall) = detector.check(holder, state, Instant::now()) {
            self.kill(kind, holder, stall);
        }
    }

    /// The process that blocks this one.
    fn find_holder(&mut self, kind: LockKind) -> Option<(LockHolder, ProcessState)> {
        let progress = self.lock_progress(kind)?;
        let pid = self.holder_pid(kind)?;
        match inspect(pid) {
            Ok((process, state)) => Some((LockHolder { process, progress }, state)),
            // The process has exited.
            Err(error) if is_gone(&error) && self.holder_pid(kind) != Some(pid) => None,
            Err(error) => {
                self.warn_invisible(&error);
                None
            }
        }
    }

    fn lock_progress(&self, kind: LockKind) -> Option<LockProgress> {
        match kind {
            LockKind::Write => {
                let version = self.store.as_ref().map(|store| store.env.info().last_txn_id);
                self.lock_files.current_wait().map(|wait| LockProgress::Write { wait, version })
            }
            LockKind::ReaderTable => {
                let thread = self.store.as_ref()?.reader_table.lock_holder_thread().ok()??;
                Some(LockProgress::ReaderTable { thread })
            }
        }
    }

    fn holder_pid(&mut self, kind: LockKind) -> Option<Pid> {
        match kind {
            LockKind::Write => self.write_lock_owner(),
            LockKind::ReaderTable => {
                let reader_table = &self.store.as_ref()?.reader_table;
                // The mutex is held only briefly, so it has usually been released by now.
                reader_table.process_of(reader_table.lock_holder_thread().ok()??).ok()?
            }
        }
    }

    fn write_lock_owner(&mut self) -> Option<Pid> {
        match self.lock_files.owner() {
            Ok(Some(LockOwner::Process(pid))) => Some(pid),
            Ok(Some(LockOwner::OtherNamespace)) => {
                self.warn_invisible(&"it is in another pid namespace");
                None
            }
            Ok(None) => None,
            Err(error) => {
                tracing::warn!(%error, "finding the holder of the store's write lock failed");
                None
            }
        }
    }

    fn warn_invisible(&mut self, reason: &dyn std::fmt::Display) {
        if !std::mem::replace(&mut self.warned, true) {
            tracing::warn!(
                %reason,
                "the process that holds the store's write lock is not visible; \
                 if it stalls, it cannot be killed and all writes block"
            );
        }
    }

    fn kill(&mut self, kind: LockKind, holder: LockHolder, stall: Stall) {
        let pid = holder.process.pid;
        if pid == getpid() || pid.is_init() {
            return;
        }
        match self.kill_if_still_holding(kind, holder) {
            Ok(true) => tracing::error!(
                %pid, lock = ?kind, ?stall,
                "killed a stalled process that held a lock of the store"
            ),
            Ok(false) => {}
            Err(error) => tracing::error!(
                %pid, lock = ?kind, ?stall, %error,
                "killing a stalled process that holds a lock of the store failed"
            ),
        }
    }

    /// Kills the holder unless it has released the lock in the meantime.
    fn kill_if_still_holding(&mut self, kind: LockKind, holder: LockHolder) -> io::Result<bool> {
        let pid = holder.process.pid;
        // From here on, the pid cannot be reused for another process unnoticed.
        let process = pidfd_open(pid, PidfdFlags::empty())?;
        if self.holder_pid(kind) != Some(pid) || inspect(pid)?.0 != holder.process {
            return Ok(false);
        }
        pidfd_send_signal(&process, Signal::KILL)?;
        Ok(true)
    }
}

fn is_gone(error: &io::Error) -> bool {
    use rustix::io::Errno;

    error.kind() == io::ErrorKind::NotFound
        || error.raw_os_error() == Some(Errno::SRCH.raw_os_error())
}
