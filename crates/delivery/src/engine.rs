//! The handle to the delivery engine: starts it and the shards that this node owns.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use postrider_cluster::route::{Notifier, Router};
use postrider_cluster::shard_guard::ShardGuard;
use postrider_domain::attempt::TestReport;
use postrider_domain::endpoint::Endpoint;
use postrider_domain::event::Event;
use postrider_domain::ids::IdGenerator;
use postrider_domain::own_outage::Outage;
use postrider_domain::time::Clock;
use postrider_domain::transition::Rules;
use postrider_net::tasks::Tasks;
use postrider_store::Records;
use ractor::rpc::CallResult;
use ractor::{Actor, ActorRef, SpawnErr};

use crate::attempt::Attempts;
use crate::backlog::{Backlog, BacklogMonitor};
use crate::endpoint::EndpointResources;
use crate::jobs::Jobs;
use crate::metrics::Metrics;
use crate::owned_shards::OwnedShards;
use crate::permits::Permits;
use crate::recorder::Recorder;
use crate::rng::SharedRng;
use crate::sender::Sender;
use crate::shard::{Bounds, ShardResources};
use crate::supervisor::{Supervisor, SupervisorMsg};
use crate::surroundings::Surroundings;

const START_TIMEOUT: Duration = Duration::from_secs(10);

/// The engine's dependencies.
pub struct Options {
    pub records: Records,
    /// The router's [`LocalShards`](postrider_cluster::route::LocalShards).
    pub owned_shards: OwnedShards,
    /// Routes wakes to the owners of their shards, on any node.
    pub router: Router,
    pub rules: Rules,
    pub sender: Sender,
    /// Notified of new notices.
    pub notifier: Arc<dyn Notifier>,
    pub clock: Arc<dyn Clock>,
    pub id_generator: Arc<IdGenerator>,
    /// The source of retry jitter.
    pub rng: SharedRng,
    /// Tasks whose end stops the node.
    pub tasks: Tasks,
}

/// A node's delivery engine. Clones share it.
#[derive(Clone)]
pub struct DeliveryEngine(Arc<Engine>);

struct Engine {
    attempts: Arc<Attempts>,
    permits: Permits,
    backlog: Arc<BacklogMonitor>,
    supervisor: ActorRef<SupervisorMsg>,
}

/// An actor could not be started.
#[derive(Debug, thiserror::Error)]
#[error("cannot start the delivery actors: {0}")]
pub struct StartError(String);

impl From<SpawnErr> for StartError {
    fn from(error: SpawnErr) -> Self {
        Self(error.to_string())
    }
}

impl DeliveryEngine {
    /// Starts the engine. It owns no shards yet.
    pub async fn start(options: Options) -> Result<Self, StartError> {
        Self::start_within(Bounds::default(), options).await
    }

    pub(crate) async fn start_within(bounds: Bounds, options: Options) -> Result<Self, StartError> {
        let Options {
            records,
            owned_shards,
            router,
            rules,
            sender,
            notifier,
            clock,
            id_generator,
            rng,
            tasks,
        } = options;
        let metrics = Arc::new(Metrics::new());
        let permits = Permits::new(sender.per_host());
        let recorder = Recorder::start(records.clone(), Arc::new(rules), &tasks);
        let attempts = Arc::new(Attempts {
            records: records.clone(),
            clock: clock.clone(),
            id_generator: id_generator.clone(),
            rng,
            surroundings: Surroundings::start(
                sender.resolver().clone(),
                permits.clone(),
                clock.clone(),
                &tasks,
            ),
            sender,
            recorder,
            notifier,
            metrics: metrics.clone(),
            successes: AtomicU64::default(),
        });
        let endpoints = EndpointResources {
            records: records.clone(),
            clock: clock.clone(),
            attempts: attempts.clone(),
            permits: permits.clone(),
            memory_budget: Arc::default(),
            metrics: metrics.clone(),
        };
        let jobs =
            Jobs { records: records.clone(), router, clock: clock.clone(), id_generator, metrics };
        let resources = ShardResources {
            bounds,
            records: records.clone(),
            clock: clock.clone(),
            jobs: Arc::new(jobs),
            endpoints: Arc::new(endpoints),
        };
        let backlog = BacklogMonitor::start(records, clock, owned_shards.clone(), &tasks);
        let supervised = (Arc::new(resources), owned_shards);
        let (supervisor, running) = Actor::spawn(None, Supervisor, supervised).await?;
        tasks.watch("shard supervisor", running);
        Ok(Self(Arc::new(Engine { attempts, permits, backlog, supervisor })))
    }

    /// Delivers from a shard until its guard is revoked. Attempts in flight at that time hold the
    /// guard until they are recorded.
    pub async fn own(&self, guard: ShardGuard) -> Result<(), StartError> {
        let own = |reply| SupervisorMsg::Own(guard, reply);
        match self.0.supervisor.call(own, Some(START_TIMEOUT)).await {
            Ok(CallResult::Success(started)) => Ok(started?),
            Ok(CallResult::Timeout) => {
                Err(StartError("the supervisor did not reply in time".to_owned()))
            }
            Ok(CallResult::SenderError) => Err(StartError("the supervisor has stopped".to_owned())),
            Err(error) => Err(StartError(error.to_string())),
        }
    }

    /// Sends an event to an endpoint once, immediately. The result does not affect the endpoint's
    /// state.
    pub async fn send_test(&self, endpoint: &Endpoint, event: &Event) -> TestReport {
        self.0.attempts.test(endpoint, event).await
    }

    /// The node's backlog as of the last scan.
    #[must_use]
    pub fn backlog(&self) -> Backlog {
        self.0.backlog.latest()
    }

    /// The node's current outages.
    #[must_use]
    pub fn outages(&self) -> Vec<Outage> {
        self.0.attempts.surroundings.outages()
    }

    /// Whether an outage of its own has kept this node from sending for at least `time`.
    #[must_use]
    pub fn has_been_cut_off_for(&self, time: Duration) -> bool {
        self.0.attempts.surroundings.has_been_cut_off_for(time)
    }

    /// Number of requests in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.0.permits.in_use()
    }
}
