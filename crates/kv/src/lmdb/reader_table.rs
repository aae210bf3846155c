//! The mutex of LMDB's reader table, inspected from outside.
//!
//! Every new snapshot holds this mutex briefly to claim a reader slot. A process that is stopped in
//! that moment keeps all others from reading. No record lock identifies it, but the mutex itself
//! does: it contains the thread id of its holder.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use rustix::process::{Flock, FlockOffsetType, FlockType, Pid, fcntl_getlk};

use super::process::of_thread;

/// The magic number at the start of the lock file.
const MAGIC: u32 = 0xBEEF_C0DE;
/// The mutex's offset, after the magic number, the format, the transaction id and the slot count.
const MUTEX_OFFSET: usize = 24;
/// The thread id in the mutex's first word; the bits above are flags.
const THREAD_MASK: u32 = 0x3FFF_FFFF;
/// The mutex's layout is known only on these platforms.
const LAYOUT_IS_KNOWN: bool =
    cfg!(all(target_os = "linux", target_env = "gnu", target_pointer_width = "64"));

pub(super) struct ReaderTable {
    /// LMDB's own lock file, which must not be closed before LMDB closes it.
    file: Arc<File>,
}

impl ReaderTable {
    pub(super) fn new(file: Arc<File>) -> Self {
        Self { file }
    }

    /// The id of the thread that holds the mutex, in that thread's pid namespace.
    pub(super) fn lock_holder_thread(&self) -> io::Result<Option<Pid>> {
        let mut head = [0; MUTEX_OFFSET + 4];
        self.file.read_exact_at(&mut head, 0)?;
        let word =
            |at: usize| u32::from_ne_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        if !LAYOUT_IS_KNOWN || word(0) != MAGIC {
            return Ok(None);
        }
        Ok(Pid::from_raw((word(MUTEX_OFFSET) & THREAD_MASK).cast_signed()))
    }

    /// The process of `thread`, if the kernel confirms that it reads this store. The check keeps a
    /// thread id of another namespace from being mistaken for an unrelated process.
    pub(super) fn process_of(&self, thread: Pid) -> io::Result<Option<Pid>> {
        let pid = of_thread(thread)?;
        // A reading process locks the byte whose offset is its pid.
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
