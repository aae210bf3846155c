//! An open-loop load at a constant rate, whatever happens to the nodes, and a log of arrivals.

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

/// Events per second.
pub const RATE: u32 = 200;
/// The deadline for some node to accept an event.
const ACCEPTED_WITHIN: Duration = seconds(20);
/// The delay before retrying when all nodes have failed.
const RETRY_DELAY: Duration = millis(20);
/// The deadline for the last arrivals once publishing has stopped.
const ARRIVED_WITHIN: Duration = seconds(60);

/// A running load.
pub struct SteadyLoad {
    plan: Plan,
    stopped: Arc<AtomicBool>,
    publishing: JoinHandle<Result<u64>>,
    collecting: JoinHandle<Result<Vec<LoggedArrival>>>,
    total: oneshot::Sender<u64>,
    bench: Arc<Bench>,
}

/// The publication schedule.
#[derive(Clone, Copy)]
pub struct Plan {
    start: Instant,
}

/// A request that arrived.
pub struct LoggedArrival {
    pub number: u64,
    pub at: Instant,
    /// Whether the event had arrived before.
    pub duplicate: bool,
}

/// The log of a finished load.
pub struct Log {
    pub plan: Plan,
    pub published: u64,
    pub arrivals: Vec<LoggedArrival>,
}

impl Plan {
    /// The scheduled publication time of an event.
    pub fn of(self, number: u64) -> Instant {
        self.start + Duration::from_secs_f64(number as f64 / f64::from(RATE))
    }
}

impl SteadyLoad {
    pub fn start(bench: Arc<Bench>) -> Self {
        let plan = Plan { start: Instant::now() };
        let stopped = Arc::<AtomicBool>::default();
        let (total, total_receiver) = oneshot::channel();
        let collecting = tokio::spawn(collect(bench.receiver.watch(), total_receiver));
        let publishing = tokio::spawn(publish(bench.clone(), plan, stopped.clone()));
        Self { plan, stopped, publishing, collecting, total, bench }
    }

    /// Whether it is still running; if not, [`Self::stop`] returns the error.
    pub fn is_running(&self) -> bool {
        !self.publishing.is_finished() && !self.collecting.is_finished()
    }

    /// Stops publishing and waits until everything has arrived.
    pub async fn stop(self) -> Result<Log> {
        self.stopped.store(true, Ordering::Relaxed);
        let published = self.publishing.await.context("the load")??;
        // If the collector has failed, its result says so.
        let _ = self.total.send(published);
        let arrivals = self.collecting.await.context("the collector")??;
        self.bench.receiver.unwatch();
        Ok(Log { plan: self.plan, published, arrivals })
    }
}

/// Publishes until stopped, and returns the number of events, all of which were accepted.
async fn publish(bench: Arc<Bench>, plan: Plan, stopped: Arc<AtomicBool>) -> Result<u64> {
    // One task per event, so that a call waiting for a dead node does not delay the others.
    let mut calls = JoinSet::new();
    let mut published = 0;
    while !stopped.load(Ordering::Relaxed) {
        tokio::time::sleep_until(plan.of(published)).await;
        calls.spawn(until_accepted(bench.clone(), published));
        published += 1;
        while let Some(call) = calls.try_join_next() {
            call.context("a call of the load failed")??;
        }
    }
    while let Some(call) = calls.join_next().await {
        call.context("a call of the load failed")??;
    }
    Ok(published)
}

/// Tries one node after another with the same key.
async fn until_accepted(bench: Arc<Bench>, number: u64) -> Result<()> {
    let key = format!("steady-{number}");
    let deadline = Instant::now() + ACCEPTED_WITHIN;
    for attempt in 1_usize.. {
        let numbers = [number];
        let call = bench.publish_at(bench.next_base(), &numbers, Some(&key));
        let answer =
            timeout_at(deadline, call).await.with_context(|| format!("no response to {key}"))?;
        let Err(error) = answer else { break };
        ensure!(Instant::now() < deadline, "no node accepts {key}: {error}");
        if attempt % bench.bases.len() == 0 {
            tokio::time::sleep(RETRY_DELAY).await;
        }
    }
    Ok(())
}

/// Logs arrivals until the total number of events, once known, has arrived.
async fn collect(
    mut arrivals: mpsc::UnboundedReceiver<Arrival>,
    mut total: oneshot::Receiver<u64>,
) -> Result<Vec<LoggedArrival>> {
    let (mut log, mut events, mut numbers) = (Vec::new(), HashSet::new(), HashSet::new());
    let mut record = |arrival: Arrival| {
        let (number, at) = (arrival.number()?, arrival.at);
        log.push(LoggedArrival { number, at, duplicate: !events.insert(arrival.event) });
        numbers.insert(number);
        anyhow::Ok(numbers.len() as u64)
    };
    let mut seen = 0;
    let total = loop {
        tokio::select! {
            arrival = arrivals.recv() => seen = record(arrival.context("the receiver stopped")?)?,
            total = &mut total => break total.context("the load stopped")?,
        }
    };
    while seen < total {
        let arrival = timeout(ARRIVED_WITHIN, arrivals.recv()).await;
        let arrival = arrival.with_context(|| format!("{seen} of {total} events arrived"))?;
        seen = record(arrival.context("the receiver stopped")?)?;
    }
    Ok(log)
}
