//! The handle on the delivery engine: starts it, starts owned shards and routes wakes to them.

use std::collections::HashSet;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use postrider_cluster::route::{Notifier, Router, TestReport, Workers};
use postrider_cluster::shard_guard::ShardGuard;
use postrider_domain::assignment::{Fence, Shard};
use postrider_domain::endpoint::Endpoint;
use postrider_domain::event::Event;
use postrider_domain::ids::IdGenerator;
use postrider_domain::time::Clock;
use postrider_domain::transition::Rules;
use postrider_net::tasks::Tasks;
use postrider_store::{Records, Wake};
use ractor::rpc::CallResult;
use ractor::{Actor, ActorRef, SpawnErr};
use tokio::sync::Semaphore;

use crate::backlog::{self, Backlog};
use crate::context::{Bounds, Context, SharedRng};
use crate::metrics::Metrics;
use crate::peer_deliveries::{self, PeerDelivery};
use crate::permits::Permits;
use crate::recorder::Recorder;
use crate::sender::{Sender, Webhook};
use crate::shard::ShardMsg;
use crate::supervisor::{Supervisor, SupervisorMsg};

const START_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum concurrent reads that verify deliveries from other nodes.
const MAX_PEER_READS: usize = 16;

/// The engine's dependencies.
pub struct Options {
    pub records: Records,
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
pub struct DeliveryEngine {
    context: Arc<Context>,
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
        let Options { records, router, rules, sender, notifier, clock, id_generator, rng, tasks } =
            options;
        let rules = Arc::new(rules);
        let recorder = Recorder::start(records.clone(), rules, &tasks);
        let context = Context {
            bounds,
            shards: OwnedShards::new(records.shards()),
            records,
            router,
            clock,
            rng,
            id_generator,
            sender,
            recorder,
            permits: Permits::new(),
            memory_budget: Arc::default(),
            peer_reads: Arc::new(Semaphore::new(MAX_PEER_READS)),
            notifier,
            metrics: Metrics::new(),
            backlog: Mutex::default(),
            successes: AtomicU64::default(),
        };
        let context = Arc::new(context);
        backlog::start(&context, &tasks);
        let (supervisor, running) = Actor::spawn(None, Supervisor, context.clone()).await?;
        tasks.watch("supervisor of shards", running);
        Ok(Self { context, supervisor })
    }

    /// Delivers from a shard until its guard is over. Attempts in flight at that time hold the guard
    /// until they are recorded.
    pub async fn own(&self, guard: ShardGuard) -> Result<(), StartError> {
        let own = |reply| SupervisorMsg::Own(guard, reply);
        match self.supervisor.call(own, Some(START_TIMEOUT)).await {
            Ok(CallResult::Success(started)) => Ok(started?),
            Ok(CallResult::Timeout) => {
                Err(StartError("the supervisor did not reply in time".to_owned()))
            }
            Ok(CallResult::SenderError) => Err(StartError("the supervisor has stopped".to_owned())),
            Err(error) => Err(StartError(error.to_string())),
        }
    }

    /// The node's backlog as of the last scan.
    #[must_use]
    pub fn backlog(&self) -> Backlog {
        self.context.backlog()
    }

    /// Number of requests in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.context.permits.in_use()
    }
}

#[async_trait]
impl Workers for DeliveryEngine {
    fn wake(&self, wakes: Vec<Wake>) -> Vec<Wake> {
        self.context.shards.wake(wakes)
    }

    fn wake_from_peer(&self, wakes: Vec<Wake>) -> Vec<Wake> {
        let (mut deliveries, mut hints) = (Vec::new(), Vec::new());
        let permit = self.context.peer_reads.clone().try_acquire_owned();
        for wake in wakes {
            match PeerDelivery::from_wake(wake) {
                Ok(delivery) if permit.is_ok() && self.context.shards.owns(delivery.shard()) => {
                    deliveries.push(delivery);
                }
                // Its owner reads it from the store.
                Ok(delivery) => hints.push(delivery.wake(None)),
                Err(hint) => hints.push(hint),
            }
        }
        if !deliveries.is_empty() {
            let context = self.context.clone();
            tokio::spawn(async move {
                let verified = peer_deliveries::verify(&context.records, deliveries).await;
                // If a shard has moved meanwhile, its new owner finds the delivery by a scan.
                let _ = context.shards.wake(verified);
                drop(permit);
            });
        }
        self.context.shards.wake(hints)
    }

    fn scan_now(&self) {
        self.context.shards.scan_now();
    }

    async fn send_test(&self, endpoint: Endpoint, event: Event) -> TestReport {
        let webhook =
            Webhook { event: event.id, event_type: &event.event_type, payload: &event.payload };
        let wall = self.context.wall();
        let (exchange, phases) = self.context.sender.send_timed(&endpoint, webhook, wall).await;
        TestReport { exchange, phases }
    }
}

/// The actors of the shards that this node owns, by shard.
pub(crate) struct OwnedShards(RwLock<Vec<Option<OwnedShard>>>);

struct OwnedShard {
    fence: Fence,
    actor: ActorRef<ShardMsg>,
}

impl OwnedShards {
    fn new(count: u16) -> Self {
        Self(RwLock::new((0..count).map(|_| None).collect()))
    }

    /// Routes wakes to the shards owned here and returns the others.
    fn wake(&self, wakes: Vec<Wake>) -> Vec<Wake> {
        let shards = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut others = Vec::new();
        for wake in wakes {
            match shards.get(usize::from(wake.shard())) {
                Some(Some(owned)) => {
                    // An actor that has just stopped no longer owns the shard.
                    let _ = owned.actor.cast(ShardMsg::Wake(wake));
                }
                _ => others.push(wake),
            }
        }
        others
    }

    /// Makes every shard owned here scan its due rows.
    fn scan_now(&self) {
        let shards = self.0.read().unwrap_or_else(PoisonError::into_inner);
        for owned in shards.iter().flatten() {
            // An actor that has just stopped no longer owns the shard.
            let _ = owned.actor.cast(ShardMsg::Scan);
        }
    }

    fn owns(&self, shard: Shard) -> bool {
        let shards = self.0.read().unwrap_or_else(PoisonError::into_inner);
        shards.get(usize::from(shard)).is_some_and(Option::is_some)
    }

    pub(crate) fn owned(&self) -> HashSet<Shard> {
        let shards = self.0.read().unwrap_or_else(PoisonError::into_inner);
        shards.iter().flatten().map(|owned| owned.fence.shard).collect()
    }

    pub(crate) fn insert(&self, fence: Fence, actor: ActorRef<ShardMsg>) {
        self.slot(fence.shard, |slot| *slot = Some(OwnedShard { fence, actor }));
    }

    /// Removes a shard, unless it has been claimed again meanwhile.
    pub(crate) fn remove(&self, fence: Fence) {
        self.slot(fence.shard, |slot| {
            slot.take_if(|owned| owned.fence == fence);
        });
    }

    fn slot<T>(&self, shard: Shard, change: impl FnOnce(&mut Option<OwnedShard>) -> T) -> T {
        let mut shards = self.0.write().unwrap_or_else(PoisonError::into_inner);
        change(&mut shards[usize::from(shard)])
    }
}
