//! Events at a constant rate to many healthy endpoints, so that any delay of an endpoint shows as a
//! gap at the receiver.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior};

use crate::client::Account;
use crate::evidence::since;
use crate::receiver::Received;
use crate::wait::{millis, seconds};

/// The interval between events.
pub const PUBLISH_INTERVAL: Duration = millis(200);
/// The deadline for some node to accept an event.
const ACCEPTED_WITHIN: Duration = seconds(20);
/// The delay before trying the next node.
const RETRY_DELAY: Duration = millis(20);

/// A running load.
#[derive(Debug)]
pub struct SteadyPublisher {
    stopped: Arc<AtomicBool>,
    publishing: JoinHandle<Result<usize>>,
}

/// An interval in which nothing arrived at an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    pub path: String,
    pub from: Timestamp,
    pub lasted: Duration,
}

impl SteadyPublisher {
    /// Publishes events of this type through the nodes of `accounts`, failing over to the next
    /// node.
    #[must_use]
    pub fn start(accounts: Vec<Account>, event_type: &str) -> Self {
        let stopped = Arc::<AtomicBool>::default();
        let publisher = Publisher {
            accounts,
            event_type: event_type.to_owned(),
            stopped: Arc::clone(&stopped),
            node: AtomicUsize::new(0),
        };
        Self { stopped, publishing: tokio::spawn(publish(Arc::new(publisher))) }
    }

    /// Stops and returns the number of published events, all of which were accepted.
    pub async fn stop(self) -> Result<usize> {
        self.stopped.store(true, Ordering::Relaxed);
        self.publishing.await.context("the steady load")?
    }
}

struct Publisher {
    accounts: Vec<Account>,
    event_type: String,
    stopped: Arc<AtomicBool>,
    /// The current node, counting up with each failover.
    node: AtomicUsize,
}

async fn publish(publisher: Arc<Publisher>) -> Result<usize> {
    let mut ticks = tokio::time::interval(PUBLISH_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // One task per event, so that a call waiting for a dead node does not delay the others.
    let mut calls = JoinSet::new();
    let mut published = 0;
    while !publisher.stopped.load(Ordering::Relaxed) {
        ticks.tick().await;
        calls.spawn(Arc::clone(&publisher).publish_one(published));
        published += 1;
    }
    while let Some(call) = calls.join_next().await {
        call.context("a call of the steady load failed")??;
    }
    Ok(published)
}

impl Publisher {
    async fn publish_one(self: Arc<Self>, number: usize) -> Result<()> {
        let (key, payload) = (format!("steady-{number}"), format!(r#"{{"n":{number}}}"#));
        let began = Instant::now();
        loop {
            let node = self.node.load(Ordering::Relaxed);
            let account = &self.accounts[node % self.accounts.len()];
            let answer = account.try_publish(&self.event_type, &payload, Some(&key)).await;
            if answer.is_ok_and(|answer| answer.status == 202) {
                return Ok(());
            }
            ensure!(began.elapsed() < ACCEPTED_WITHIN, "no node accepts {key}");
            // Only the first failed call at a node fails over to the next.
            let _ =
                self.node.compare_exchange(node, node + 1, Ordering::Relaxed, Ordering::Relaxed);
            tokio::time::sleep(RETRY_DELAY).await;
        }
    }
}

/// The longest gap at each of `paths` between `from` and `to`, longest first.
#[must_use]
pub fn gaps(received: &[Received], paths: &[String], from: Timestamp, to: Timestamp) -> Vec<Gap> {
    let mut arrivals: HashMap<&str, Vec<Timestamp>> =
        paths.iter().map(|path| (path.as_str(), vec![from, to])).collect();
    for request in received.iter().filter(|r| from < r.arrived && r.arrived < to) {
        if let Some(arrivals) = arrivals.get_mut(request.path.as_str()) {
            arrivals.push(request.arrived);
        }
    }
    let mut gaps: Vec<_> =
        arrivals.into_iter().filter_map(|(path, at)| longest(path, at)).collect();
    gaps.sort_by_key(|gap| std::cmp::Reverse(gap.lasted));
    gaps
}

fn longest(path: &str, mut arrivals: Vec<Timestamp>) -> Option<Gap> {
    arrivals.sort_unstable();
    let pairs = arrivals.windows(2).map(|pair| (pair[0], since(pair[1], pair[0])));
    let (from, lasted) = pairs.max_by_key(|&(_, lasted)| lasted)?;
    Some(Gap { path: path.to_owned(), from, lasted })
}

/// Events that arrived more than once at a path, with the count.
#[must_use]
pub fn duplicates(received: &[Received]) -> Vec<(String, String, usize)> {
    let mut times = HashMap::<_, usize>::new();
    for request in received {
        let event = request.webhook_id().unwrap_or_default();
        *times.entry((request.path.clone(), event)).or_default() += 1;
    }
    let repeated = times.into_iter().filter(|&(_, n)| n > 1);
    repeated.map(|((path, event), n)| (path, event, n)).collect()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::evidence::after;

    fn arrival(start: Timestamp, millis_later: u64, path: &str, event: u64) -> Received {
        let began = Instant::now();
        Received {
            index: 0,
            connection: 0,
            path: path.to_owned(),
            head: Bytes::from(format!("POST {path} HTTP/1.1\r\nwebhook-id: evt_{event}\r\n\r\n")),
            body: Bytes::new(),
            arrived: after(start, millis(millis_later)),
            began,
            ended: Some(began),
            answered: Some(200),
        }
    }

    #[test]
    fn a_gap_is_found_at_the_endpoint_that_has_it() {
        let start = Timestamp::now();
        let mut log: Vec<_> = (1..10).map(|n| arrival(start, n * 200, "/even", n)).collect();
        log.extend([1, 2, 7, 8, 9].map(|n| arrival(start, n * 200, "/gap", n)));
        let paths = ["/even", "/gap", "/silent"].map(str::to_owned);
        let gaps = gaps(&log, &paths, start, after(start, millis(2_000)));
        let seen: Vec<_> = gaps.iter().map(|gap| (gap.path.as_str(), gap.lasted)).collect();
        assert_eq!(
            seen,
            [("/silent", millis(2_000)), ("/gap", millis(1_000)), ("/even", millis(200))]
        );
        assert_eq!(gaps[1].from, after(start, millis(400)));
    }

    #[test]
    fn a_duplicate_is_the_same_event_at_the_same_endpoint() {
        let start = Timestamp::now();
        let log = [("/a", 1), ("/b", 1), ("/a", 2), ("/a", 2)]
            .map(|(path, n)| arrival(start, 0, path, n));
        assert_eq!(duplicates(&log), [("/a".to_owned(), "evt_2".to_owned(), 2)]);
    }
}
