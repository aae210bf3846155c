//! The life of a node: the order in which its parts start and stop.
//!
//! Start: data directory → HTTP listener, which only queues connections → store → cookie check →
//! removal of the previous run's lease → cluster transport → notifier → delivery engine → shard
//! manager, which claims this node's share of the shards → gateway → HTTP, once the node has
//! joined. The node serves no request before everything that the request needs is running.
//!
//! Stop, at the same time: the HTTP server finishes requests in flight, the notifier finishes its
//! email, and the shard manager hands over each shard as soon as no work on it is in flight. Then
//! the gateway finishes its calls, the cluster transport closes, and the telemetry is flushed. The
//! store closes with the process.
//!
//! If an essential task ends unexpectedly, the node reports that it is not ready, stops, and fails.

use std::env::VarError;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use async_trait::async_trait;
use postrider_api::{ActorApi, Api, OperatorKey, Probe};
use postrider_cluster::local_node::LocalNode;
use postrider_cluster::membership::Identity;
use postrider_cluster::route::Router;
use postrider_cluster::shard_guard::ShardGuard;
use postrider_cluster::shard_manager::{self, CheckTrigger, ShardManager, ShardWorkers};
use postrider_delivery::{DeliveryEngine, Options, OwnedShards, Sender, SharedRng};
use postrider_domain::attempt::TestReport;
use postrider_domain::endpoint::Endpoint;
use postrider_domain::event::Event;
use postrider_domain::ids::IdGenerator;
use postrider_domain::own_outage::Outage;
use postrider_domain::target::AddressPolicy;
use postrider_domain::time::Clock;
use postrider_domain::transition::Rules;
use postrider_net::tasks::{Ended, Tasks};
use postrider_notify::smtp::Mailer;
use postrider_notify::{Outbox, OutboxHandle};
use postrider_service::{Service, TestSender};
use postrider_store::Records;
use postrider_store::kv::Store;
use rand::TryRng;
use rand::rngs::SysRng;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::clock::SystemClock;
use crate::clock_watch::ClockWatch;
use crate::config::{Config, Email};
use crate::data_dir::{DataDir, LockMode, check_secret};
use crate::peers::{self, PeerTransport, Peers};
use crate::telemetry::{self, Telemetry};
use crate::{previous_run, server, store};

/// How long a handoff waits beyond the attempt timeout for results to be recorded. Otherwise a slow
/// disk would cause attempts to be sent twice.
const RECORD_GRACE: Duration = Duration::from_secs(3);
/// How long an outage of this node lasts before it leaves its shards to other nodes.
const YIELD_AFTER: Duration = Duration::from_secs(10);
/// How often it is checked whether it should.
const YIELD_CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// How long the node waits for the HTTP server beyond its drain timeout.
const DRAIN_SLACK: Duration = Duration::from_secs(1);

/// The node failed.
pub enum ServeError {
    /// It could not start.
    Startup(anyhow::Error),
    /// It failed after it had started.
    Runtime(anyhow::Error),
}

/// A running node.
struct Running {
    workers: Arc<Workers>,
    shard_manager: ShardManager,
    peers: Option<Peers>,
    server: JoinHandle<()>,
    stop: CancellationToken,
    tasks: Tasks,
    // Holds the locks on the data directory.
    _dir: DataDir,
}

/// The services that work on this node's shards.
struct Workers {
    delivery: DeliveryEngine,
    notifier: OutboxHandle,
}

/// Runs a node until SIGTERM or SIGINT.
///
/// # Errors
/// If it cannot start, for example because the data directory, the store or the listen address is
/// unavailable; if an essential task ends; or if it cannot stop gracefully.
pub async fn serve(config: Config, telemetry: Arc<Telemetry>) -> Result<(), ServeError> {
    let mut signals = StopSignals::listen().map_err(ServeError::Startup)?;
    let running = tokio::select! {
        running = start(config, telemetry.clone()) => running.map_err(ServeError::Startup)?,
        // It has accepted no work yet.
        () = signals.received() => return Ok(()),
    };
    let tasks = running.tasks.clone();
    let failed = wait_for_shutdown(signals.received(), &tasks).await;
    let stopped = running.stop().await;
    telemetry.stop().await;
    match failed {
        Some(ended) => Err(ServeError::Runtime(ended.into())),
        None => stopped.map_err(ServeError::Runtime),
    }
}

/// Waits for a stop signal or for an essential task to end. Returns that task.
async fn wait_for_shutdown(signal: impl Future<Output = ()>, tasks: &Tasks) -> Option<Ended> {
    let ended = tokio::select! {
        () = signal => return None,
        ended = tasks.failed() => ended,
    };
    tracing::error!(
        task = ended.task,
        why = ended.why,
        "an essential task ended; stopping the node"
    );
    Some(ended)
}

async fn start(config: Config, telemetry: Arc<Telemetry>) -> Result<Running> {
    raise_fd_limit();
    let name = config.node.name.to_string();
    let mode =
        if config.cluster.peering.is_some() { LockMode::Shared } else { LockMode::Exclusive };
    let dir = DataDir::open(&config.node.data_dir, &name, mode)?;
    let key = operator_key(&dir)?;
    let listener = TcpListener::bind(config.http.listen)
        .await
        .with_context(|| format!("cannot listen on {}", config.http.listen))?;
    let tasks = Tasks::new();
    let records = open_store(&config, &dir, &tasks).await?;
    let id_generator = Arc::new(IdGenerator::new(seed()?));
    let system = Arc::new(SystemClock::default());
    let clock: Arc<dyn Clock> = system.clone();
    if let Some(peering) = &config.cluster.peering {
        peers::verify_cookie(&records, peering, &dir, clock.wall()).await?;
    }
    let me = Identity {
        node: id_generator.id(clock.now()),
        name: name.clone(),
        address: config.cluster.peering.as_ref().map(|peering| peering.advertise),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    previous_run::clear_previous_lease(&records, &dir, me.node).await?;
    let clock_watch =
        ClockWatch::start(records.clone(), me.node, clock.clone(), system.clone(), &tasks);
    let transport = match &config.cluster.peering {
        Some(peering) => Some(PeerTransport::start(peering, &dir, &me, tasks.clone()).await?),
        None => None,
    };
    let (view, watched_view) = watch::channel(Arc::default());
    let check_trigger = CheckTrigger::default();
    let owned_shards = OwnedShards::new(records.clone());
    let local = Arc::new(owned_shards.clone());
    let forwarder = transport.as_ref().map(|transport| {
        transport.start_forwarder(watched_view, check_trigger.clone(), local.clone())
    });
    let router = Router::new(records.shards(), local.clone(), forwarder);
    let notifier = start_notifier(&config, &records, &clock, &tasks).await?;
    let delivery = DeliveryEngine::start(Options {
        records: records.clone(),
        owned_shards,
        router: router.clone(),
        rules: Rules {
            retry: config.retry.clone(),
            disable: config.delivery.disable,
            ..Rules::default()
        },
        sender: Sender::new(targets(&config), config.retry.timeout(), config.delivery.connections)?,
        notifier: Arc::new(notifier.clone()),
        clock: clock.clone(),
        id_generator: id_generator.clone(),
        rng: SharedRng::new(seed()?),
        tasks: tasks.clone(),
    })
    .await?;
    let workers = Arc::new(Workers { delivery, notifier });
    let shard_manager = ShardManager::start(shard_manager::Options {
        records: records.clone(),
        me,
        mode: peers::cluster_mode(transport.as_ref(), &config.store),
        shard_workers: workers.clone(),
        drain_timeout: config.retry.timeout() + RECORD_GRACE,
        view,
        check_trigger: check_trigger.clone(),
        uptime: system,
        seed: seed()?,
        tasks: tasks.clone(),
    });
    tasks.spawn(
        "shard yielding",
        yield_while_cut_off(workers.delivery.clone(), shard_manager.clone()),
    );
    let service = Service::new(records.clone(), router, workers.clone(), id_generator, clock);
    let peers = match transport {
        Some(transport) => {
            let view = shard_manager.view();
            let node = LocalNode::new(records.shards(), local.clone(), view, check_trigger);
            let api = ActorApi::new(service.clone(), Arc::new(node));
            Some(transport.join(api, &shard_manager, local).await?)
        }
        None => None,
    };
    let delivery = workers.delivery.clone();
    let api = Api {
        service,
        records: records.clone(),
        view: shard_manager.view(),
        operator_key: OperatorKey::new(&key),
        targets: targets(&config),
        retry: config.retry.clone(),
        dashboard: config.dashboard.clone(),
        probe: Arc::new(NodeProbe {
            outages: Box::new(move || delivery.outages()),
            telemetry,
            records,
            shard_manager: shard_manager.clone(),
            clock_watch,
            tasks: tasks.clone(),
        }),
    };
    let stop = CancellationToken::new();
    let data = store::describe(&config.store, dir.path());
    let message = startup_message(&name, &listener.local_addr()?.to_string(), &data);
    let serving = serve_once_joined(shard_manager.clone(), message, listener, api, stop.clone());
    let server = tasks.spawn("HTTP server", serving);
    Ok(Running { workers, shard_manager, peers, server, stop, tasks, _dir: dir })
}

/// Leaves the shards to other nodes while an outage of this node keeps it from sending.
async fn yield_while_cut_off(delivery: DeliveryEngine, shard_manager: ShardManager) {
    let mut yielding = false;
    loop {
        tokio::time::sleep(YIELD_CHECK_INTERVAL).await;
        if delivery.has_been_cut_off_for(YIELD_AFTER) != yielding {
            yielding = !yielding;
            shard_manager.set_yielding(yielding).await;
        }
    }
}

/// Serves requests once the node has joined the cluster. A node that cannot join because the store
/// is unavailable can still be stopped.
async fn serve_once_joined(
    shard_manager: ShardManager,
    message: String,
    listener: TcpListener,
    api: Api,
    stop: CancellationToken,
) {
    if stop.run_until_cancelled(shard_manager.joined()).await.is_some() {
        print_line(&message);
        server::serve(listener, postrider_api::app(api), stop).await;
    }
}

async fn open_store(config: &Config, dir: &DataDir, tasks: &Tasks) -> Result<Records> {
    let engine = store::open(&config.store, dir.path()).await?;
    let store = Store::new(engine, seed()?);
    let watched = store.clone();
    tasks.spawn("store", async move { watched.failed().await });
    telemetry::observe_store(&store);
    Records::open(store, config.cluster.shards)
        .await
        .with_context(|| format!("cannot open {}", store::describe(&config.store, dir.path())))
}

impl Running {
    /// Drains the node: accepts no new requests, starts no new attempts, finishes the work in
    /// flight, and hands over the shards.
    async fn stop(self) -> Result<()> {
        tracing::info!("draining: no new requests or attempts");
        self.stop.cancel();
        let serving = tokio::time::timeout(server::DRAIN_TIMEOUT + DRAIN_SLACK, self.server);
        // Concurrently: the shard manager waits for shards that still have an email in flight.
        let (left, (), served) =
            tokio::join!(self.shard_manager.stop(), self.workers.notifier.stop(), serving);
        if left > 0 {
            let in_flight = self.workers.delivery.in_flight();
            tracing::warn!(
                shards = left,
                in_flight,
                "some work did not finish in time; it will be retried"
            );
        }
        if let Some(peers) = self.peers {
            peers.leave().await;
        }
        match served {
            Ok(served) => served.context("the HTTP server panicked")?,
            Err(_) => tracing::warn!("the HTTP server did not stop in time"),
        }
        tracing::info!("stopped");
        Ok(())
    }
}

/// Starts the outbox. It works on no shard yet.
async fn start_notifier(
    config: &Config,
    records: &Records,
    clock: &Arc<dyn Clock>,
    tasks: &Tasks,
) -> Result<OutboxHandle> {
    let Email { server, sender, hello } = config.email.clone();
    let mailer = Mailer::new(server, sender, hello)?;
    let dashboard = config.dashboard.clone();
    let page_of = Arc::new(move |account, endpoint| dashboard.endpoint_page(account, endpoint));
    Ok(Outbox::start(records.clone(), clock.clone(), mailer, page_of, seed()?, tasks).await?)
}

#[async_trait]
impl ShardWorkers for Workers {
    async fn begin(&self, guard: ShardGuard) {
        let shard = guard.fence().shard;
        if let Err(error) = self.delivery.own(guard.clone()).await {
            // Give up the shard; the shard manager then tries again.
            tracing::error!(shard, %error, "cannot start working on the shard");
            guard.revoke();
            return;
        }
        self.notifier.own(guard);
    }
}

#[async_trait]
impl TestSender for Workers {
    async fn send_test(&self, endpoint: &Endpoint, event: &Event) -> TestReport {
        self.delivery.send_test(endpoint, event).await
    }
}

fn targets(config: &Config) -> AddressPolicy {
    AddressPolicy::new(config.delivery.allow_private_targets.clone())
}

/// The operator key from the environment, or else from the data directory.
fn operator_key(dir: &DataDir) -> Result<String> {
    match std::env::var("POSTRIDER_OPERATOR_KEY") {
        Ok(text) => match check_secret(&text) {
            Ok(key) => return Ok(key.to_owned()),
            Err(rule) => bail!("POSTRIDER_OPERATOR_KEY {rule}"),
        },
        Err(VarError::NotUnicode(_)) => bail!("POSTRIDER_OPERATOR_KEY is not valid UTF-8"),
        Err(VarError::NotPresent) => {}
    }
    let file = dir.operator_key()?;
    if file.is_new {
        print_line(&format!("generated a new operator key in {}", file.path.display()));
    }
    Ok(file.text)
}

fn startup_message(name: &str, address: &str, data: &str) -> String {
    format!(
        "postrider {name} is listening on http://{address} with {data}; dashboard at /dashboard, API reference at /docs"
    )
}

/// Prints a line to stdout. Ignores errors: stdout may be closed.
fn print_line(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Raises the soft limit of open files to the hard limit. The usual soft limit of 1,024 is less
/// than the number of connections that a node has open.
fn raise_fd_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
    {
        tracing::warn!(%error, ?current, "cannot raise the open file limit");
    }
}

/// The signals that stop a node. Installed first, so that no early signal kills the process.
struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    fn listen() -> Result<Self> {
        let listen = |kind| signal(kind).context("cannot install signal handlers");
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    async fn received(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Returns a random seed from the operating system.
///
/// # Errors
/// If the operating system provides no random numbers.
pub fn seed() -> Result<u64> {
    SysRng.try_next_u64().context("the operating system provides no random numbers")
}

/// Health and metrics of this process, for the API.
struct NodeProbe {
    outages: Box<dyn Fn() -> Vec<Outage> + Send + Sync>,
    telemetry: Arc<Telemetry>,
    records: Records,
    shard_manager: ShardManager,
    clock_watch: ClockWatch,
    tasks: Tasks,
}

#[async_trait]
impl Probe for NodeProbe {
    fn outages(&self) -> Vec<Outage> {
        (self.outages)()
    }

    fn metrics(&self) -> String {
        self.telemetry.text()
    }

    async fn ready(&self) -> Result<(), String> {
        if let Some(ended) = self.tasks.ended() {
            return Err(format!("this node is stopping: {ended}"));
        }
        self.records.ping().await.map_err(|error| error.to_string())?;
        if !self.shard_manager.is_member() {
            return Err("this node is not a member of its cluster".to_owned());
        }
        self.clock_watch.ready()
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use postrider_cluster::shard_manager::ClusterMode;
    use postrider_store::kv::memory::Memory;

    use super::*;

    struct NoWorkers;

    #[async_trait]
    impl ShardWorkers for NoWorkers {
        async fn begin(&self, _: ShardGuard) {}
    }

    #[tokio::test]
    async fn a_node_stops_on_a_signal_or_when_a_task_ends() {
        let tasks = Tasks::new();
        assert_eq!(wait_for_shutdown(ready(()), &tasks).await, None);
        tasks.spawn("recorder", async { panic!("simulated") });
        let ended = wait_for_shutdown(pending(), &tasks).await.expect("a task ended");
        assert_eq!(ended.task, "recorder");
    }

    #[tokio::test]
    async fn a_node_is_not_ready_once_a_task_has_ended() {
        let records =
            Records::open(Store::new(Arc::new(Memory::new()), 1), 4).await.expect("opens");
        let tasks = Tasks::new();
        let system = Arc::new(SystemClock::default());
        let shard_manager = ShardManager::start(shard_manager::Options {
            records: records.clone(),
            me: Identity {
                node: IdGenerator::new(1).id(system.now()),
                name: "node".to_owned(),
                address: None,
                version: "1".to_owned(),
            },
            mode: ClusterMode::Single,
            shard_workers: Arc::new(NoWorkers),
            drain_timeout: RECORD_GRACE,
            view: watch::Sender::default(),
            check_trigger: CheckTrigger::default(),
            uptime: system.clone(),
            seed: 1,
            tasks: tasks.clone(),
        });
        shard_manager.joined().await;
        let me = IdGenerator::new(2).id(system.now());
        let clock_watch = ClockWatch::start(records.clone(), me, system.clone(), system, &tasks);
        clock_watch.compared().await;
        let telemetry = Arc::new(Telemetry::start("node", None).expect("starts"));
        let outages = Box::new(Vec::new);
        let probe = NodeProbe {
            outages,
            telemetry,
            records,
            shard_manager,
            clock_watch,
            tasks: tasks.clone(),
        };
        assert_eq!(probe.ready().await, Ok(()));
        tasks.spawn("recorder", async {});
        tasks.failed().await;
        let error = probe.ready().await.expect_err("not ready");
        assert!(error.contains("recorder"), "{error}");
    }
}
