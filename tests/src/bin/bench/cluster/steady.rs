//! Events at an even pace, whatever happens to the nodes, and when each arrived.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use postrider_tests::wait::{millis, seconds};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, timeout, timeout_at};

use crate::node::Bench;
use crate::receiver::Arrival;

/// Events a second.
pub const RATE: u32 = 200;
/// How long an event may take until some node has accepted it.
const ACCEPTED_WITHIN: Duration = seconds(20);
/// How long a client rests when every node has refused.
const PAUSE: Duration = millis(20);
/// How long the last arrivals may take once nothing new is published.
const ARRIVED_WITHIN: Duration = seconds(60);

/// The load, while it runs.
pub struct Steady {
    plan: Plan,
    stopped: Arc<AtomicBool>,
    publishing: JoinHandle<Result<u64>>,
    collecting: JoinHandle<Result<Vec<Seen>>>,
    total: oneshot::Sender<u64>,
    bench: Arc<Bench>,
}

/// When each event is to be published.
#[derive(Clone, Copy)]
pub struct Plan {
    start: Instant,
}

/// A request that arrived.
pub struct Seen {
    pub number: u64,
    pub at: Instant,
    /// The same event has come before.
    pub again: bool,
}

/// What became of the load.
pub struct Log {
    pub plan: Plan,
    pub published: u64,
    pub arrivals: Vec<Seen>,
}

impl Plan {
    /// When the event with this number is to be published.
    pub fn of(self, number: u64) -> Instant {
        self.start + Duration::from_secs_f64(number as f64 / f64::from(RATE))
    }
}

impl Steady {
    pub fn start(bench: Arc<Bench>) -> Self {
        let plan = Plan { start: Instant::now() };
        let stopped = Arc::<AtomicBool>::default();
        let (total, told) = oneshot::channel();
        let collecting = tokio::spawn(collect(bench.receiver.watch(), told));
        let publishing = tokio::spawn(publish(bench.clone(), plan, stopped.clone()));
        Self { plan, stopped, publishing, collecting, total, bench }
    }

    /// Whether it runs; if not, [`Self::stop`] tells why.
    pub fn runs(&self) -> bool {
        !self.publishing.is_finished() && !self.collecting.is_finished()
    }

    /// Publishes nothing new, and waits until everything has arrived.
    pub async fn stop(self) -> Result<Log> {
        self.stopped.store(true, Ordering::Relaxed);
        let published = self.publishing.await.context("the load")??;
        // It may have failed, which it tells itself.
        let _ = self.total.send(published);
        let arrivals = self.collecting.await.context("the collector")??;
        self.bench.receiver.unwatch();
        Ok(Log { plan: self.plan, published, arrivals })
    }
}

/// Publishes until it is stopped, and gives how many events that were: all are accepted.
async fn publish(bench: Arc<Bench>, plan: Plan, stopped: Arc<AtomicBool>) -> Result<u64> {
    // Each on its own: one that waits for a node that is gone holds up no other.
    let mut calls = JoinSet::new();
    let mut published = 0;
    while !stopped.load(Ordering::Relaxed) {
        tokio::time::sleep_until(plan.of(published)).await;
        calls.spawn(until_accepted(bench.clone(), published));
        published += 1;
        while let Some(call) = calls.try_join_next() {
            call.context("a call of the load")??;
        }
    }
    while let Some(call) = calls.join_next().await {
        call.context("a call of the load")??;
    }
    Ok(published)
}

/// Asks one node after another, always with the same key.
async fn until_accepted(bench: Arc<Bench>, number: u64) -> Result<()> {
    let key = format!("steady-{number}");
    let deadline = Instant::now() + ACCEPTED_WITHIN;
    for turn in 1.. {
        let numbers = [number];
        let call = bench.publish_at(bench.next_base(), &numbers, Some(&key));
        let answer =
            timeout_at(deadline, call).await.with_context(|| format!("no answer to {key}"))?;
        let Err(error) = answer else { break };
        ensure!(Instant::now() < deadline, "nobody accepts {key}: {error}");
        if turn % bench.bases.len() == 0 {
            tokio::time::sleep(PAUSE).await;
        }
    }
    Ok(())
}

/// Notes what arrives until each of a total number of events has, once that is told.
async fn collect(
    mut arrivals: mpsc::UnboundedReceiver<Arrival>,
    mut told: oneshot::Receiver<u64>,
) -> Result<Vec<Seen>> {
    let (mut log, mut events, mut numbers) = (Vec::new(), HashSet::new(), HashSet::new());
    let mut note = |arrival: Arrival| {
        let (number, at) = (arrival.number()?, arrival.at);
        log.push(Seen { number, at, again: !events.insert(arrival.event) });
        numbers.insert(number);
        anyhow::Ok(numbers.len() as u64)
    };
    let mut seen = 0;
    let total = loop {
        tokio::select! {
            arrival = arrivals.recv() => seen = note(arrival.context("the receiver ended")?)?,
            total = &mut told => break total.context("the load ended")?,
        }
    };
    while seen < total {
        let arrival = timeout(ARRIVED_WITHIN, arrivals.recv()).await;
        let arrival = arrival.with_context(|| format!("{seen} of {total} events arrived"))?;
        seen = note(arrival.context("the receiver ended")?)?;
    }
    Ok(log)
}
