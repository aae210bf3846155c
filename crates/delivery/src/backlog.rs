//! A node's backlog: how many deliveries are held for disabled endpoints, and how old the oldest
//! pending one is.
//!
//! One task scans all endpoints, account by account, and totals those whose shards are owned here.
//! At the end of a scan the totals become the node's [`Backlog`], which the metrics export. One
//! tick reads at most [`ROWS_PER_TICK`] endpoints and accounts, so its cost does not depend on
//! their number. A longer scan takes several ticks, and the metrics lag accordingly: a hundred
//! thousand endpoints take four minutes. An endpoint that moves between nodes during a scan may be
//! missed or counted twice until the next scan.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use opentelemetry::global;
use parking_lot::Mutex;
use postrider_domain::assignment::Shard;
use postrider_domain::endpoint::State;
use postrider_domain::ids::{AccountId, EndpointId};
use postrider_domain::time::{Clock, Timestamp};
use postrider_net::tasks::Tasks;
use postrider_store::kv::Error;
use postrider_store::{EndpointView, PageRequest, Records};

use crate::owned_shards::OwnedShards;

/// How often the scan continues.
const TICK: Duration = Duration::from_secs(5);
/// Maximum endpoints and accounts read per tick.
const ROWS_PER_TICK: usize = 2_000;
/// Maximum rows in one read of the store.
const PAGE_ROWS: usize = 200;

/// A summary of the deliveries that a node still has to make.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Deliveries held because their endpoints are disabled.
    pub held: u64,
    /// When the oldest pending delivery to an enabled endpoint was created.
    pub oldest_pending_at: Option<Timestamp>,
}

/// Scans the backlog of the shards that this node owns.
pub(crate) struct BacklogMonitor {
    records: Records,
    clock: Arc<dyn Clock>,
    shards: OwnedShards,
    latest: Mutex<Backlog>,
}

impl BacklogMonitor {
    /// Starts the scan. It stops when the monitor is dropped.
    pub(crate) fn start(
        records: Records,
        clock: Arc<dyn Clock>,
        shards: OwnedShards,
        tasks: &Tasks,
    ) -> Arc<Self> {
        let monitor = Arc::new(Self { records, clock, shards, latest: Mutex::default() });
        register_gauges(&monitor);
        let weak = Arc::downgrade(&monitor);
        tasks.spawn("backlog scan", async move {
            let mut scan = BacklogScan::default();
            while let Some(monitor) = weak.upgrade() {
                if let Err(error) = scan.tick(&monitor).await {
                    // Store failures are logged where they affect deliveries.
                    tracing::debug!(%error, "scanning the backlog failed; retrying");
                }
                drop(monitor);
                tokio::time::sleep(TICK).await;
            }
        });
        monitor
    }

    /// The backlog as of the last scan.
    pub(crate) fn latest(&self) -> Backlog {
        *self.latest.lock()
    }
}

/// Registers the gauges.
fn register_gauges(monitor: &Arc<BacklogMonitor>) {
    let meter = global::meter("postrider");
    let gauge = |name, unit, description, read: fn(&BacklogMonitor) -> u64| {
        let monitor = Arc::downgrade(monitor);
        meter
            .u64_observable_gauge(name)
            .with_unit(unit)
            .with_description(description)
            .with_callback(move |observer| {
                if let Some(monitor) = monitor.upgrade() {
                    observer.observe(read(&monitor), &[]);
                }
            })
            .build();
    };
    gauge(
        "postrider.deliveries.held",
        "{delivery}",
        "Deliveries held because their endpoints are disabled, in the shards owned by this node.",
        |monitor| monitor.latest().held,
    );
    gauge("postrider.shards.owned", "{shard}", "Shards owned by this node.", |monitor| {
        u64::try_from(monitor.shards.owned().len()).unwrap_or(u64::MAX)
    });
    let weak = Arc::downgrade(monitor);
    meter
        .f64_observable_gauge("postrider.deliveries.oldest.age")
        .with_unit("s")
        .with_description("Age of the oldest pending delivery; 0 if there is none.")
        .with_callback(move |observer| {
            if let Some(monitor) = weak.upgrade() {
                let oldest = monitor.latest().oldest_pending_at;
                let age = oldest.map(|at| monitor.clock.now().since(at)).unwrap_or_default();
                observer.observe(age.as_secs_f64(), &[]);
            }
        })
        .build();
}

/// The state of one scan of all endpoints.
#[derive(Default)]
struct BacklogScan {
    /// The last account that was listed.
    listed: Option<AccountId>,
    /// Listed accounts that have not been scanned completely. Of the first one, the endpoints up to
    /// `after` have been counted.
    accounts: VecDeque<AccountId>,
    after: Option<EndpointId>,
    totals: Backlog,
}

impl BacklogScan {
    /// Runs the steps of one tick.
    async fn tick(&mut self, monitor: &BacklogMonitor) -> Result<(), Error> {
        let owned = monitor.shards.owned();
        let mut remaining = ROWS_PER_TICK;
        while remaining > 0 {
            let (rows, complete) =
                self.step(&monitor.records, &owned, remaining.min(PAGE_ROWS)).await?;
            remaining = remaining.saturating_sub(rows.max(1));
            if complete {
                let scan = std::mem::take(self);
                *monitor.latest.lock() = scan.totals;
                return Ok(());
            }
        }
        Ok(())
    }

    /// Reads one page. Returns how many rows it had and whether the scan is complete.
    async fn step(
        &mut self,
        records: &Records,
        owned: &HashSet<Shard>,
        limit: usize,
    ) -> Result<(usize, bool), Error> {
        let Some(account) = self.accounts.front() else {
            let request = PageRequest { limit, after: self.listed };
            let page = records.accounts(request).await?;
            self.accounts.extend(page.items.iter().map(|account| account.id));
            self.listed = self.accounts.back().copied();
            return Ok((page.items.len(), self.accounts.is_empty()));
        };
        let page = records.endpoints(*account, PageRequest { limit, after: self.after }).await?;
        for view in &page.items {
            if owned.contains(&records.shard_of(view.endpoint.id)) {
                self.totals.add(view);
            }
        }
        self.after = page.items.last().map(|view| view.endpoint.id);
        if page.next.is_none() || self.after.is_none() {
            self.accounts.pop_front();
            self.after = None;
        }
        Ok((page.items.len(), false))
    }
}

impl Backlog {
    fn add(&mut self, view: &EndpointView) {
        match view.state {
            State::Enabled => {
                let oldest = [self.oldest_pending_at, view.oldest_pending_at];
                self.oldest_pending_at = oldest.into_iter().flatten().min();
            }
            State::Disabled(_) => self.held += view.backlog.held(),
            State::Deleted => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use postrider_domain::endpoint::Ordering;
    use postrider_domain::time::Clock;

    use super::*;
    use crate::tests::fixture::{Fixture, RealClock, SHARDS, fast_retries};

    #[tokio::test]
    async fn a_scan_counts_the_backlog_of_owned_shards() {
        let fixture = Fixture::new(fast_retries()).await;
        let url = "http://127.0.0.1:9/hook";
        let (enabled, disabled) = (
            fixture.endpoint(url, Ordering::Parallel).await,
            fixture.endpoint(url, Ordering::Parallel).await,
        );
        let now = RealClock.now();
        fixture.records.disable_endpoint(fixture.account, disabled, now).await.expect("disabled");
        let before = RealClock.now();
        for _ in 0..3 {
            fixture.accept_without_wake("{}").await;
        }

        let totals = |owned: HashSet<Shard>, page| {
            let records = fixture.records.clone();
            async move {
                let mut scan = BacklogScan::default();
                while !scan.step(&records, &owned, page).await.expect("read").1 {}
                scan.totals
            }
        };
        for page in [1, 2, PAGE_ROWS] {
            let backlog = totals((0..SHARDS).collect(), page).await;
            assert_eq!(backlog.held, 3, "pages of {page}");
            assert!(backlog.oldest_pending_at.is_some_and(|at| at >= before));
        }
        assert_eq!(totals(HashSet::new(), PAGE_ROWS).await, Backlog::default());
        let enabled_only =
            totals(HashSet::from([fixture.records.shard_of(enabled)]), PAGE_ROWS).await;
        assert!(enabled_only.oldest_pending_at.is_some());
    }
}
