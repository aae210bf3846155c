//! The door to the actors: what is owned here, and how it starts and drains.

use std::collections::HashSet;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use postrider_cluster::route::{Notifier, Router, TestReport, Workers};
use postrider_cluster::tenure::Tenure;
use postrider_domain::endpoint::Endpoint;
use postrider_domain::event::Event;
use postrider_domain::ids::Mint;
use postrider_domain::machine::Rules;
use postrider_domain::ownership::{Fence, Shard};
use postrider_domain::time::Clock;
use postrider_net::tasks::Tasks;
use postrider_store::{Records, Wake};
use ractor::rpc::CallResult;
use ractor::{Actor, ActorRef, SpawnErr};
use tokio::sync::Semaphore;

use crate::brought::{self, Brought};
use crate::census::{self, Waiting};
use crate::context::{Bounds, Context, Dice};
use crate::metrics::Metrics;
use crate::permits::Permits;
use crate::recorder::Recorder;
use crate::sender::{Message, Sender};
use crate::shard;
use crate::supervisor::{self, Supervisor};

/// How long a shard's actor may take to start.
const START: Duration = Duration::from_secs(10);

/// Reads under way at once that check what other nodes brought along.
const CHECKS: usize = 16;

/// What the actors are made with.
pub struct Options {
    /// The durable records.
    pub records: Records,
    /// Takes work to the owners of its shards, wherever they are.
    pub router: Router,
    /// The rules.
    pub rules: Rules,
    /// Makes requests.
    pub sender: Sender,
    /// Is told of new notices.
    pub notifier: Arc<dyn Notifier>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Ids.
    pub mint: Arc<Mint>,
    /// Luck.
    pub dice: Dice,
    /// Those that the node cannot do without.
    pub tasks: Tasks,
}

/// The deliverers of this node. Clones share them.
#[derive(Clone)]
pub struct Delivery {
    context: Arc<Context>,
    supervisor: ActorRef<supervisor::Message>,
}

/// The deliverers cannot work on a shard.
#[derive(Debug, thiserror::Error)]
#[error("the actors cannot be started: {0}")]
pub struct StartError(String);

impl From<SpawnErr> for StartError {
    fn from(error: SpawnErr) -> Self {
        Self(error.to_string())
    }
}

impl Delivery {
    /// Starts the deliverers of a node that owns nothing yet.
    ///
    /// # Errors
    /// When their supervisor cannot start.
    pub async fn start(options: Options) -> Result<Self, StartError> {
        Self::start_within(Bounds::default(), options).await
    }

    pub(crate) async fn start_within(bounds: Bounds, options: Options) -> Result<Self, StartError> {
        let Options { records, router, rules, sender, notifier, clock, mint, dice, tasks } =
            options;
        let rules = Arc::new(rules);
        let recorder = Recorder::start(records.clone(), rules, &tasks);
        let context = Context {
            bounds,
            shards: Shards::new(records.shards()),
            records,
            router,
            clock,
            dice,
            mint,
            sender,
            recorder,
            permits: Permits::new(),
            room: Arc::default(),
            checks: Arc::new(Semaphore::new(CHECKS)),
            notifier,
            metrics: Metrics::new(),
            waiting: Mutex::default(),
            successes: AtomicU64::default(),
        };
        let context = Arc::new(context);
        census::start(&context, &tasks);
        let (supervisor, running) = Actor::spawn(None, Supervisor, context.clone()).await?;
        tasks.watch("supervisor of shards", running);
        Ok(Self { context, supervisor })
    }

    /// Works on a shard until the tenure is over. What is in flight then holds the tenure until it
    /// is on record.
    ///
    /// # Errors
    /// When its actor cannot start.
    pub async fn own(&self, tenure: Tenure) -> Result<(), StartError> {
        let own = |reply| supervisor::Message::Own(tenure, reply);
        match self.supervisor.call(own, Some(START)).await {
            Ok(CallResult::Success(started)) => Ok(started?),
            Ok(CallResult::Timeout) => Err(StartError("no answer in time".to_owned())),
            Ok(CallResult::SenderError) => Err(StartError("the supervisor has ended".to_owned())),
            Err(error) => Err(StartError(error.to_string())),
        }
    }

    /// What waits on this node, as it was counted last.
    #[must_use]
    pub fn waiting(&self) -> Waiting {
        self.context.waiting()
    }

    /// Requests in flight now.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.context.permits.in_use()
    }
}

#[async_trait]
impl Workers for Delivery {
    fn wake(&self, wakes: Vec<Wake>) -> Vec<Wake> {
        self.context.shards.wake(wakes)
    }

    fn wake_from_peer(&self, wakes: Vec<Wake>) -> Vec<Wake> {
        let (mut brought, mut hints) = (Vec::new(), Vec::new());
        let check = self.context.checks.clone().try_acquire_owned();
        for wake in wakes {
            match Brought::of(wake) {
                Ok(delivery) if check.is_ok() && self.context.shards.owns(delivery.shard()) => {
                    brought.push(delivery);
                }
                // Whoever has it reads it.
                Ok(delivery) => hints.push(delivery.wake(None)),
                Err(hint) => hints.push(hint),
            }
        }
        if !brought.is_empty() {
            let context = self.context.clone();
            tokio::spawn(async move {
                let checked = brought::check(&context.records, brought).await;
                // Its owner finds what moved away meanwhile.
                let _ = context.shards.wake(checked);
                drop(check);
            });
        }
        self.context.shards.wake(hints)
    }

    fn look(&self) {
        self.context.shards.look();
    }

    async fn send_test(&self, endpoint: Endpoint, event: Event) -> TestReport {
        let message =
            Message { event: event.id, event_type: &event.event_type, payload: &event.payload };
        let wall = self.context.wall();
        let (sent, phases) = self.context.sender.send_timed(&endpoint, message, wall).await;
        TestReport {
            error: sent.outcome.error(),
            duration_ms: sent.duration_ms(),
            request: sent.request,
            response: sent.response,
            phases,
        }
    }
}

/// The actors of the shards that this node owns.
pub(crate) struct Shards(RwLock<Vec<Option<Owned>>>);

struct Owned {
    fence: Fence,
    actor: ActorRef<shard::Message>,
}

impl Shards {
    fn new(count: u16) -> Self {
        Self(RwLock::new((0..count).map(|_| None).collect()))
    }

    /// Passes work to the owners here, and gives back what is not theirs.
    fn wake(&self, wakes: Vec<Wake>) -> Vec<Wake> {
        let shards = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut others = Vec::new();
        for wake in wakes {
            match shards.get(usize::from(wake.shard())) {
                Some(Some(owned)) => {
                    // An actor that has just stopped is past its ownership.
                    let _ = owned.actor.cast(shard::Message::Wake(wake));
                }
                _ => others.push(wake),
            }
        }
        others
    }

    /// Has every owner here read its due rows.
    fn look(&self) {
        let shards = self.0.read().unwrap_or_else(PoisonError::into_inner);
        for owned in shards.iter().flatten() {
            // One that has just stopped is past its ownership.
            let _ = owned.actor.cast(shard::Message::Scan);
        }
    }

    fn owns(&self, shard: Shard) -> bool {
        let shards = self.0.read().unwrap_or_else(PoisonError::into_inner);
        shards.get(usize::from(shard)).is_some_and(Option::is_some)
    }

    /// The shards that are owned here.
    pub(crate) fn owned(&self) -> HashSet<Shard> {
        let shards = self.0.read().unwrap_or_else(PoisonError::into_inner);
        shards.iter().flatten().map(|owned| owned.fence.shard).collect()
    }

    pub(crate) fn insert(&self, fence: Fence, actor: ActorRef<shard::Message>) {
        self.slot(fence.shard, |slot| *slot = Some(Owned { fence, actor }));
    }

    /// Forgets a shard, unless it is owned anew meanwhile.
    pub(crate) fn remove(&self, fence: Fence) {
        self.slot(fence.shard, |slot| {
            slot.take_if(|owned| owned.fence == fence);
        });
    }

    fn slot<T>(&self, shard: Shard, change: impl FnOnce(&mut Option<Owned>) -> T) -> T {
        let mut shards = self.0.write().unwrap_or_else(PoisonError::into_inner);
        change(&mut shards[usize::from(shard)])
    }
}
