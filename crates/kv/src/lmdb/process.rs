//! What the kernel tells about another process of the host, in `/proc`.

use std::fs;
use std::io;
use std::path::Path;

use rustix::process::Pid;

/// A process, for good: its number alone may be given to another when it has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) pid: Pid,
    /// When it was started, in ticks since the host was.
    pub(super) started: u64,
}

/// What a process is seen to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Condition {
    /// All its threads are stopped, by a signal or a debugger.
    Stopped,
    /// A thread is in a sleep that nothing interrupts: as a rule, it waits for a disk.
    AtDisk,
    /// Neither. If `cpu_ticks` does not change, it does nothing.
    Idle { cpu_ticks: u64 },
}

/// Looks at a process.
///
/// # Errors
/// It has ended, or this process may not see it.
pub(super) fn look_at(pid: Pid) -> io::Result<(Identity, Condition)> {
    let dir = Path::new("/proc").join(pid.to_string());
    let whole = read(&dir)?;
    let mut states = Vec::new();
    for thread in fs::read_dir(dir.join("task"))? {
        // A thread may end meanwhile.
        states.extend(read(&thread?.path()).map(|stat| stat.state));
    }
    let condition = condition(&states, whole.cpu_ticks);
    Ok((Identity { pid, started: whole.started }, condition))
}

/// The process that a thread belongs to.
pub(super) fn of_thread(thread: Pid) -> io::Result<Pid> {
    let status = fs::read_to_string(format!("/proc/{thread}/status"))?;
    let pid = status.lines().find_map(|line| line.strip_prefix("Tgid:")?.trim().parse().ok());
    pid.and_then(Pid::from_raw).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn condition(threads: &[char], cpu_ticks: u64) -> Condition {
    let stopped = |state| matches!(state, 'T' | 't');
    // A first thread that has ended before the others stays as a zombie.
    let ended = |state| matches!(state, 'Z' | 'X');
    if threads.contains(&'D') {
        Condition::AtDisk
    } else if threads.iter().copied().any(stopped)
        && threads.iter().all(|&state| stopped(state) || ended(state))
    {
        Condition::Stopped
    } else {
        Condition::Idle { cpu_ticks }
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

/// The fields are those of proc_pid_stat(5), which counts from 1. The second is a name in brackets
/// that may hold anything; the third is the first one after it.
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
    fn a_name_may_look_like_fields() {
        let text = "57 (a) T (b) S 1 57 57 0 -1 4194304 90 0 0 0 11 22 0 0 20 0 3 0 9876 1 2 3";
        let stat = Stat { state: 'S', cpu_ticks: 33, started: 9876 };
        assert_eq!(parse(text), Some(stat));
        assert_eq!(parse("57 (a) S 1"), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn a_process_is_stopped_when_all_its_threads_are() {
        let of = |states: &str| condition(&states.chars().collect::<Vec<_>>(), 5);
        assert_eq!(of("T"), Condition::Stopped);
        assert_eq!(of("TTt"), Condition::Stopped);
        assert_eq!(of("ZTT"), Condition::Stopped);
        assert_eq!(of("tSS"), Condition::Idle { cpu_ticks: 5 });
        assert_eq!(of("TTD"), Condition::AtDisk);
        assert_eq!(of("SDR"), Condition::AtDisk);
        assert_eq!(of("SR"), Condition::Idle { cpu_ticks: 5 });
        assert_eq!(of(""), Condition::Idle { cpu_ticks: 5 });
    }

    #[test]
    fn this_process_is_seen() -> io::Result<()> {
        let (identity, condition) = look_at(getpid())?;
        assert_eq!((identity.pid, identity), (getpid(), look_at(getpid())?.0));
        assert_ne!(condition, Condition::Stopped);
        for thread in fs::read_dir("/proc/self/task")? {
            let name = thread?.file_name();
            let thread = name.to_str().and_then(|name| Pid::from_raw(name.parse().ok()?));
            assert_eq!(of_thread(thread.expect("a number"))?, getpid());
        }
        Ok(())
    }
}
