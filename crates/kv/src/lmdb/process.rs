//! The state of another process on this host, read from `/proc`.

use std::fs;
use std::io;
use std::path::Path;

use rustix::process::Pid;

/// Identifies a process uniquely, as a pid alone may be reused after an exit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ProcessIdentity {
    pub(super) pid: Pid,
    /// The start time in clock ticks since boot.
    pub(super) started: u64,
}

/// A process's observed state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ProcessState {
    /// All threads are stopped, by a signal or a debugger.
    Stopped,
    /// A thread is in uninterruptible sleep, usually waiting for a disk.
    DiskSleep,
    /// Neither. If `cpu_ticks` does not change, the process is idle.
    Runnable { cpu_ticks: u64 },
}

/// Reads a process's identity and state.
///
/// # Errors
/// If the process has exited or is not visible to this one.
pub(super) fn inspect(pid: Pid) -> io::Result<(ProcessIdentity, ProcessState)> {
    let dir = Path::new("/proc").join(pid.to_string());
    let whole = read(&dir)?;
    let mut states = Vec::new();
    for thread in fs::read_dir(dir.join("task"))? {
        // Skip threads that exit meanwhile.
        states.extend(read(&thread?.path()).map(|stat| stat.state));
    }
    let state = classify(&states, whole.cpu_ticks);
    Ok((ProcessIdentity { pid, started: whole.started }, state))
}

/// The process that a thread belongs to.
pub(super) fn of_thread(thread: Pid) -> io::Result<Pid> {
    let status = fs::read_to_string(format!("/proc/{thread}/status"))?;
    let pid = status.lines().find_map(|line| line.strip_prefix("Tgid:")?.trim().parse().ok());
    pid.and_then(Pid::from_raw).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn classify(threads: &[char], cpu_ticks: u64) -> ProcessState {
    let stopped = |state| matches!(state, 'T' | 't');
    // A main thread that exits before the others remains as a zombie.
    let ended = |state| matches!(state, 'Z' | 'X');
    if threads.contains(&'D') {
        ProcessState::DiskSleep
    } else if threads.iter().copied().any(stopped)
        && threads.iter().all(|&state| stopped(state) || ended(state))
    {
        ProcessState::Stopped
    } else {
        ProcessState::Runnable { cpu_ticks }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Stat {
    state: char,
    cpu_ticks: u64,
    started: u64,
}

fn read(dir: &Path) -> io::Result<Stat> {
    let text = fs::read(dir.join("stat"))?;
    parse(&String::from_utf8_lossy(&text)).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Field numbers as in proc_pid_stat(5), which counts from 1. The second field is a parenthesized
/// name that may contain anything, so parsing starts after it.
fn parse(text: &str) -> Option<Stat> {
    let (_, after) = text.rsplit_once(')')?;
    let fields: Vec<_> = after.split_ascii_whitespace().collect();
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    Some(Stat {
        state: fields.first()?.chars().next()?,
        cpu_ticks: number(14)? + number(15)?,
        started: number(22)?,
    })
}

#[cfg(test)]
mod tests {
    use rustix::process::getpid;

    use super::*;

    #[test]
    fn a_process_name_may_look_like_fields() {
        let text = "57 (a) T (b) S 1 57 57 0 -1 4194304 90 0 0 0 11 22 0 0 20 0 3 0 9876 1 2 3";
        let stat = Stat { state: 'S', cpu_ticks: 33, started: 9876 };
        assert_eq!(parse(text), Some(stat));
        assert_eq!(parse("57 (a) S 1"), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn a_process_is_stopped_when_all_its_threads_are() {
        let of = |states: &str| classify(&states.chars().collect::<Vec<_>>(), 5);
        assert_eq!(of("T"), ProcessState::Stopped);
        assert_eq!(of("TTt"), ProcessState::Stopped);
        assert_eq!(of("ZTT"), ProcessState::Stopped);
        assert_eq!(of("tSS"), ProcessState::Runnable { cpu_ticks: 5 });
        assert_eq!(of("TTD"), ProcessState::DiskSleep);
        assert_eq!(of("SDR"), ProcessState::DiskSleep);
        assert_eq!(of("SR"), ProcessState::Runnable { cpu_ticks: 5 });
        assert_eq!(of(""), ProcessState::Runnable { cpu_ticks: 5 });
    }

    #[test]
    fn this_process_is_visible() -> io::Result<()> {
        let (identity, state) = inspect(getpid())?;
        assert_eq!((identity.pid, identity), (getpid(), inspect(getpid())?.0));
        assert_ne!(state, ProcessState::Stopped);
        for thread in fs::read_dir("/proc/self/task")? {
            let name = thread?.file_name();
            let thread = name.to_str().and_then(|name| Pid::from_raw(name.parse().ok()?));
            assert_eq!(of_thread(thread.expect("a number"))?, getpid());
        }
        Ok(())
    }
}
