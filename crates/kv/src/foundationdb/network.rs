//! The C client library and its network thread: started once per process, stopped as it exits.

use std::sync::{Mutex, OnceLock};

use foundationdb::FdbError;
use foundationdb::api::{FdbApiBuilder, NetworkAutoStop, get_max_api_version};

use crate::lock;

/// The client library cannot be used.
#[derive(Clone, Copy, Debug, thiserror::Error)]
pub enum NetworkError {
    /// It is older than what this program was built for.
    #[error(
        "the FoundationDB client library (libfdb_c.so) is too old: it speaks API version {found}, and \
         version {wanted} is needed. Install the package foundationdb-clients 7.3, of the version that \
         the servers run"
    )]
    TooOld {
        /// The newest API version of the library.
        found: i32,
        /// The API version of this program.
        wanted: i32,
    },
    /// It does not start.
    #[error("the FoundationDB client library does not start: {0} (error {code})", code = .0.code())]
    Start(FdbError),
}

static NETWORK: OnceLock<Result<Mutex<Option<NetworkAutoStop>>, NetworkError>> = OnceLock::new();

/// Starts the network thread, unless it runs already.
pub(super) fn start() -> Result<(), NetworkError> {
    NETWORK.get_or_init(boot).as_ref().map(drop).map_err(|error| *error)
}

fn boot() -> Result<Mutex<Option<NetworkAutoStop>>, NetworkError> {
    let builder = FdbApiBuilder::default();
    let (found, wanted) = (get_max_api_version(), builder.runtime_version());
    if found < wanted {
        return Err(NetworkError::TooOld { found, wanted });
    }
    let builder = builder.build().map_err(NetworkError::Start)?;
    // SAFETY: the thread must be stopped before the process exits, which `stop_at_exit` sees to.
    #[allow(unsafe_code, reason = "there is no safe way to start it")]
    let network = unsafe { builder.boot() }.map_err(NetworkError::Start)?;
    stop_at_exit();
    Ok(Mutex::new(Some(network)))
}

/// Dropped when a database has ended, for processes that do not [`stop`], such as tests.
pub(super) struct Ending;

impl Drop for Ending {
    /// At exit, what was registered last goes first, and the library registers things of its own as
    /// it goes, which its thread must not miss.
    fn drop(&mut self) {
        stop_at_exit();
    }
}

/// The library's own clean-up at exit must not find its thread running.
fn stop_at_exit() {
    // SAFETY: the function is there as long as the process, and does not unwind.
    #[allow(unsafe_code, reason = "the C library's exit has no safe hook")]
    let registered = unsafe { libc::atexit(stop_now) };
    if registered != 0 {
        tracing::warn!("the FoundationDB client will not be stopped in order");
    }
}

extern "C" fn stop_now() {
    stop();
}

/// Stops the network thread, after which no database can be used in this process. Best called before
/// the process exits: what stops it at the exit itself comes after whatever the library has
/// registered since.
pub fn stop() {
    let Some(Ok(network)) = NETWORK.get() else { return };
    // In a thread of its own: the library uses variables of its caller's thread, and those of the
    // thread that exits are gone already.
    let stopping = std::thread::Builder::new().spawn(|| drop(lock(network).take()));
    if let Ok(stopping) = stopping {
        let _ = stopping.join();
    }
}
