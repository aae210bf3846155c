//! How fast a store reads and commits.

use std::time::Duration;

use bytes::Bytes;
use postrider_store::Probe;
use postrider_store::kv::Error;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// How many reads and how many commits are made one after the other.
pub const ONE_BY_ONE: u64 = 60;
/// How many commits are then under way at a time.
pub const AT_ONCE: u64 = 64;
/// For how long.
const LOAD: Duration = Duration::from_secs(1);
/// About what one event of a usual size writes.
const ROW: usize = 1_000;

/// What was measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// One read after the other.
    pub reads: Times,
    /// One commit after the other.
    pub commits: Times,
    /// Commits in a second, with many under way.
    pub per_second: f64,
}

/// How long something took, which was done several times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// Half of the times were shorter.
    pub p50: Duration,
    /// All but a hundredth were shorter.
    pub p99: Duration,
    /// The longest.
    pub max: Duration,
}

/// Measures the store that the probe is in. The rows that it writes are left to be removed.
///
/// # Errors
/// When the store fails.
pub async fn measure(probe: &Probe) -> Result<Measured, Error> {
    let (mut reads, mut commits) = (Vec::new(), Vec::new());
    for n in 0..ONE_BY_ONE {
        let started = Instant::now();
        probe.write(n, row(n)).await?;
        commits.push(started.elapsed());
    }
    for n in 0..ONE_BY_ONE {
        let started = Instant::now();
        probe.read(n).await?;
        reads.push(started.elapsed());
    }
    let per_second = load(probe).await?;
    Ok(Measured { reads: Times::of(reads), commits: Times::of(commits), per_second })
}

/// Commits as fast as it can be done, each task to a row of its own.
async fn load(probe: &Probe) -> Result<f64, Error> {
    let started = Instant::now();
    let mut tasks = JoinSet::new();
    for task in 0..AT_ONCE {
        let probe = probe.clone();
        tasks.spawn(async move {
            let mut count = 0_u64;
            while started.elapsed() < LOAD {
                probe.write(task, row(count)).await?;
                count += 1;
            }
            Ok::<_, Error>(count)
        });
    }
    let mut count = 0;
    for done in tasks.join_all().await {
        count += done?;
    }
    Ok(count as f64 / started.elapsed().as_secs_f64())
}

/// Differs from the one before, so that it has to be written.
fn row(n: u64) -> Bytes {
    n.to_be_bytes().into_iter().cycle().take(ROW).collect()
}

impl Times {
    /// Those of at least one time.
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort();
        let at = |part: f64| {
            let index = (times.len() as f64 * part) as usize;
            times.get(index.min(times.len() - 1)).copied().unwrap_or_default()
        };
        Self { p50: at(0.5), p99: at(0.99), max: at(1.0) }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use postrider_store::kv::Store;
    use postrider_store::kv::memory::{Faults, Memory};

    use super::*;

    #[test]
    fn times_are_told_by_rank() {
        let times = Times::of((1..=200).rev().map(Duration::from_millis).collect());
        let [p50, p99, max] = [101, 199, 200].map(Duration::from_millis);
        assert_eq!(times, Times { p50, p99, max });
        let one = Times::of(vec![max]);
        assert_eq!(one, Times { p50: max, p99: max, max });
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_store_is_measured_as_slow() {
        let delay = Duration::from_millis(100);
        let memory = Memory::with_faults(7, Faults { delay, ..Faults::default() });
        let probe = Probe::new(Store::new(Arc::new(memory), 1), 1);
        let measured = measure(&probe).await.unwrap();
        let Times { p50, max, .. } = measured.commits;
        assert!(p50 > delay / 4 && max <= delay, "{measured:?}");
        assert!(measured.reads.max < Duration::from_millis(1), "{measured:?}");
        // 64 at a time, each about 50 ms.
        assert!((640.0..2_560.0).contains(&measured.per_second), "{measured:?}");
    }
}
