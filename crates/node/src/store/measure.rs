//! Measures the latency and throughput of a store.

use std::time::Duration;

use bytes::Bytes;
use postrider_store::Probe;
use postrider_store::kv::Error;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// The number of sequential reads, and of sequential commits.
pub const SEQUENTIAL: u64 = 60;
/// The number of concurrent commits in the throughput test.
pub const CONCURRENCY: u64 = 64;
/// The duration of the throughput test.
const LOAD_DURATION: Duration = Duration::from_secs(1);
/// Roughly the size that a typical event writes.
const ROW_BYTES: usize = 1_000;

#[derive(Clone, Debug, PartialEq)]
pub struct Measurements {
    /// Latency of sequential reads.
    pub reads: Percentiles,
    /// Latency of sequential commits.
    pub commits: Percentiles,
    /// Commits per second with [`CONCURRENCY`] in flight.
    pub per_second: f64,
}

/// Percentiles of a latency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Percentiles {
    pub p50: Duration,
    pub p99: Duration,
    pub max: Duration,
}

/// Measures the store of the probe. Leaves its test rows in place; the caller removes them.
pub async fn measure(probe: &Probe) -> Result<Measurements, Error> {
    let (mut reads, mut commits) = (Vec::new(), Vec::new());
    for n in 0..SEQUENTIAL {
        let started = Instant::now();
        probe.write(n, row_value(n)).await?;
        commits.push(started.elapsed());
    }
    for n in 0..SEQUENTIAL {
        let started = Instant::now();
        probe.read(n).await?;
        reads.push(started.elapsed());
    }
    let per_second = measure_throughput(probe).await?;
    Ok(Measurements {
        reads: Percentiles::of(reads),
        commits: Percentiles::of(commits),
        per_second,
    })
}

/// Measures throughput: concurrent tasks commit in a loop, each to its own row.
async fn measure_throughput(probe: &Probe) -> Result<f64, Error> {
    let started = Instant::now();
    let mut tasks = JoinSet::new();
    for task in 0..CONCURRENCY {
        let probe = probe.clone();
        tasks.spawn(async move {
            let mut count = 0_u64;
            while started.elapsed() < LOAD_DURATION {
                probe.write(task, row_value(count)).await?;
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

/// A row value. It differs for each `n`, so that it must be written.
fn row_value(n: u64) -> Bytes {
    n.to_be_bytes().into_iter().cycle().take(ROW_BYTES).collect()
}

impl Percentiles {
    /// The percentiles of `times`, which must not be empty.
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
    fn percentiles_are_taken_by_rank() {
        let times = Percentiles::of((1..=200).rev().map(Duration::from_millis).collect());
        let [p50, p99, max] = [101, 199, 200].map(Duration::from_millis);
        assert_eq!(times, Percentiles { p50, p99, max });
        let one = Percentiles::of(vec![max]);
        assert_eq!(one, Percentiles { p50: max, p99: max, max });
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_store_is_measured_as_slow() {
        let delay = Duration::from_millis(100);
        let memory = Memory::with_faults(7, Faults { delay, ..Faults::default() });
        let probe = Probe::new(Store::new(Arc::new(memory), 1), 1);
        let measured = measure(&probe).await.unwrap();
        let Percentiles { p50, max, .. } = measured.commits;
        assert!(p50 > delay / 4 && max <= delay, "{measured:?}");
        assert!(measured.reads.max < Duration::from_millis(1), "{measured:?}");
        // 64 in parallel, each about 50 ms.
        assert!((640.0..2_560.0).contains(&measured.per_second), "{measured:?}");
    }
}
