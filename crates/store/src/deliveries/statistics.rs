//! Statistics of attempts.
//!
//! The transaction that records an attempt increments one counter per resolution. The increments
//! are atomic additions without reads, so they never conflict. Readers scan ranges of counters.

use futures::future::try_join_all;
use postrider_domain::ids::{AccountId, EndpointId};
use postrider_domain::statistics::{
    Chart, Latency, Resolution, ResultCode, Sparkline, Statistics, TimeRange,
};
use postrider_domain::time::Timestamp;
use postrider_domain::transition::AttemptResult;

use crate::deliveries::endpoint_key::EndpointKey;
use crate::keys::statistics::{self, CounterKey, Counts};
use crate::kv::{Error, Pair, Range, Tx, counter};
use crate::records::Records;

/// The maximum number of counters read for an endpoint's statistics: for each hour of a month,
/// about one per latency bucket. An endpoint that responds with many different statuses has more.
const MAX_COUNTERS: usize = 50_000;
/// The maximum number of counters read for an endpoint's sparkline.
pub(crate) const MAX_SPARKLINE_COUNTERS: usize = 2_000;
/// The number of endpoints whose counters are read in one batch: about a page.
const READ_BATCH_SIZE: usize = 50;

/// Counts an attempt, in the transaction that records it.
pub(crate) fn count(tx: &Tx, endpoint_key: EndpointKey, result: &AttemptResult) {
    let EndpointKey { account, endpoint, .. } = endpoint_key;
    let code = ResultCode::of(&result.exchange.outcome);
    let latency = Latency::of(result.exchange.duration_ms());
    for resolution in Resolution::ALL {
        let counts = Counts { account, endpoint, resolution };
        tx.add(counts.key(result.at, code, latency), 1);
    }
}

impl Records {
    /// Returns an endpoint's statistics over a time range up to now; empty for an unknown endpoint.
    /// Only a bounded number of counters is read, newest first.
    pub async fn statistics(
        &self,
        account: AccountId,
        endpoint: EndpointId,
        range: TimeRange,
        now: Timestamp,
    ) -> Result<Statistics, Error> {
        self.statistics_within(account, endpoint, range, now, MAX_COUNTERS).await
    }

    /// Like [`Self::statistics`], with another bound.
    pub(crate) async fn statistics_within(
        &self,
        account: AccountId,
        endpoint: EndpointId,
        range: TimeRange,
        now: Timestamp,
        max: usize,
    ) -> Result<Statistics, Error> {
        let counts = Counts { account, endpoint, resolution: range.resolution() };
        let rows = self.store.rows(newest(counts, range.bounds(now), max + 1)).await?;
        let mut chart = Chart::new(range, now);
        for (key, value) in rows.iter().take(max) {
            if let Some(CounterKey { at, result, latency }) = statistics::parse_key(key)? {
                chart.add(at, result, latency, number(value));
            }
        }
        Ok(chart.statistics(rows.len() <= max))
    }

    /// Returns the sparklines of some of an account's endpoints, in the order of `endpoints`.
    pub async fn sparklines(
        &self,
        account: AccountId,
        endpoints: &[EndpointId],
        now: Timestamp,
    ) -> Result<Vec<Sparkline>, Error> {
        let mut lines = Vec::with_capacity(endpoints.len());
        for batch in endpoints.chunks(READ_BATCH_SIZE) {
            let ranges: Vec<_> =
                batch.iter().map(|endpoint| hours_of(account, *endpoint, now)).collect();
            let ranges = &ranges;
            let read = self.store.read(|tx| async move {
                try_join_all(ranges.iter().map(|range| tx.snap_range(range.clone()))).await
            });
            let read: Vec<_> = read.await?;
            for (endpoint, rows) in batch.iter().zip(&read) {
                lines.push(sparkline(*endpoint, rows, now)?);
            }
        }
        Ok(lines)
    }
}

fn hours_of(account: AccountId, endpoint: EndpointId, now: Timestamp) -> Range {
    let counts = Counts { account, endpoint, resolution: Resolution::Hour };
    newest(counts, Sparkline::bounds(now), MAX_SPARKLINE_COUNTERS + 1)
}

fn sparkline(endpoint: EndpointId, rows: &[Pair], now: Timestamp) -> Result<Sparkline, Error> {
    let mut line = Sparkline::new(endpoint, now);
    line.complete = rows.len() <= MAX_SPARKLINE_COUNTERS;
    for (key, value) in rows.iter().take(MAX_SPARKLINE_COUNTERS) {
        if let Some(CounterKey { at, result, .. }) = statistics::parse_key(key)? {
            line.add(at, result, number(value));
        }
    }
    Ok(line)
}

/// The range of counters from `since` until before `until`, newest first.
fn newest(counts: Counts, (since, until): (Timestamp, Timestamp), max: usize) -> Range {
    Range::new(counts.since(since), counts.since(until)).limit(max).reverse()
}

/// The value of a counter, which is never decremented.
fn number(value: &[u8]) -> u64 {
    u64::try_from(counter(Some(value))).unwrap_or(0)
}
