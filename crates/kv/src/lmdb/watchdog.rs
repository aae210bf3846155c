//! The thread that ends a process of the host which keeps all the others from the store.
//!
//! A process that is stopped (SIGSTOP, a debugger) or frozen while it has the write lock would stop
//! every writer of the host for as long. So, while this process waits for its turn, its watchdog
//! looks at whoever has the lock, [`Suspicion`] judges what is seen, and who is found guilty is
//! killed: LMDB undoes the commit that was under way, and nothing that was acknowledged is lost.
//! The lock on the table of [`readers`](super::readers) is watched in the same way.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use heed::{Env, WithoutTls};
use rustix::process::{Pid, PidfdFlags, Signal, getpid, pidfd_open, pidfd_send_signal};
use tokio::time::Instant;

use super::process::{Condition, look_at};
use super::readers::Readers;
use super::suspicion::{Obstacle, Suspect, Suspicion, Verdict};
use super::turn::{Gate, Holder};

/// How often the watchdog looks whether this process waits.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Watches until it is dropped.
pub(super) struct Watchdog {
    opened: Option<Sender<Store>>,
    thread: Option<JoinHandle<()>>,
}

impl Watchdog {
    /// Begins before the store is open, as opening it takes a turn as well.
    pub(super) fn start(gate: Arc<Gate>) -> io::Result<Self> {
        let (opened, news) = channel();
        let watch = Watch { gate, store: None, suspicions: Default::default(), said: false };
        let thread = std::thread::Builder::new()
            .name("store-watchdog".to_owned())
            .spawn(move || watch.run(&news))?;
        Ok(Self { opened: Some(opened), thread: Some(thread) })
    }

    /// The store is open: from now on a commit counts as movement.
    pub(super) fn opened(&self, env: Env<WithoutTls>, lock_file: Arc<File>) {
        if let Some(opened) = &self.opened {
            // If the thread is gone, its panic was reported there.
            let _ = opened.send(Store { env, readers: Readers::new(lock_file) });
        }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.opened = None;
        if let Some(thread) = self.thread.take() {
            // A panic there was reported there.
            let _ = thread.join();
        }
    }
}

/// What can be seen once the store is open.
struct Store {
    env: Env<WithoutTls>,
    /// Below `env`, and so dropped after it.
    readers: Readers,
}

struct Watch {
    /// Above `store`, and so dropped before it: see [`Embedded`](super::Embedded).
    gate: Arc<Gate>,
    store: Option<Store>,
    /// One for each [`Lock`].
    suspicions: [Suspicion; 2],
    /// Whether a holder that cannot be seen was reported.
    said: bool,
}

/// What a process may keep from the others.
#[derive(Debug, Clone, Copy)]
enum Lock {
    Write,
    Readers,
}

impl Watch {
    fn run(mut self, news: &Receiver<Store>) {
        loop {
            match news.recv_timeout(LOOK_EVERY) {
                Ok(store) => self.store = Some(store),
                Err(RecvTimeoutError::Timeout) => {
                    self.look(Lock::Write);
                    self.look(Lock::Readers);
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn look(&mut self, lock: Lock) {
        let seen = self.suspect(lock);
        let suspicion = &mut self.suspicions[lock as usize];
        let Some((suspect, condition)) = seen else {
            suspicion.clear();
            return;
        };
        if let Some(verdict) = suspicion.judge(suspect, condition, Instant::now()) {
            self.execute(lock, suspect, verdict);
        }
    }

    /// Who is in this process's way.
    fn suspect(&mut self, lock: Lock) -> Option<(Suspect, Condition)> {
        let obstacle = self.obstacle(lock)?;
        let pid = self.holder(lock)?;
        match look_at(pid) {
            Ok((process, condition)) => Some((Suspect { process, obstacle }, condition)),
            // It has ended.
            Err(error) if is_gone(&error) && self.holder(lock) != Some(pid) => None,
            Err(error) => {
                self.say_unseen(&error);
                None
            }
        }
    }

    fn obstacle(&self, lock: Lock) -> Option<Obstacle> {
        match lock {
            Lock::Write => {
                let version = self.store.as_ref().map(|store| store.env.info().last_txn_id);
                self.gate.wait().map(|wait| Obstacle::Write { wait, version })
            }
            Lock::Readers => {
                let thread = self.store.as_ref()?.readers.thread().ok()??;
                Some(Obstacle::Readers { thread })
            }
        }
    }

    /// The process that has a lock.
    fn holder(&mut self, lock: Lock) -> Option<Pid> {
        match lock {
            Lock::Write => self.writer(),
            Lock::Readers => {
                let readers = &self.store.as_ref()?.readers;
                // The lock is given back in no time, and so mostly has been by now.
                readers.process(readers.thread().ok()??).ok()?
            }
        }
    }

    fn writer(&mut self) -> Option<Pid> {
        match self.gate.holder() {
            Ok(Some(Holder::Process(pid))) => Some(pid),
            Ok(Some(Holder::Unseen)) => {
                self.say_unseen(&"it is in another pid namespace");
                None
            }
            Ok(None) => None,
            Err(error) => {
                tracing::warn!(%error, "cannot ask who has the store's write lock");
                None
            }
        }
    }

    fn say_unseen(&mut self, why: &dyn std::fmt::Display) {
        if !std::mem::replace(&mut self.said, true) {
            tracing::warn!(
                %why,
                "cannot see the process that has the store's write lock; \
                 if it stops, nobody ends it, and nothing can be written"
            );
        }
    }

    fn execute(&mut self, lock: Lock, suspect: Suspect, verdict: Verdict) {
        let pid = suspect.process.pid;
        if pid == getpid() || pid.is_init() {
            return;
        }
        match self.kill(lock, suspect) {
            Ok(true) => tracing::error!(
                %pid, ?lock, ?verdict,
                "killed a process that had a lock of the store and did not move"
            ),
            Ok(false) => {}
            Err(error) => tracing::error!(
                %pid, ?lock, ?verdict, %error,
                "cannot kill a process that has a lock of the store and does not move"
            ),
        }
    }

    /// Kills the suspect if it is, after all, the one that is in the way.
    fn kill(&mut self, lock: Lock, suspect: Suspect) -> io::Result<bool> {
        let pid = suspect.process.pid;
        // From here on the number cannot come to mean another process unnoticed.
        let process = pidfd_open(pid, PidfdFlags::empty())?;
        if self.holder(lock) != Some(pid) || look_at(pid)?.0 != suspect.process {
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
