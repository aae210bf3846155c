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

/// Looks with `left` how much is left to do, until nothing is. Time runs out only while that does not
/// get less: how fast it goes is for other checks to judge, and depends on how busy the machine is.
///
/// # Errors
/// When `left` fails, or does not get less `within` the time: the error says `what` was awaited.
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
            bail!("waited {within:?} in vain until {what}: {left} left");
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
