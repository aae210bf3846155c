//! The lock on LMDB's table of readers, seen from outside.
//!
//! Every snapshot that begins takes it for a moment, to find itself a slot. A process that is
//! stopped in that moment keeps all the others from reading, and no record lock tells who it is;
//! but the lock itself does, as it holds the number of the thread that has it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use rustix::process::{Flock, FlockOffsetType, FlockType, Pid, fcntl_getlk};

use super::process::of_thread;

/// What the lock file begins with.
const MAGIC: u32 = 0xBEEF_C0DE;
/// Where the mutex lies: behind the magic number, the format, the transaction's number, and the
/// count of slots.
const MUTEX: usize = 24;
/// The bits of the mutex's first word that are the thread's number; above it are flags.
const THREAD: u32 = 0x3FFF_FFFF;
/// Only there is the layout of the mutex known.
const KNOWN: bool = cfg!(all(target_os = "linux", target_env = "gnu", target_pointer_width = "64"));

pub(super) struct Readers {
    /// LMDB's own lock file, which is not to be closed before LMDB closes it.
    file: Arc<File>,
}

impl Readers {
    pub(super) fn new(file: Arc<File>) -> Self {
        Self { file }
    }

    /// The thread that has the lock at the moment, by its number in its own namespace.
    pub(super) fn thread(&self) -> io::Result<Option<Pid>> {
        let mut head = [0; MUTEX + 4];
        self.file.read_exact_at(&mut head, 0)?;
        let word =
            |at: usize| u32::from_ne_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        if !KNOWN || word(0) != MAGIC {
            return Ok(None);
        }
        Ok(Pid::from_raw((word(MUTEX) & THREAD).cast_signed()))
    }

    /// The process of that thread. It must be one that reads this store by the kernel's account, so
    /// that a number of another namespace is not mistaken for a bystander's.
    pub(super) fn process(&self, thread: Pid) -> io::Result<Option<Pid>> {
        let pid = of_thread(thread)?;
        // LMDB locks the byte of a reading process's number.
        let byte = Flock {
            start: u64::from(pid.as_raw_pid().unsigned_abs()),
            length: 1,
            pid: None,
            typ: FlockType::WriteLock,
            offset_type: FlockOffsetType::Set,
        };
        let reader = fcntl_getlk(&*self.file, &byte)?.and_then(|lock| lock.pid);
        Ok(reader.filter(|&reader| reader == pid))
    }
}
