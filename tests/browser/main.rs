//! The dashboard in a real browser: one module a subject.

mod access;
mod forms;
mod harness;
mod hostile;
mod operator;
mod pages;
mod repeat;
mod site;
mod stage;
mod story;

use std::time::Duration;

/// How long it takes until a webhook that fails is disabled, with time to spare.
const DISABLED_WITHIN: Duration = Duration::from_secs(20);
/// How long anything may take that happens at once on a quiet machine.
const SOON: Duration = Duration::from_secs(10);
