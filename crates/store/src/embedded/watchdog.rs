//! The thread that ends a process of the host which keeps all the others from writing.
//!
//! A process that is stopped (SIGSTOP, a debugger) or frozen while it has the write lock would stop
//! every writer of the host for as long. So, while this process waits for its turn, its watchdog
//! looks at whoever has the lock, [`Suspicion`] judges what is seen, and who is found guilty is
//! killed: LMDB undoes the commit that was under way, and nothing that was acknowledged is lost.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use heed::{Env, WithoutTls};
use rustix::process::{Pid, PidfdFlags, Signal, getpid, pidfd_open, pidfd_send_signal};
use tokio::time::Instant;

use super::process::{Condition, look_at};
use super::suspicion::{Obstacle, Suspect, Suspicion, Verdict};
use super::turn::{Gate, Holder};

/// How often the watchdog looks whether this process waits.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Watches until it is dropped.
pub(super) struct Watchdog {
    opened: Option<Sender<Env<WithoutTls>>>,
    thread: Option<JoinHandle<()>>,
}

impl Watchdog {
    /// Begins before the store is open, as opening it takes a turn as well.
    pub(super) fn start(gate: Arc<Gate>) -> io::Result<Self> {
        let (opened, news) = channel();
        let watch = Watch { gate, env: None, suspicion: Suspicion::default(), said: false };
        let thread = std::thread::Builder::new()
            .name("store-watchdog".to_owned())
            .spawn(move || watch.run(&news))?;
        Ok(Self { opened: Some(opened), thread: Some(thread) })
    }

    /// The store is open: from now on a commit counts as movement.
    pub(super) fn opened(&self, env: Env<WithoutTls>) {
        if let Some(opened) = &self.opened {
            // If the thread is gone, its panic was reported there.
            let _ = opened.send(env);
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

struct Watch {
    /// Above `env`, and so dropped before it: see [`Embedded`](super::Embedded).
    gate: Arc<Gate>,
    env: Option<Env<WithoutTls>>,
    suspicion: Suspicion,
    /// Whether a holder that cannot be seen was reported.
    said: bool,
}

impl Watch {
    fn run(mut self, news: &Receiver<Env<WithoutTls>>) {
        loop {
            match news.recv_timeout(LOOK_EVERY) {
                Ok(env) => self.env = Some(env),
                Err(RecvTimeoutError::Timeout) => self.look(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn look(&mut self) {
        let Some((suspect, condition)) = self.suspect() else {
            self.suspicion.clear();
            return;
        };
        if let Some(verdict) = self.suspicion.judge(suspect, condition, Instant::now()) {
            self.execute(suspect, verdict);
        }
    }

    /// Who is in this process's way.
    fn suspect(&mut self) -> Option<(Suspect, Condition)> {
        let wait = self.gate.wait()?;
        let version = self.env.as_ref().map(|env| env.info().last_txn_id);
        let pid = self.holder()?;
        match look_at(pid) {
            Ok((process, condition)) => {
                Some((Suspect { process, obstacle: Obstacle::Write { wait, version } }, condition))
            }
            // It has ended.
            Err(error) if is_gone(&error) && self.holder() != Some(pid) => None,
            Err(error) => {
                self.say_unseen(&error);
                None
            }
        }
    }

    fn holder(&mut self) -> Option<Pid> {
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

    fn execute(&mut self, suspect: Suspect, verdict: Verdict) {
        let pid = suspect.process.pid;
        if pid == getpid() || pid.is_init() {
            return;
        }
        match self.kill(suspect) {
            Ok(true) => tracing::error!(
                %pid, ?verdict,
                "killed a process that had the store's write lock and did not move"
            ),
            Ok(false) => {}
            Err(error) => tracing::error!(
                %pid, ?verdict, %error,
                "cannot kill a process that has the store's write lock and does not move"
            ),
        }
    }

    /// Kills the suspect if it is, after all, the one that is in the way.
    fn kill(&mut self, suspect: Suspect) -> io::Result<bool> {
        let pid = suspect.process.pid;
        // From here on the number cannot come to mean another process unnoticed.
        let process = pidfd_open(pid, PidfdFlags::empty())?;
        if self.holder() != Some(pid) || look_at(pid)?.0 != suspect.process {
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
