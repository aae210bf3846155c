//! Failpoints, at which tests stop a child process where no outside signal could.

use std::sync::OnceLock;

/// A point in the course of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failpoint {
    /// The `queue` lock is held, `writer` is not.
    Queued,
    /// The group's transactions are applied but not committed.
    GroupApplied,
}

/// Called at every failpoint. Set once per process.
pub(super) static HANDLER: OnceLock<fn(Failpoint)> = OnceLock::new();

pub(super) fn hit(failpoint: Failpoint) {
    if let Some(handler) = HANDLER.get() {
        handler(failpoint);
    }
}
