//! What a scenario leaves behind for the [`checker`](crate::checker): the client's log, the
//! receiver's log, the email, the faults that were made, and the store's records as the API
//! shows them.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::Result;
use jiff::Timestamp;

use crate::client::records::{Cluster, Delivery, Endpoint, Event};
use crate::client::{Account, Operator};
use crate::fault::{Fault, Kind};
use crate::load::Publication;
use crate::mail::Mail;
use crate::receiver::{Hook, Received};
use crate::schedule::Schedule;

/// Everything about one run.
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
    /// Whether all wall clocks showed the same time. Where they did not, the invariants that
    /// compare times are left out.
    pub one_clock: bool,
    /// Which endpoints were disabled by hand, and when.
    pub pauses: Vec<Pause>,
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
    /// The types of events that it asked for; `*` is every type.
    pub event_types: Vec<String>,
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

/// The least that a run must have had.
#[derive(Clone, Debug)]
pub struct Least {
    /// Accepted events.
    pub events: usize,
    /// Faults of each kind that were planned.
    pub faults: Vec<(Kind, usize)>,
    /// Endpoints that were disabled because a delivery was exhausted.
    pub disabled: usize,
}

impl Subscriber {
    /// The owner of `endpoint`, as its creation was answered, who listens at `hook`.
    #[must_use]
    pub fn new(endpoint: &Endpoint, hook: &Hook) -> Self {
        Self {
            endpoint: endpoint.id.clone(),
            path: hook.path().to_owned(),
            secret: endpoint.signing_secret.clone().unwrap_or_default(),
            event_types: endpoint.event_types.clone(),
        }
    }

    /// Whether it asked for events of this type.
    #[must_use]
    pub fn wants(&self, event_type: &str) -> bool {
        self.event_types.iter().any(|wanted| wanted == "*" || wanted == event_type)
    }
}

impl StoreRecords {
    /// Reads everything that the account may see.
    pub async fn read(account: &Account) -> Result<Self> {
        let endpoints: Vec<Endpoint> = account.list("/endpoints?").await?;
        let mut deliveries = Vec::new();
        for endpoint in &endpoints {
            deliveries.extend(account.full_deliveries(&endpoint.id).await?);
        }
        Ok(Self { events: account.events().await?, endpoints, deliveries })
    }
}

/// Which requests belong to which delivery.
#[derive(Debug)]
pub struct Posts<'a>(HashMap<(String, &'a str), Vec<&'a Received>>);

impl<'a> Posts<'a> {
    /// Sorts the receiver's log by event and endpoint.
    #[must_use]
    pub fn of(evidence: &'a Evidence) -> Self {
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

    /// The requests of one delivery, in the order of arrival.
    #[must_use]
    pub fn of_delivery(&self, delivery: &'a Delivery) -> &[&'a Received] {
        let key = (delivery.event_id.clone(), delivery.endpoint_id.as_str());
        self.0.get(&key).map_or(&[], Vec::as_slice)
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
