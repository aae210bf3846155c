//! What a scenario leaves behind for the [`checker`](crate::checker): the client's log, the
//! receiver's log, the email, the faults that were made, and the store's records as the API
//! shows them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use anyhow::Result;
use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;

use crate::client::records::{Cluster, Delivery, Endpoint, Event, Replay};
use crate::client::{Account, Operator};
use crate::fault::{Fault, Kind};
use crate::load::Publication;
use crate::mail::Mail;
use crate::receiver::{Hook, Received};
use crate::schedule::Schedule;

/// How many records are read at a time.
const READS_AT_ONCE: usize = 16;

/// Everything about one account in one run.
#[derive(Clone, Debug)]
pub struct Evidence {
    /// The client's log.
    pub publications: Vec<Publication>,
    /// The receiver's log.
    pub received: Vec<Received>,
    /// The email that arrived.
    pub mails: Vec<Mail>,
    /// What the store holds at the end.
    pub store: StoreRecords,
    /// Whom was sent to.
    pub subscribers: Vec<Subscriber>,
    /// What was done to the nodes, and when.
    pub faults: Vec<Fault>,
    /// When the last fault was over and every node was ready.
    pub healed: Timestamp,
    /// What the cluster said of itself meanwhile; nothing where there is none.
    pub sightings: Vec<Sighting>,
    /// Who owned what, and what was on record a moment later.
    pub glimpses: Vec<Glimpse>,
    /// What the processes used meanwhile.
    pub vitals: Vec<Vitals>,
    /// When the disk was slow.
    pub slow_flushes: Vec<Flush>,
    /// Whether all wall clocks showed the same time. Where they did not, the invariants that
    /// compare times are left out.
    pub one_clock: bool,
    /// Which endpoints were disabled by hand, and when.
    pub pauses: Vec<Pause>,
    /// Which replays were asked for.
    pub replays: Vec<ReplayRun>,
    /// The schedule that the node was configured with.
    pub schedule: Schedule,
    /// What the run must at least have had, to show anything.
    pub least: Least,
}

/// The store's records.
#[derive(Clone, Debug)]
pub struct StoreRecords {
    /// Every event of the account.
    pub events: Vec<Event>,
    /// Every endpoint of the account.
    pub endpoints: Vec<Endpoint>,
    /// Every delivery, with its attempts.
    pub deliveries: Vec<Delivery>,
    /// The ids that the list of each event's deliveries holds.
    pub by_event: HashMap<String, Vec<String>>,
}

/// An endpoint, as its owner knows it.
#[derive(Clone, Debug)]
pub struct Subscriber {
    /// Its id.
    pub endpoint: String,
    /// The path of the receiver that it names.
    pub path: String,
    /// The secret that its requests are signed with.
    pub secret: String,
    /// What it was subscribed to, in order: one for its creation, each change, and its deletion.
    pub subscriptions: Vec<Subscription>,
}

/// The types of events that an endpoint was to receive from some moment on.
#[derive(Clone, Debug)]
pub struct Subscription {
    /// When the call that made it so was asked.
    pub asked: Timestamp,
    /// When it was answered with success. Nobody knows when, or whether, a call took effect that
    /// got no answer.
    pub answered: Option<Timestamp>,
    /// The types; `*` is every type, and none are left when the endpoint was deleted.
    pub event_types: Vec<String>,
}

/// Whether an endpoint was subscribed to a type of events between two moments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subscribed {
    /// At every moment.
    Throughout,
    /// At some moments, or nobody knows.
    Perhaps,
    /// At no moment.
    Never,
}

/// A replay of one endpoint's deliveries, none of which was under way when it was asked for.
#[derive(Clone, Debug)]
pub struct ReplayRun {
    /// The endpoint.
    pub endpoint: String,
    /// The deliveries that had come to their end before it was asked for.
    pub past: Vec<String>,
    /// The replay, as it was last read; none when nobody knows whether there is one.
    pub replay: Option<Replay>,
}

/// What a node answered to the question who owns what.
#[derive(Clone, Debug)]
pub struct Sighting {
    /// When it answered.
    pub at: Timestamp,
    /// Its answer.
    pub cluster: Cluster,
}

/// Who owned what, and the deliveries that were pending then, read after it: what older owners
/// had to say of these is on record by then, or never will be.
#[derive(Clone, Debug)]
pub struct Glimpse {
    /// Who owned what.
    pub cluster: Cluster,
    /// The deliveries, without their attempts.
    pub pending: Vec<Delivery>,
}

impl Glimpse {
    /// Looks at both.
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

/// What a process used at one moment.
#[derive(Clone, Debug)]
pub struct Vitals {
    /// When.
    pub at: Timestamp,
    /// The node's name.
    pub node: String,
    /// Its memory.
    pub anonymous_kib: u64,
    /// Its open descriptors.
    pub descriptors: u64,
    /// Its threads.
    pub threads: u64,
}

/// An endpoint disabled by hand.
#[derive(Clone, Debug)]
pub struct Pause {
    /// Which.
    pub endpoint: String,
    /// When the call to disable it was answered.
    pub acknowledged: Timestamp,
    /// When enabling it was asked for.
    pub enabled: Option<Timestamp>,
}

/// A moment in which data went to the disk.
#[derive(Clone, Copy, Debug)]
pub struct Flush {
    /// When it was asked for.
    pub from: Timestamp,
    /// When it was done.
    pub to: Timestamp,
}

/// The least that a run must have had.
#[derive(Clone, Debug, Default)]
pub struct Least {
    /// Accepted events.
    pub events: usize,
    /// Faults of each kind that were planned.
    pub faults: Vec<(Kind, usize)>,
    /// Endpoints that were disabled because a delivery was exhausted.
    pub disabled: usize,
    /// Replays that were made.
    pub replays: usize,
    /// Changes of subscriptions.
    pub changes: usize,
}

impl Subscriber {
    /// The owner of `endpoint`, as its creation was answered, who listens at `hook`.
    #[must_use]
    pub fn new(endpoint: &Endpoint, hook: &Hook) -> Self {
        Self {
            endpoint: endpoint.id.clone(),
            path: hook.path().to_owned(),
            secret: endpoint.signing_secret.clone().unwrap_or_default(),
            // Nothing that a test asks for afterwards meets its creation.
            subscriptions: vec![Subscription {
                asked: Timestamp::MIN,
                answered: Some(Timestamp::MIN),
                event_types: endpoint.event_types.clone(),
            }],
        }
    }

    /// How often its subscription was certainly changed.
    #[must_use]
    pub fn changes(&self) -> usize {
        let made = self.subscriptions.iter().filter(|s| s.answered.is_some());
        made.count().saturating_sub(1)
    }

    /// Whether it was subscribed to this type at the moments from `from` to `to`.
    #[must_use]
    pub fn subscribed(&self, event_type: &str, from: Timestamp, to: Timestamp) -> Subscribed {
        // The last one that had taken effect before has replaced all that came before it.
        let in_force = self.subscriptions.iter().rfind(|s| s.answered.is_some_and(|at| at <= from));
        let may_take_effect =
            |s: &&Subscription| s.asked <= to && s.answered.is_none_or(|at| at > from);
        let mut possible = self.subscriptions.iter().filter(may_take_effect).chain(in_force);
        let wants = |subscription: &Subscription| subscription.wants(event_type);
        match in_force {
            Some(_) if possible.clone().all(wants) => Subscribed::Throughout,
            _ if possible.any(wants) => Subscribed::Perhaps,
            _ => Subscribed::Never,
        }
    }
}

impl Subscription {
    /// Whether events of this type are to be received.
    #[must_use]
    pub fn wants(&self, event_type: &str) -> bool {
        self.event_types.iter().any(|wanted| wanted == "*" || wanted == event_type)
    }
}

impl StoreRecords {
    /// Reads everything that the account may see. Deliveries are found by their events and by their
    /// endpoints: one that either forgot is seen.
    pub async fn read(account: &Account) -> Result<Self> {
        let mut records = Self::outline(account).await?;
        let known: HashSet<_> = records.deliveries.iter().map(|d| d.id.clone()).collect();
        let of_endpoints = stream::iter(&records.endpoints)
            .map(|endpoint| account.deliveries(&endpoint.id))
            .buffered(READS_AT_ONCE)
            .try_collect::<Vec<_>>();
        let of_endpoints = of_endpoints.await?.into_iter().flatten();
        records.deliveries.extend(of_endpoints.filter(|d| !known.contains(&d.id)));
        // Whatever was not attempted is in the lists as it is.
        let of = |delivery: Delivery| async move {
            match delivery.attempt_count {
                0 => Ok(delivery),
                _ => account.delivery(&delivery.id).await,
            }
        };
        let outlined = std::mem::take(&mut records.deliveries);
        let full = stream::iter(outlined).map(of).buffered(READS_AT_ONCE);
        records.deliveries = full.try_collect().await?;
        Ok(records)
    }

    /// The deliveries that the events list, without any attempts.
    pub async fn outline(account: &Account) -> Result<Self> {
        let endpoints: Vec<Endpoint> = account.list("/endpoints?").await?;
        let events = account.events().await?;
        let mut deliveries = BTreeMap::new();
        let mut by_event = HashMap::new();
        let of_events = stream::iter(&events)
            .map(|event| account.deliveries_of_event(&event.id))
            .buffered(READS_AT_ONCE)
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

/// Which requests belong to which event and endpoint. A request does not tell an event's first
/// delivery to an endpoint from one that repeats it.
#[derive(Debug)]
pub struct Posts<'a>(HashMap<(String, &'a str), Vec<&'a Received>>);

impl<'a> Posts<'a> {
    /// Sorts the receiver's log by event and endpoint.
    #[must_use]
    pub fn sort(evidence: &'a Evidence) -> Self {
        let endpoints: HashMap<_, _> = evidence
            .subscribers
            .iter()
            .map(|subscriber| (subscriber.path.as_str(), subscriber.endpoint.as_str()))
            .collect();
        let mut posts: HashMap<_, Vec<_>> = HashMap::new();
        for request in &evidence.received {
            if let Some(&endpoint) = endpoints.get(request.path.as_str()) {
                let event = request.webhook_id().unwrap_or_default();
                posts.entry((event, endpoint)).or_default().push(request);
            }
        }
        Self(posts)
    }

    /// The requests of an event to an endpoint, in the order of arrival.
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

/// How long after `earlier` this is; zero when it is not after it.
#[must_use]
pub fn since(later: Timestamp, earlier: Timestamp) -> Duration {
    Duration::try_from(later.duration_since(earlier)).unwrap_or_default()
}
