//! The record of a run, as input for the [`checker`](crate::checker): the client's log, the
//! receiver's log, the emails, the injected faults, and the store's records as seen through the
//! API.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use anyhow::Result;
use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;

use crate::client::records::{Cluster, Delivery, Endpoint, Event, Replay};
use crate::client::{Account, Operator};
use crate::fault::{Fault, Kind};
use crate::load::Publication;
use crate::mail::Email;
use crate::receiver::{Hook, Received};
use crate::schedule::Schedule;

/// Concurrent reads.
const CONCURRENT_READS: usize = 16;

/// The record of one account in one run.
#[derive(Clone, Debug)]
pub struct Evidence {
    /// The client's log.
    pub publications: Vec<Publication>,
    /// The receiver's log.
    pub received: Vec<Received>,
    /// The emails that arrived.
    pub emails: Vec<Email>,
    /// The store's records at the end of the run.
    pub store: StoreRecords,
    pub subscribers: Vec<Subscriber>,
    pub faults: Vec<Fault>,
    /// The time at which the last fault was over and every node was ready.
    pub healed: Timestamp,
    /// Shard ownership as reported by the nodes during the run; empty without a cluster.
    pub cluster_samples: Vec<ClusterSample>,
    /// Shard ownership together with the deliveries pending at that time.
    pub snapshots: Vec<Snapshot>,
    /// Resource usage of the node processes during the run.
    pub usage: Vec<Usage>,
    /// Disk flushes that were slow.
    pub slow_flushes: Vec<Flush>,
    /// Whether all wall clocks agreed. If not, the invariants that compare times are skipped.
    pub clocks_agree: bool,
    /// Endpoints disabled through the API.
    pub manual_disables: Vec<ManualDisable>,
    /// Replays requested during the run.
    pub replays: Vec<ReplayRun>,
    /// The configured retry schedule.
    pub schedule: Schedule,
    /// Minimum coverage: below it, the run proves nothing.
    pub minimum: Minimum,
}

/// The store's records.
#[derive(Clone, Debug)]
pub struct StoreRecords {
    pub events: Vec<Event>,
    pub endpoints: Vec<Endpoint>,
    /// The deliveries with their attempts.
    pub deliveries: Vec<Delivery>,
    /// The delivery ids listed for each event.
    pub by_event: HashMap<String, Vec<String>>,
}

/// An endpoint, as its account knows it.
#[derive(Clone, Debug)]
pub struct Subscriber {
    pub endpoint: String,
    /// The receiver's path in the endpoint's URL.
    pub path: String,
    pub secret: String,
    /// Subscriptions in order: one each for creation, every change, and deletion.
    pub subscriptions: Vec<Subscription>,
}

/// The event types an endpoint receives from a certain time on.
#[derive(Clone, Debug)]
pub struct Subscription {
    /// The time at which the call was sent.
    pub sent_at: Timestamp,
    /// The time of the successful response. Without one, the call may have taken effect at any
    /// time, or not at all.
    pub answered: Option<Timestamp>,
    /// `*` means every type; empty once the endpoint is deleted.
    pub event_types: Vec<String>,
}

/// Whether an endpoint was subscribed to an event type during an interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subscribed {
    /// The whole time.
    Throughout,
    /// Part of the time, or unknown.
    Maybe,
    Never,
}

/// A replay of one endpoint's deliveries. None of them was in flight when it was requested.
#[derive(Clone, Debug)]
pub struct ReplayRun {
    pub endpoint: String,
    /// The deliveries that had finished before the replay was requested.
    pub past: Vec<String>,
    /// The replay as last read; `None` if it is unknown whether it was created.
    pub replay: Option<Replay>,
}

/// Shard ownership as reported by a node.
#[derive(Clone, Debug)]
pub struct ClusterSample {
    pub at: Timestamp,
    pub cluster: Cluster,
}

/// Shard ownership, and the pending deliveries read after it. Attempts by earlier owners are
/// recorded by then, or never will be.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub cluster: Cluster,
    /// The pending deliveries, without their attempts.
    pub pending: Vec<Delivery>,
}

impl Snapshot {
    pub async fn take(operator: &Operator, account: &Account) -> Result<Self> {
        let cluster = operator.cluster().await?;
        let mut pending = Vec::new();
        for endpoint in account.list::<Endpoint>("/endpoints?").await? {
            let path = format!("/endpoints/{}/deliveries?state=pending&", endpoint.id);
            pending.extend(account.list::<Delivery>(&path).await?);
        }
        Ok(Self { cluster, pending })
    }
}

/// Resource usage of a node process at one moment.
#[derive(Clone, Debug)]
pub struct Usage {
    pub at: Timestamp,
    pub node: String,
    pub anonymous_kib: u64,
    pub descriptors: u64,
    pub threads: u64,
}

/// An endpoint disabled through the API.
#[derive(Clone, Debug)]
pub struct ManualDisable {
    pub endpoint: String,
    /// The time of the response to the disable call.
    pub acknowledged: Timestamp,
    /// The time at which the enable call was sent.
    pub enabled: Option<Timestamp>,
}

/// A flush of data to disk.
#[derive(Clone, Copy, Debug)]
pub struct Flush {
    pub from: Timestamp,
    pub to: Timestamp,
}

/// The minimum coverage of a run.
#[derive(Clone, Debug, Default)]
pub struct Minimum {
    pub events: usize,
    /// Planned faults of each kind.
    pub faults: Vec<(Kind, usize)>,
    /// Endpoints disabled because a delivery was exhausted.
    pub disabled: usize,
    pub replays: usize,
    /// Changes to subscriptions.
    pub changes: usize,
}

impl Subscriber {
    /// A subscriber from the response to its creation, listening at `hook`.
    #[must_use]
    pub fn new(endpoint: &Endpoint, hook: &Hook) -> Self {
        Self {
            endpoint: endpoint.id.clone(),
            path: hook.path().to_owned(),
            secret: endpoint.signing_secret.clone().unwrap_or_default(),
            // Created before any event of the test.
            subscriptions: vec![Subscription {
                sent_at: Timestamp::MIN,
                answered: Some(Timestamp::MIN),
                event_types: endpoint.event_types.clone(),
            }],
        }
    }

    /// The number of confirmed subscription changes.
    #[must_use]
    pub fn changes(&self) -> usize {
        let made = self.subscriptions.iter().filter(|s| s.answered.is_some());
        made.count().saturating_sub(1)
    }

    /// Whether it was subscribed to this event type from `from` to `to`.
    #[must_use]
    pub fn subscribed(&self, event_type: &str, from: Timestamp, to: Timestamp) -> Subscribed {
        // The last subscription confirmed before `from` has replaced all earlier ones.
        let in_force = self.subscriptions.iter().rfind(|s| s.answered.is_some_and(|at| at <= from));
        let may_take_effect =
            |s: &&Subscription| s.sent_at <= to && s.answered.is_none_or(|at| at > from);
        let mut possible = self.subscriptions.iter().filter(may_take_effect).chain(in_force);
        let matches = |subscription: &Subscription| subscription.matches(event_type);
        match in_force {
            Some(_) if possible.clone().all(matches) => Subscribed::Throughout,
            _ if possible.any(matches) => Subscribed::Maybe,
            _ => Subscribed::Never,
        }
    }
}

impl Subscription {
    #[must_use]
    pub fn matches(&self, event_type: &str) -> bool {
        self.event_types.iter().any(|wanted| wanted == "*" || wanted == event_type)
    }
}

impl StoreRecords {
    /// The ids of the endpoints that were disabled because a delivery was exhausted.
    #[must_use]
    pub fn exhausted_endpoints(&self) -> Vec<String> {
        let exhausted = self.endpoints.iter().filter(|endpoint| endpoint.is_exhausted());
        exhausted.map(|endpoint| endpoint.id.clone()).collect()
    }

    /// Reads all records of the account. Deliveries are looked up both by event and by endpoint, so
    /// that one missing from either index is still found.
    pub async fn read(account: &Account) -> Result<Self> {
        let mut records = Self::read_without_attempts(account).await?;
        let known: HashSet<_> = records.deliveries.iter().map(|d| d.id.clone()).collect();
        let of_endpoints = stream::iter(&records.endpoints)
            .map(|endpoint| account.deliveries(&endpoint.id))
            .buffered(CONCURRENT_READS)
            .try_collect::<Vec<_>>();
        let of_endpoints = of_endpoints.await?.into_iter().flatten();
        records.deliveries.extend(of_endpoints.filter(|d| !known.contains(&d.id)));
        // Without attempts, the list entry is the whole record.
        let read = |delivery: Delivery| async move {
            match delivery.attempt_count {
                0 => Ok(delivery),
                _ => account.delivery(&delivery.id).await,
            }
        };
        let summaries = std::mem::take(&mut records.deliveries);
        let full = stream::iter(summaries).map(read).buffered(CONCURRENT_READS);
        records.deliveries = full.try_collect().await?;
        Ok(records)
    }

    /// Reads the deliveries listed by the events, without their attempts.
    pub async fn read_without_attempts(account: &Account) -> Result<Self> {
        let endpoints: Vec<Endpoint> = account.list("/endpoints?").await?;
        let events = account.events().await?;
        let mut deliveries = BTreeMap::new();
        let mut by_event = HashMap::new();
        let of_events = stream::iter(&events)
            .map(|event| account.deliveries_of_event(&event.id))
            .buffered(CONCURRENT_READS)
            .try_collect::<Vec<_>>();
        for (event, list) in events.iter().zip(of_events.await?) {
            let ids = list.iter().map(|delivery| delivery.id.clone()).collect();
            by_event.insert(event.id.clone(), ids);
            deliveries.extend(list.into_iter().map(|delivery| (delivery.id.clone(), delivery)));
        }
        let deliveries = deliveries.into_values().collect();
        Ok(Self { events, endpoints, deliveries, by_event })
    }
}

/// Requests by event and endpoint. A request does not show whether it belongs to an event's first
/// delivery to an endpoint or to a repeat.
#[derive(Debug)]
pub struct RequestIndex<'a>(HashMap<(String, &'a str), Vec<&'a Received>>);

impl<'a> RequestIndex<'a> {
    #[must_use]
    pub fn of_run(evidence: &'a Evidence) -> Self {
        let endpoints: HashMap<_, _> = evidence
            .subscribers
            .iter()
            .map(|subscriber| (subscriber.path.as_str(), subscriber.endpoint.as_str()))
            .collect();
        let mut requests: HashMap<_, Vec<_>> = HashMap::new();
        for request in &evidence.received {
            if let Some(&endpoint) = endpoints.get(request.path.as_str()) {
                let event = request.webhook_id().unwrap_or_default();
                requests.entry((event, endpoint)).or_default().push(request);
            }
        }
        Self(requests)
    }

    /// The requests for an event and endpoint, in order of arrival.
    #[must_use]
    pub fn of(&self, event: &str, endpoint: &'a str) -> &[&'a Received] {
        self.0.get(&(event.to_owned(), endpoint)).map_or(&[], Vec::as_slice)
    }
}

/// `time` plus `duration`.
#[must_use]
pub fn after(time: Timestamp, duration: Duration) -> Timestamp {
    time.saturating_add(duration).unwrap_or(Timestamp::MAX)
}

/// The time from `earlier` to `later`; zero if `later` is not after it.
#[must_use]
pub fn since(later: Timestamp, earlier: Timestamp) -> Duration {
    Duration::try_from(later.duration_since(earlier)).unwrap_or_default()
}
