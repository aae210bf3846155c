//! Counting attempts, and reading what was counted.
//!
//! An attempt is counted in the transaction that puts it on record, once for each resolution, by
//! adding to counters that are not read and so never conflict. Readers take ranges of counters.

use futures::future::try_join_all;
use postrider_domain::ids::{AccountId, EndpointId};
use postrider_domain::machine::Attempted;
use postrider_domain::statistics::{
    Answer, Chart, Latency, Resolution, Span, Sparkline, Statistics,
};
use postrider_domain::time::Timestamp;

use crate::deliveries::enqueue::Place;
use crate::keys::statistics::{self, Counts};
use crate::kv::{Error, Pair, Range, Tx, counter};
use crate::records::Records;

/// Counters that are read for the statistics of one endpoint: for each hour of a month, about as
/// many as there are latencies to one answer. One that answers with a new status each time has
/// more of them.
const MOST_COUNTERS: usize = 50_000;
/// Counters that are read for the sparkline of one endpoint.
pub(crate) const MOST_SPARKLINE_COUNTERS: usize = 2_000;
/// Endpoints whose counters are read together: about a page.
const READ_TOGETHER: usize = 50;

/// Counts an attempt that goes on record.
pub(crate) fn count(tx: &Tx, place: Place, attempted: &Attempted) {
    let Place { account, endpoint, .. } = place;
    let answer = Answer::of(&attempted.outcome);
    let latency = Latency::of(attempted.duration_ms);
    for resolution in Resolution::ALL {
        let counts = Counts { account, endpoint, resolution };
        tx.add(counts.key(attempted.at, answer, latency), 1);
    }
}

impl Records {
    /// How an endpoint's attempts went over a span up to now. Of an endpoint that is not known,
    /// there were none. A bounded number of counters is read, the newest ones.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn statistics(
        &self,
        account: AccountId,
        endpoint: EndpointId,
        span: Span,
        now: Timestamp,
    ) -> Result<Statistics, Error> {
        self.statistics_within(account, endpoint, span, now, MOST_COUNTERS).await
    }

    /// The same with another bound.
    pub(crate) async fn statistics_within(
        &self,
        account: AccountId,
        endpoint: EndpointId,
        span: Span,
        now: Timestamp,
        most: usize,
    ) -> Result<Statistics, Error> {
        let counts = Counts { account, endpoint, resolution: span.resolution() };
        let rows = self.store.rows(newest(counts, span.bounds(now), most + 1)).await?;
        let mut chart = Chart::new(span, now);
        for (key, value) in rows.iter().take(most) {
            if let Some(counted) = statistics::of_key(key)? {
                chart.add(counted.at, counted.answer, counted.latency, number(value));
            }
        }
        Ok(chart.statistics(rows.len() <= most))
    }

    /// How the attempts of some endpoints of an account went in the last 24 hours, in the order in
    /// which they were asked for.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn sparklines(
        &self,
        account: AccountId,
        endpoints: &[EndpointId],
        now: Timestamp,
    ) -> Result<Vec<Sparkline>, Error> {
        let mut lines = Vec::with_capacity(endpoints.len());
        for some in endpoints.chunks(READ_TOGETHER) {
            let ranges: Vec<_> =
                some.iter().map(|endpoint| hours_of(account, *endpoint, now)).collect();
            let ranges = &ranges;
            let read = self.store.read(|tx| async move {
                try_join_all(ranges.iter().map(|range| tx.snap_range(range.clone()))).await
            });
            let read: Vec<_> = read.await?;
            for (endpoint, rows) in some.iter().zip(&read) {
                lines.push(sparkline(*endpoint, rows, now)?);
            }
        }
        Ok(lines)
    }
}

fn hours_of(account: AccountId, endpoint: EndpointId, now: Timestamp) -> Range {
    let counts = Counts { account, endpoint, resolution: Resolution::Hour };
    newest(counts, Sparkline::bounds(now), MOST_SPARKLINE_COUNTERS + 1)
}

fn sparkline(endpoint: EndpointId, rows: &[Pair], now: Timestamp) -> Result<Sparkline, Error> {
    let mut line = Sparkline::new(endpoint, now);
    line.complete = rows.len() <= MOST_SPARKLINE_COUNTERS;
    for (key, value) in rows.iter().take(MOST_SPARKLINE_COUNTERS) {
        if let Some(counted) = statistics::of_key(key)? {
            line.add(counted.at, counted.answer, number(value));
        }
    }
    Ok(line)
}

/// The counters of what began from the one time to before the other.
fn newest(counts: Counts, (since, until): (Timestamp, Timestamp), most: usize) -> Range {
    Range::new(counts.since(since), counts.since(until)).limit(most).reverse()
}

/// What a counter says. Nothing is ever taken off.
fn number(value: &[u8]) -> u64 {
    u64::try_from(counter(Some(value))).unwrap_or(0)
}
