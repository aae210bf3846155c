//! Lets a test's child stand still at a place where nothing from outside could make it.

use std::sync::OnceLock;

/// A place on a commit's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// `turn` is taken, `writer` is not.
    Turn,
    /// The group's transactions are applied, and nothing is committed.
    Group,
}

/// What is called at every stage. A process sets it once.
pub(super) static HOOK: OnceLock<fn(Stage)> = OnceLock::new();

pub(super) fn reached(stage: Stage) {
    if let Some(hook) = HOOK.get() {
        hook(stage);
    }
}
