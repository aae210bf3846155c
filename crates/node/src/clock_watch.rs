//! Compares this node's clock with the times in the store and with the other nodes' clocks, and
//! records its own time there. The rules are in `domain::clock_check`.

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::{KeyValue, global};
use postrider_cluster::lease_validity::Uptime;
use postrider_domain::clock_check::{
    ACCEPT_AFTER, ClockCheck, OBSERVE_INTERVAL, Problem, RECORD_INTERVAL, Verdict,
};
use postrider_domain::duration;
use postrider_domain::ids::BootId;
use postrider_domain::time::{Clock, Timestamp};
use postrider_net::tasks::Tasks;
use postrider_store::Records;
use postrider_store::kv::Error;
use tokio::sync::watch;

/// What is known about this node's clock. `None` before the first comparison.
#[derive(Clone)]
pub struct ClockWatch(watch::Receiver<Option<Verdict>>);

struct Watcher {
    records: Records,
    me: BootId,
    clock: Arc<dyn Clock>,
    uptime: Arc<dyn Uptime>,
    check: ClockCheck,
    /// The time that this node last recorded, and its uptime then.
    recorded: Option<(Timestamp, Duration)>,
    verdict: watch::Sender<Option<Verdict>>,
}

impl ClockWatch {
    /// Starts comparing the clock of the run `me`.
    pub fn start(
        records: Records,
        me: BootId,
        clock: Arc<dyn Clock>,
        uptime: Arc<dyn Uptime>,
        tasks: &Tasks,
    ) -> Self {
        let (verdict, watched) = watch::channel(None);
        let check = ClockCheck::new(me);
        let watcher = Watcher { records, me, clock, uptime, check, recorded: None, verdict };
        tasks.spawn("clock watch", watcher.run());
        register_gauge(watched.clone());
        Self(watched)
    }

    /// Waits for the first comparison.
    #[cfg(test)]
    pub async fn compared(&self) {
        let mut verdict = self.0.clone();
        drop(verdict.wait_for(Option::is_some).await.expect("it runs"));
    }

    /// Why the node is not ready, if its clock is the reason.
    pub fn ready(&self) -> Result<(), String> {
        match *self.0.borrow() {
            None => Err("this node has not compared its clock with the store yet".to_owned()),
            Some(Verdict { problem: Some(problem), .. }) if problem.is_ours() => {
                Err(problem.to_string())
            }
            Some(_) => Ok(()),
        }
    }
}

impl Watcher {
    async fn run(mut self) {
        loop {
            if let Err(error) = self.compare().await {
                // Store failures are logged where they affect deliveries.
                tracing::debug!(%error, "comparing the clock failed; retrying");
            }
            tokio::time::sleep(OBSERVE_INTERVAL).await;
        }
    }

    async fn compare(&mut self) -> Result<(), Error> {
        let times = self.records.clocks().await?;
        let (now, uptime) = (self.clock.now(), self.uptime.uptime());
        let verdict = self.check.observe(&times, now, uptime);
        let before = self.verdict.send_replace(Some(verdict));
        log_change(before.and_then(|verdict| verdict.problem), verdict.problem);
        let is_current = |(time, at): (Timestamp, Duration)| {
            time <= now && uptime.saturating_sub(at) < RECORD_INTERVAL
        };
        if !self.recorded.is_some_and(is_current) {
            let obsolete = self.check.obsolete(now, uptime);
            self.records.record_clock(self.me, now, &obsolete).await?;
            self.recorded = Some((now, uptime));
        }
        Ok(())
    }
}

/// Logs a problem that appears, changes its kind or ends.
fn log_change(before: Option<Problem>, now: Option<Problem>) {
    match (before, now) {
        (Some(before), Some(now)) if before.is_same_kind(now) => {}
        (_, Some(problem @ Problem::Behind(_))) => {
            let accept_after = duration::format(ACCEPT_AFTER);
            tracing::error!(
                "{problem}; the node is not ready until the clock is right, or for {accept_after}"
            );
        }
        (_, Some(problem @ Problem::Apart { .. })) => {
            tracing::error!("{problem}; the node is not ready until the clock is right");
        }
        (_, Some(problem @ Problem::Disputed { .. })) => tracing::warn!("{problem}"),
        (Some(_), None) => tracing::warn!("this node's clock is trusted again"),
        (None, None) => {}
    }
}

fn register_gauge(verdict: watch::Receiver<Option<Verdict>>) {
    global::meter("postrider")
        .f64_observable_gauge("postrider.node.clock.offset")
        .with_unit("s")
        .with_description(
            "How far this node's clock is ahead of a reference, negative if it is behind: the newest \
             time in the store (0 unless it is behind), or the other nodes' clocks.",
        )
        .with_callback(move |observer| {
            let Some(verdict) = *verdict.borrow() else { return };
            let reference = |name: &'static str| [KeyValue::new("reference", name)];
            observer.observe(0.0 - verdict.behind.as_secs_f64(), &reference("store"));
            if let Some(ahead_ms) = verdict.ahead_of_others_ms {
                observer.observe(ahead_ms as f64 / 1_000.0, &reference("nodes"));
            }
        })
        .build();
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;
    use postrider_domain::ids::Id;
    use postrider_store::kv::Store;
    use postrider_store::kv::memory::Memory;
    use tokio::time::Instant;

    use super::*;

    const START: Timestamp = Timestamp::from_millis(1_700_000_000_000);
    const HOUR: Duration = Duration::from_secs(3600);

    /// Follows tokio's clock, and can be set ahead of the true time or behind it.
    struct TestClock {
        started: Instant,
        off: Mutex<(Duration, Duration)>,
    }

    impl TestClock {
        fn new() -> Arc<Self> {
            Arc::new(Self { started: Instant::now(), off: Mutex::default() })
        }

        fn set(&self, ahead: Duration, behind: Duration) {
            *self.off.lock() = (ahead, behind);
        }
    }

    impl Clock for TestClock {
        fn now(&self) -> Timestamp {
            let (ahead, behind) = *self.off.lock();
            START.plus(self.started.elapsed() + ahead).minus(behind)
        }
    }

    impl Uptime for TestClock {
        fn uptime(&self) -> Duration {
            self.started.elapsed()
        }
    }

    fn boot_id(number: u8) -> BootId {
        BootId::from_bytes([number; 16])
    }

    async fn records() -> Records {
        Records::open(Store::new(Arc::new(Memory::new()), 1), 1).await.expect("opens")
    }

    fn watch(records: &Records, number: u8, clock: &Arc<TestClock>) -> ClockWatch {
        let (records, tasks) = (records.clone(), Tasks::new());
        ClockWatch::start(records, boot_id(number), clock.clone(), clock.clone(), &tasks)
    }

    /// Waits for a verdict with a problem like this.
    async fn until(watch: &ClockWatch, is_it: impl Fn(Option<Problem>) -> bool) {
        let mut verdict = watch.0.clone();
        let seen = verdict.wait_for(|verdict| verdict.is_some_and(|it| is_it(it.problem)));
        drop(tokio::time::timeout(2 * ACCEPT_AFTER, seen).await.expect("in time").expect("runs"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_whose_clock_is_behind_the_store_is_not_ready_for_a_while() {
        let records = records().await;
        records.record_clock(boot_id(9), START, &[]).await.expect("recorded");
        let clock = TestClock::new();
        clock.set(Duration::ZERO, HOUR);
        let watch = watch(&records, 1, &clock);
        assert!(watch.ready().expect_err("not compared").contains("clock"));
        until(&watch, |problem| problem.is_some()).await;
        let expected = "this node's clock is 1h behind the newest time in the store";
        assert_eq!(watch.ready(), Err(expected.to_owned()));
        until(&watch, |problem| problem.is_none()).await;
        assert_eq!(watch.ready(), Ok(()));
        assert!(clock.uptime() >= ACCEPT_AFTER);
        // A restart with this clock is not in doubt.
        tokio::time::sleep(RECORD_INTERVAL + OBSERVE_INTERVAL).await;
        let latest = records.latest_clock().await.expect("read");
        assert!(latest.is_some_and(|at| at <= clock.now()), "{latest:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_is_ready_as_soon_as_its_clock_is_right() {
        let records = records().await;
        records.record_clock(boot_id(9), START, &[]).await.expect("recorded");
        let clock = TestClock::new();
        clock.set(Duration::ZERO, HOUR);
        let watch = watch(&records, 1, &clock);
        until(&watch, |problem| problem.is_some()).await;
        clock.set(Duration::ZERO, Duration::ZERO);
        until(&watch, |problem| problem.is_none()).await;
        assert!(clock.uptime() <= 2 * OBSERVE_INTERVAL);
    }

    #[tokio::test(start_paused = true)]
    async fn the_node_that_differs_from_most_others_is_not_ready() {
        let records = records().await;
        let (right, wrong) = (TestClock::new(), TestClock::new());
        wrong.set(HOUR, Duration::ZERO);
        let one = watch(&records, 1, &right);
        let two = watch(&records, 2, &wrong);
        let is_disputed = |problem| matches!(problem, Some(Problem::Disputed { .. }));
        until(&one, is_disputed).await;
        until(&two, is_disputed).await;
        assert_eq!((one.ready(), two.ready()), (Ok(()), Ok(())), "one of them is wrong");
        let three = watch(&records, 3, &right);
        until(&two, |problem| problem.is_some_and(Problem::is_ours)).await;
        let expected = "this node's clock is 1h ahead of most other nodes' clocks";
        assert_eq!(two.ready(), Err(expected.to_owned()));
        for watch in [&one, &three] {
            until(watch, |problem| problem.is_none()).await;
        }
    }
}
