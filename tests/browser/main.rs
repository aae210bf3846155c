//! The dashboard in a real browser, one module per subject.

mod accessibility;
mod driver;
mod forms;
mod injection;
mod lifecycle;
mod operator;
mod resend_and_replay;
mod sample_account;
mod screenshots;
mod session;

use std::time::Duration;

/// How soon a failing webhook is disabled, with time to spare.
const DISABLED_WITHIN: Duration = Duration::from_secs(20);
/// Timeout for things that happen at once on an idle machine.
const SOON: Duration = Duration::from_secs(10);
