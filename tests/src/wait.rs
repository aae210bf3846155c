//! Waiting for something to become so, with a deadline and a name for what was awaited.

use std::future::Future;
use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::Instant;

/// How often a state that announces nothing is looked at.
const POLL_EVERY: Duration = Duration::from_millis(20);

/// Looks with `probe` until it gives a value. For state that lies behind the HTTP API; what
/// happens inside the test's own process is awaited without polling.
///
/// # Errors
/// When `probe` fails, or gives nothing `within` the time: the error says `what` was awaited.
pub async fn until<T, F>(what: &str, within: Duration, mut probe: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<Option<T>>>,
{
    let deadline = Instant::now() + within;
    loop {
        if let Some(value) = probe().await? {
            return Ok(value);
        }
        if Instant::now() > deadline {
            bail!("waited {within:?} in vain until {what}");
        }
        tokio::time::sleep(POLL_EVERY).await;
    }
}

/// `n` seconds.
#[must_use]
pub const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// `n` milliseconds.
#[must_use]
pub const fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}
