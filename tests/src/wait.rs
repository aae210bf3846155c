//! Waiting for a condition, with a deadline and a description for the error.

use std::future::Future;
use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::Instant;

const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Polls `probe` until it returns a value. For state behind the HTTP API; state in the test's own
/// process is awaited without polling.
///
/// # Errors
/// If `probe` fails or returns nothing in time. The error names the condition, `what`.
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
            bail!("timed out after {within:?} waiting until {what}");
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// Polls `left` until nothing is left to do. Any progress extends the deadline: the speed depends
/// on how busy the machine is, and other checks cover it.
///
/// # Errors
/// If `left` fails, or makes no progress in time. The error names the condition, `what`.
pub async fn until_none_left<F>(
    what: &str,
    within: Duration,
    mut left: impl FnMut() -> F,
) -> Result<()>
where
    F: Future<Output = Result<usize>>,
{
    let (mut least, mut deadline) = (usize::MAX, Instant::now() + within);
    loop {
        let left = left().await?;
        if left == 0 {
            return Ok(());
        }
        if left < least {
            (least, deadline) = (left, Instant::now() + within);
        }
        if Instant::now() > deadline {
            bail!("no progress for {within:?} while waiting until {what}: {left} left");
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

#[must_use]
pub const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[must_use]
pub const fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}
