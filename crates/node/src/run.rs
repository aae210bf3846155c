//! The node from start to stop: what is opened and started, in which order, and how it ends.
//!
//! Start: data directory → store → notifier and deliverers → the link to other nodes → the keeper,
//! which takes this node's share of the shards → HTTP. A request is served only when what it leads
//! to is there. Stop: HTTP lets requests under way end while the keeper hands every shard over, each
//! as soon as nothing is under way on it; then the notifier, and the store with the process.
//!
//! A node stops as well, and fails, when one of the tasks that it cannot do without has ended; from
//! that moment on it is not ready.

use std::env::VarError;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use async_trait::async_trait;
use postrider_api::{Api, OperatorKey, Probe};
use postrider_cluster::keeper::{self, Identity, Keeper, Tenants};
use postrider_cluster::route::Router;
use postrider_cluster::tenure::Tenure;
use postrider_delivery::{Delivery, Dice, Options, Sender};
use postrider_domain::ids::Mint;
use postrider_domain::machine::Rules;
use postrider_domain::target::AddressPolicy;
use postrider_domain::time::Clock;
use postrider_net::tasks::{Ended, Tasks};
use postrider_notify::smtp::Mailer;
use postrider_notify::{NotifierHandle, Notify};
use postrider_service::Service;
use postrider_store::Records;
use postrider_store::kv::Store;
use rand::TryRng;
use rand::rngs::SysRng;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::clock::SystemClock;
use crate::company::{self, Others};
use crate::config::Config;
use crate::data_dir::{DataDir, Use, check_operator_key};
use crate::telemetry::{self, Telemetry};
use crate::{previous_run, server, store};

/// What attempts in flight have beyond the longest that one may take, for their record: a slow disk
/// must not make a handoff send them twice.
const RECORDING: Duration = Duration::from_secs(3);
/// What the HTTP server has beyond its own patience.
const DRAIN_SLACK: Duration = Duration::from_secs(1);

/// Why a node ended otherwise than it should.
pub enum Failure {
    /// It could not start.
    Start(anyhow::Error),
    /// It failed after it had started.
    Later(anyhow::Error),
}

/// A node that serves.
struct Running {
    workers: Workers,
    keeper: Keeper,
    others: Option<Others>,
    server: JoinHandle<()>,
    stop: CancellationToken,
    tasks: Tasks,
    // The locks on the data directory end with it.
    _dir: DataDir,
}

/// Those who work on shards, on this node.
#[derive(Clone)]
struct Workers {
    delivery: Delivery,
    notifier: NotifierHandle,
}

/// Runs a node until SIGTERM or SIGINT.
///
/// # Errors
/// When it cannot start, that is when the data directory, the store or the listening address
/// cannot be had; or when it cannot stop in order.
pub async fn serve(config: Config, telemetry: Arc<Telemetry>) -> Result<(), Failure> {
    let mut signals = StopSignals::listen().map_err(Failure::Start)?;
    let running = tokio::select! {
        running = start(config, telemetry.clone()) => running.map_err(Failure::Start)?,
        // It has taken nothing on yet.
        () = signals.received() => return Ok(()),
    };
    let tasks = running.tasks.clone();
    let failed = until_the_end(signals.received(), &tasks).await;
    let stopped = running.stop().await;
    telemetry.stop().await;
    match failed {
        Some(ended) => Err(Failure::Later(ended.into())),
        None => stopped.map_err(Failure::Later),
    }
}

/// Waits until the node is told to stop, or has to: gives the task that it cannot do without.
async fn until_the_end(told: impl Future<Output = ()>, tasks: &Tasks) -> Option<Ended> {
    let ended = tokio::select! {
        () = told => return None,
        ended = tasks.failed() => ended,
    };
    tracing::error!(task = ended.task, why = ended.why, "a task has ended; the node ends with it");
    Some(ended)
}

async fn start(config: Config, telemetry: Arc<Telemetry>) -> Result<Running> {
    raise_file_limit();
    let name = config.node.name.to_string();
    let usage = if config.cluster.company.is_some() { Use::Shared } else { Use::Alone };
    let dir = DataDir::take(&config.node.data_dir, &name, usage)?;
    let key = operator_key(&dir)?;
    let listener = TcpListener::bind(config.http.listen)
        .await
        .with_context(|| format!("cannot listen on {}", config.http.listen))?;
    let tasks = Tasks::new();
    let records = open_store(&config, &dir, &tasks).await?;
    let mint = Arc::new(Mint::new());
    let system = Arc::new(SystemClock::default());
    let clock: Arc<dyn Clock> = system.clone();
    let router = Router::unattached(records.clone());
    let workers = start_workers(&config, &router, mint.clone(), clock.clone(), &tasks).await?;
    let me = Identity {
        node: mint.id(clock.now()),
        name: name.clone(),
        address: config.cluster.company.as_ref().map(|company| company.advertise),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    previous_run::succeed(&records, &dir, me.node).await?;
    let mut others = match &config.cluster.company {
        Some(company) => Some(Others::start(company, &dir, &me, tasks.clone()).await?),
        None => None,
    };
    let keeper = Keeper::start(keeper::Options {
        records: records.clone(),
        me,
        company: company::of(others.as_ref(), &config.store),
        tenants: Arc::new(workers.clone()),
        patience: config.retry.timeout() + RECORDING,
        uptime: system,
        seed: seed()?,
        tasks: tasks.clone(),
    });
    let service = Service::new(router, mint, clock);
    if let Some(others) = &mut others {
        others.join(service.clone(), &keeper).await?;
    }
    let api = Api {
        service,
        view: keeper.view(),
        operator_key: OperatorKey::new(&key),
        targets: targets(&config),
        retry: config.retry.clone(),
        dashboard: config.dashboard.clone(),
        probe: Arc::new(NodeProbe {
            telemetry,
            records,
            keeper: keeper.clone(),
            tasks: tasks.clone(),
        }),
    };
    let stop = CancellationToken::new();
    let data = store::place(&config.store, dir.path());
    let hello = hello(&name, &listener.local_addr()?.to_string(), &data);
    let serving = serve_once_joined(keeper.clone(), hello, listener, api, stop.clone());
    let server = tasks.spawn("HTTP server", serving);
    Ok(Running { workers, keeper, others, server, stop, tasks, _dir: dir })
}

/// Serves requests as soon as the node has joined. A node that cannot join, since the store is away,
/// can still be told to stop.
async fn serve_once_joined(
    keeper: Keeper,
    hello: String,
    listener: TcpListener,
    api: Api,
    stop: CancellationToken,
) {
    if stop.run_until_cancelled(keeper.joined()).await.is_some() {
        say(&hello);
        server::serve(listener, postrider_api::app(api), stop).await;
    }
}

async fn open_store(config: &Config, dir: &DataDir, tasks: &Tasks) -> Result<Records> {
    let engine = store::open(&config.store, dir.path()).await?;
    let store = Store::new(engine, seed()?);
    let watched = store.clone();
    tasks.spawn("store", async move { watched.failed().await });
    let stats = store.clone();
    telemetry::observe_store(move || stats.stats());
    Records::open(store, config.cluster.shards)
        .await
        .with_context(|| format!("cannot use {}", store::place(&config.store, dir.path())))
}

impl Running {
    /// Serves no new request and starts no new attempt, lets what is under way end, and hands the
    /// shards over.
    async fn stop(self) -> Result<()> {
        tracing::info!("draining: no new requests, no new attempts");
        self.stop.cancel();
        let serving = tokio::time::timeout(server::DRAIN + DRAIN_SLACK, self.server);
        // All at once: an email under way keeps its shard, for which the keeper waits.
        let (left, (), served) =
            tokio::join!(self.keeper.stop(), self.workers.notifier.stop(), serving);
        if left > 0 {
            let in_flight = self.workers.delivery.in_flight();
            tracing::warn!(
                shards = left,
                in_flight,
                "not all ended in time; it is made again later"
            );
        }
        if let Some(others) = self.others {
            others.leave().await;
        }
        match served {
            Ok(served) => served.context("the HTTP server failed")?,
            Err(_) => tracing::warn!("the HTTP server did not end in time"),
        }
        tracing::info!("stopped");
        Ok(())
    }
}

/// Starts those who work on shards; they own none yet.
async fn start_workers(
    config: &Config,
    router: &Router,
    mint: Arc<Mint>,
    clock: Arc<dyn Clock>,
    tasks: &Tasks,
) -> Result<Workers> {
    let records = router.records().clone();
    let mailer = Mailer::new(config.email.server.clone(), config.email.sender.clone())?;
    let dashboard = config.dashboard.clone();
    let page_of = Arc::new(move |account, endpoint| dashboard.page_of(account, endpoint));
    let notifier =
        Notify::start(records.clone(), clock.clone(), mailer, page_of, seed()?, tasks).await?;
    let delivery = Delivery::start(Options {
        records,
        router: router.clone(),
        rules: Rules { retry: config.retry.clone(), disable: config.delivery.disable },
        sender: Sender::new(targets(config), config.retry.timeout())?,
        notifier: Arc::new(notifier.clone()),
        clock,
        mint,
        dice: Dice::new(seed()?),
        tasks: tasks.clone(),
    })
    .await?;
    router.attach(Arc::new(delivery.clone()));
    Ok(Workers { delivery, notifier })
}

#[async_trait]
impl Tenants for Workers {
    async fn begin(&self, tenure: Tenure) {
        let shard = tenure.fence().shard;
        if let Err(error) = self.delivery.own(tenure.clone()).await {
            // Without a worker the tenure ends here, and the keeper begins another one.
            tracing::error!(shard, %error, "the shard cannot be worked on");
            tenure.give_up();
            return;
        }
        self.notifier.own(tenure);
    }
}

fn targets(config: &Config) -> AddressPolicy {
    AddressPolicy::new(config.delivery.allow_private_targets.clone())
}

/// The key that the environment gives, or the one in the data directory.
fn operator_key(dir: &DataDir) -> Result<String> {
    match std::env::var("POSTRIDER_OPERATOR_KEY") {
        Ok(text) => match check_operator_key(&text) {
            Ok(key) => return Ok(key.to_owned()),
            Err(rule) => bail!("POSTRIDER_OPERATOR_KEY {rule}"),
        },
        Err(VarError::NotUnicode(_)) => bail!("POSTRIDER_OPERATOR_KEY is not text"),
        Err(VarError::NotPresent) => {}
    }
    let file = dir.operator_key()?;
    if file.is_new {
        say(&format!("the operator key is new and stands in {}", file.path.display()));
    }
    Ok(file.text)
}

fn hello(name: &str, address: &str, data: &str) -> String {
    format!(
        "postrider {name} listens on http://{address}, data in {data}; dashboard at /dashboard, API reference at /docs"
    )
}

/// A line for whoever started the node. Nobody need read it.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Connections are files, and the usual soft limit of 1,024 is less than what a node has in
/// flight. The hard limit is the operator's word.
fn raise_file_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
    {
        tracing::warn!(%error, ?current, "the limit of open files cannot be raised");
    }
}

/// What tells a node to stop. Made before anybody can know that the node runs.
struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    fn listen() -> Result<Self> {
        let listen = |kind| signal(kind).context("cannot wait for signals");
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

/// Luck, for what is to be spread.
///
/// # Errors
/// When the operating system has none.
pub fn seed() -> Result<u64> {
    SysRng.try_next_u64().context("the operating system gives no random numbers")
}

/// What the API tells of the process.
struct NodeProbe {
    telemetry: Arc<Telemetry>,
    records: Records,
    keeper: Keeper,
    tasks: Tasks,
}

#[async_trait]
impl Probe for NodeProbe {
    fn metrics(&self) -> String {
        self.telemetry.text()
    }

    async fn ready(&self) -> Result<(), String> {
        if let Some(ended) = self.tasks.ended() {
            return Err(format!("this node is about to end: {ended}"));
        }
        self.records.ping().await.map_err(|error| error.to_string())?;
        match self.keeper.is_in() {
            true => Ok(()),
            false => Err("this node has lost touch with its cluster".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use postrider_cluster::keeper::Company;
    use postrider_store::kv::memory::Memory;

    use super::*;

    struct Idle;

    #[async_trait]
    impl Tenants for Idle {
        async fn begin(&self, _: Tenure) {}
    }

    #[tokio::test]
    async fn a_node_ends_when_it_is_told_to_or_a_task_has_ended() {
        let tasks = Tasks::new();
        assert_eq!(until_the_end(ready(()), &tasks).await, None);
        tasks.spawn("recorder", async { panic!("as the test wants") });
        let ended = until_the_end(pending(), &tasks).await.expect("one has ended");
        assert_eq!(ended.task, "recorder");
    }

    #[tokio::test]
    async fn a_node_without_one_of_its_tasks_is_not_ready() {
        let records =
            Records::open(Store::new(Arc::new(Memory::new()), 1), 4).await.expect("opens");
        let tasks = Tasks::new();
        let system = Arc::new(SystemClock::default());
        let keeper = Keeper::start(keeper::Options {
            records: records.clone(),
            me: Identity {
                node: Mint::new().id(system.now()),
                name: "node".to_owned(),
                address: None,
                version: "1".to_owned(),
            },
            company: Company::Alone,
            tenants: Arc::new(Idle),
            patience: RECORDING,
            uptime: system,
            seed: 1,
            tasks: tasks.clone(),
        });
        keeper.joined().await;
        let telemetry = Arc::new(Telemetry::start("node", None).expect("starts"));
        let probe = NodeProbe { telemetry, records, keeper, tasks: tasks.clone() };
        assert_eq!(probe.ready().await, Ok(()));
        tasks.spawn("recorder", async {});
        tasks.failed().await;
        let missing = probe.ready().await.expect_err("it cannot do without");
        assert!(missing.contains("recorder"), "{missing}");
    }
}
