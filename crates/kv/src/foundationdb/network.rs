//! The C client library's network thread: started once per process, stopped when it exits.

use std::sync::OnceLock;

use foundationdb::FdbError;
use foundationdb::api::{FdbApiBuilder, NetworkAutoStop, get_max_api_version};
use parking_lot::Mutex;

/// Why the client library cannot be used.
#[derive(Clone, Copy, Debug, thiserror::Error)]
pub enum NetworkError {
    /// The library is older than the version that this program was built for.
    #[error(
        "the FoundationDB client library (libfdb_c.so) is too old: it supports API version {found}, but \
         version {wanted} is required. Install the package foundationdb-clients 7.3, in the version \
         that the servers run"
    )]
    TooOld {
        /// The latest API version that the library supports.
        found: i32,
        /// The API version that this program requires.
        wanted: i32,
    },
    /// The network thread cannot be started.
    #[error("the FoundationDB client library cannot be started: {0} (error {code})", code = .0.code())]
    Start(FdbError),
}

static NETWORK: OnceLock<Result<Mutex<Option<NetworkAutoStop>>, NetworkError>> = OnceLock::new();

/// Starts the network thread unless it is already running.
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
    // SAFETY: the thread must be stopped before the process exits; `stop_at_exit` ensures that.
    #[allow(unsafe_code, reason = "the network has no safe start function")]
    let network = unsafe { builder.boot() }.map_err(NetworkError::Start)?;
    stop_at_exit();
    Ok(Mutex::new(Some(network)))
}

/// Re-registers the exit handler when a database is closed, for processes that do not call
/// [`stop`], such as tests.
pub(super) struct StopGuard;

impl Drop for StopGuard {
    /// Exit handlers run in reverse order of registration, and the library registers handlers of
    /// its own while running. The network thread must stop before those run.
    fn drop(&mut self) {
        stop_at_exit();
    }
}

/// The network thread must have stopped before the library's own exit handlers run.
fn stop_at_exit() {
    // SAFETY: the function is static and does not unwind.
    #[allow(unsafe_code, reason = "atexit has no safe wrapper")]
    let registered = unsafe { libc::atexit(stop_now) };
    if registered != 0 {
        tracing::warn!(
            "registering an exit handler failed; the FoundationDB client will not be stopped cleanly"
        );
    }
}

extern "C" fn stop_now() {
    stop();
}

/// Stops the network thread; afterwards no database can be used in this process. Call this before
/// the process exits: the exit handler runs only after handlers that the library has registered
/// since.
pub fn stop() {
    let Some(Ok(network)) = NETWORK.get() else { return };
    // On a separate thread: the library uses thread-locals, and those of the exiting thread are
    // already destroyed.
    let stopping = std::thread::Builder::new().spawn(|| drop(network.lock().take()));
    if let Ok(stopping) = stopping {
        let _ = stopping.join();
    }
}
