//! Tests a client and a gateway in two processes. Ractor's process groups are global to a process,
//! so one process cannot be both. The tests start this binary again with the name of a test that
//! acts as the node, and that does nothing otherwise.
//!
//! A process can also have only one client: `cargo nextest` runs each test in its own process.

use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use async_trait::async_trait;
use postrider_api::ActorApi;
use postrider_client::messages::{
    self, CallErrorKind, EndpointState, MAX_CALL_BYTES, Reply, Request,
};
use postrider_client::{CallError, Client, Cookie, HeldChoice, JoinError, NewEvent, Options};
use postrider_cluster::local_node::LocalNode;
use postrider_cluster::route::{LocalShards, Router};
use postrider_cluster::shard_manager::CheckTrigger;
use postrider_cluster::view::{NodeView, View};
use postrider_domain::account::{Account, Name};
use postrider_domain::attempt::TestReport;
use postrider_domain::endpoint::{Endpoint, Ordering, Secrets, Subscription};
use postrider_domain::event::{Event, EventType, EventTypeName};
use postrider_domain::headers::CustomHeaders;
use postrider_domain::ids::{AccountId, BootId, EndpointId, Id, IdGenerator};
use postrider_domain::node::NodeState;
use postrider_domain::signature::Secret;
use postrider_domain::target::{AddressPolicy, TargetUrl};
use postrider_domain::time::{Clock, Timestamp};
use postrider_net::gateway::{self, Gateway, GatewayMessage};
use postrider_net::tasks::Tasks;
use postrider_net::transport::{self, PeerName, Transport};
use postrider_service::{Service, TestSender};
use postrider_store::kv::Store;
use postrider_store::kv::lmdb::Lmdb;
use postrider_store::{Owner, Records, Wake};
use ractor::concurrency::oneshot;
use ractor::message::SerializedMessage;
use rustix::io::retry_on_intr;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use tokio::sync::watch;

const DIR: &str = "POSTRIDER_CLIENT_TEST_DIR";
const ADDRESS: &str = "POSTRIDER_CLIENT_TEST_ADDRESS";
const COOKIE: &str = "a-secret-of-at-least-thirty-two-visible-characters";
const SHARDS: u16 = 4;
const TIMEOUT: Duration = Duration::from_secs(20);

fn account() -> AccountId {
    AccountId::from_bytes([1; 16])
}

fn endpoint() -> EndpointId {
    EndpointId::from_bytes([2; 16])
}

fn cookie() -> Cookie {
    Cookie::parse(COOKIE).expect("a cookie")
}

fn event(payload: impl Into<String>) -> NewEvent {
    NewEvent { event_type: "a.b".to_owned(), payload: payload.into().into() }
}

/// A node in a separate process.
struct Node {
    process: Child,
    address: SocketAddr,
    dir: PathBuf,
}

impl Node {
    fn start(dir: &Path) -> Result<Self> {
        // A fixed port, because the node must come back on the same one.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        Self::start_at(dir, address)
    }

    fn start_at(dir: &Path, address: SocketAddr) -> Result<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .args(["--exact", "--nocapture", "--test-threads=1", "node_process"])
            .env(DIR, dir)
            .env(ADDRESS, address.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = process.stdout.take().context("its output is piped")?;
        let mut lines = BufReader::new(stdout).lines();
        // The test harness prints its own lines first.
        lines
            .find(|line| line.as_ref().is_ok_and(|line| line.ends_with("ready")))
            .context("the node did not start")??;
        Ok(Self { process, address, dir: dir.to_owned() })
    }

    /// Sends SIGSTOP. All threads have stopped when this returns.
    fn freeze(&self) -> Result<()> {
        let pid = Pid::from_child(&self.process);
        kill_process(pid, Signal::STOP)?;
        let status = retry_on_intr(|| waitpid(Some(pid), WaitOptions::UNTRACED))?;
        ensure!(status.is_some_and(|(_, status)| status.stopped()), "the node exited: {status:?}");
        Ok(())
    }

    fn restart(mut self) -> Result<Self> {
        self.kill()?;
        Self::start_at(&self.dir.clone(), self.address)
    }

    fn kill(&mut self) -> Result<()> {
        self.process.kill()?;
        self.process.wait()?;
        Ok(())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have exited already.
        let _ = self.kill();
    }
}

async fn join(seeds: &[SocketAddr]) -> Result<Client, JoinError> {
    let (name, seeds) = ("test".to_owned(), seeds.to_vec());
    Client::join(Options { name, seeds, cookie: cookie(), tls: None }).await
}

fn error_kind<T: std::fmt::Debug>(outcome: Result<T, CallError>) -> CallErrorKind {
    outcome.expect_err("it fails").kind
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_publishes_and_reads_back() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let node = Node::start(dir.path())?;
    let client = join(&[node.address]).await?;
    let receipt = client.publish(account(), event("{\"n\":1}"), None).await?;
    assert_eq!((receipt.event_type.as_str(), receipt.deliveries), ("a.b", 1));
    let events = (0..500).map(|number| event(number.to_string())).collect();
    let receipts = client.publish_batch(account(), events, None).await?;
    assert_eq!(receipts.len(), 500);
    let calls = (0..500).map(|number| client.publish(account(), event(number.to_string()), None));
    let receipts = futures::future::try_join_all(calls).await?;
    assert_eq!(receipts.len(), 500);
    let status = client.in_trace("00-1-2-01").endpoint_status(account(), endpoint()).await?;
    assert_eq!((status.name.as_str(), status.pending, status.held), ("Hook", 1_001, 0));
    let status = client.disable_endpoint(account(), endpoint()).await?;
    assert!(matches!(status.state, EndpointState::Disabled(_)));
    let status = client.enable_endpoint(account(), endpoint(), HeldChoice::Resume).await?;
    assert_eq!((status.state, status.pending), (EndpointState::Enabled, 1_001));
    let cluster = client.cluster_status().await?;
    assert_eq!((cluster.shards, cluster.unowned, cluster.nodes.len()), (4, 0, 1));
    assert_eq!(cluster.nodes[0].address, Some(node.address));
    client.leave().await;
    assert_eq!(error_kind(client.cluster_status().await), CallErrorKind::ConnectionLost);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invalid_calls_get_an_error() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let node = Node::start(dir.path())?;
    let client = join(&[node.address]).await?;
    let refused = client.publish(account(), event("{"), None).await;
    assert!(matches!(error_kind(refused), CallErrorKind::Invalid(findings) if findings.len() == 1));
    let refused = client.publish(account(), event("1".repeat(300_000)), None).await;
    assert!(matches!(error_kind(refused), CallErrorKind::Invalid(_)));
    let events = vec![event("1".repeat(250_000)); 5];
    let refused = client.publish_batch(account(), events, None).await;
    assert_eq!(error_kind(refused), CallErrorKind::TooLarge);
    let nobody = AccountId::from_bytes([9; 16]);
    assert_eq!(error_kind(client.publish(nobody, event("1"), None).await), CallErrorKind::NotFound);
    let refused = client.endpoint_status(nobody, endpoint()).await;
    assert_eq!(error_kind(refused), CallErrorKind::NotFound);
    let first = client.publish(account(), event("1"), Some("k".to_owned())).await?;
    let again = client.publish(account(), event("1"), Some("k".to_owned())).await?;
    assert_eq!(first, again);
    let other = client.publish(account(), event("2"), Some("k".to_owned())).await;
    assert_eq!(error_kind(other), CallErrorKind::Conflict);

    let gateway = gateway::remote().pop().context("there is no gateway")?;
    let raw = async |bytes: Vec<u8>| {
        let answer = gateway::call_raw(&gateway, bytes, TIMEOUT).await.unwrap();
        error_kind(messages::decode_reply(&answer))
    };
    assert_eq!(raw(vec![0, 9, 0, 1, 0]).await, CallErrorKind::UnknownVersion);
    assert_eq!(raw(vec![0, 1, 9, 9, 0]).await, CallErrorKind::UnknownKind);
    assert_eq!(raw(vec![7]).await, CallErrorKind::Malformed);
    assert_eq!(raw(vec![0; MAX_CALL_BYTES + 1]).await, CallErrorKind::TooLarge);
    let (reply, answer) = oneshot();
    let later = SerializedMessage::Call {
        variant: "Later".to_owned(),
        args: Vec::new(),
        reply: reply.into(),
        metadata: None,
    };
    gateway.get_cell().send_serialized(later).map_err(|error| anyhow::anyhow!("{error}"))?;
    let answer = tokio::time::timeout(TIMEOUT, answer).await??;
    assert_eq!(error_kind(messages::decode_reply(&answer)), CallErrorKind::UnknownKind);
    gateway.cast(GatewayMessage::Cast(vec![7]))?;
    let pong = gateway::call(&gateway, Request::Ping, TIMEOUT).await?;
    assert!(matches!(pong, Reply::Pong(_)));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_safe_call_survives_the_death_of_its_node() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let node = Node::start(dir.path())?;
    let client = join(&[node.address]).await?;
    client.publish(account(), event("0"), None).await?;
    // The kernel accepts the call's bytes, but the node does not process them.
    node.freeze()?;
    let publishing = tokio::spawn({
        let client = client.clone();
        async move { client.publish(account(), event("1"), None).await }
    });
    let disabling = tokio::spawn({
        let client = client.clone();
        async move { client.disable_endpoint(account(), endpoint()).await }
    });
    let mut publishing = publishing;
    let waited = tokio::time::timeout(Duration::from_millis(300), &mut publishing).await;
    assert!(waited.is_err(), "a frozen node replied");
    let _node = node.restart()?;
    publishing.await??;
    // A call that could undo a concurrent change is not retried.
    assert_eq!(error_kind(disabling.await?), CallErrorKind::ConnectionLost);
    let status = client.endpoint_status(account(), endpoint()).await?;
    assert_eq!(status.pending, 2, "each event is delivered once");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_are_discovered_from_one_seed_and_calls_are_distributed() -> Result<()> {
    let dirs = (tempfile::tempdir()?, tempfile::tempdir()?);
    let mut second = Node::start(dirs.1.path())?;
    // The first node's view includes the second.
    std::fs::write(dirs.0.path().join("other"), second.address.to_string())?;
    let first = Node::start(dirs.0.path())?;
    let client = join(&[first.address]).await?;
    let both = async {
        while gateway::remote().len() < 2 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(TIMEOUT, both).await.context("the second node was not discovered")?;
    for number in 0..10 {
        client.publish(account(), event(number.to_string()), None).await?;
    }
    let of_gateway = async |gateway| {
        let of = messages::EndpointRef { account: account(), endpoint: endpoint() };
        match gateway::call(&gateway, Request::EndpointStatus(of), TIMEOUT).await {
            Ok(Reply::Endpoint(status)) => status.pending,
            other => panic!("{other:?}"),
        }
    };
    for gateway in gateway::remote() {
        assert_eq!(of_gateway(gateway).await, 5, "calls are not distributed evenly");
    }
    second.kill()?;
    for number in 0..10 {
        client.publish(account(), event(number.to_string()), None).await?;
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn joining_fails_without_a_node() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert!(matches!(join(&[nobody]).await, Err(JoinError::NoGateway)));
}

/// Runs a node if [`DIR`] is set. Otherwise does nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_process() -> Result<()> {
    let Some(dir) = std::env::var_os(DIR).map(PathBuf::from) else {
        return Ok(());
    };
    let address: SocketAddr = std::env::var(ADDRESS)?.parse()?;
    let store = Store::new(Arc::new(Lmdb::open(&dir)?), 1);
    let records = Records::open(store, SHARDS).await?;
    populate(&records).await?;
    // Nodes and their runs differ in their ids, although the clock stands still.
    let ids = Arc::new(IdGenerator::new(u64::from(std::process::id())));
    let boot: BootId = ids.id(FixedClock.now());
    let name = PeerName { name: "node".to_owned(), boot };
    let options = transport::Options {
        name,
        listen: Some(address),
        cookie: cookie(),
        tls: None,
        tasks: Tasks::new(),
    };
    let _link = Transport::start(options).await?;
    let service = Service::new(
        records.clone(),
        Router::new(SHARDS, Arc::new(NoShards), None),
        Arc::new(NoTestSender),
        ids,
        Arc::new(FixedClock),
    );
    let other = std::fs::read_to_string(dir.join("other")).ok();
    let other = other.map(|text| text.parse()).transpose()?;
    let (_view, view) = watch::channel(Arc::new(view(boot, address, other)));
    let node = LocalNode::new(SHARDS, Arc::new(NoShards), view, CheckTrigger::default());
    let _gateway = Gateway::start(ActorApi::new(service, Arc::new(node)), &Tasks::new()).await?;
    println!("ready");
    // Exits when the parent closes stdin.
    tokio::task::spawn_blocking(|| std::io::stdin().read(&mut [0])).await??;
    Ok(())
}

async fn populate(records: &Records) -> Result<()> {
    if records.endpoint(account(), endpoint()).await?.is_some() {
        return Ok(());
    }
    let now = FixedClock.now();
    let tenant = Account {
        id: account(),
        name: Name::parse("Acme")?,
        contact_emails: Vec::new(),
        created_at: now,
        updated_at: now,
    };
    records.create_account(&tenant).await?;
    let entry = EventType {
        name: EventTypeName::parse("a.b")?,
        description: String::new(),
        example: "{}".to_owned(),
        schema: None,
        created_at: now,
        updated_at: now,
    };
    records.put_event_type(entry).await?;
    let hook = Endpoint {
        id: endpoint(),
        account: account(),
        name: Name::parse("Hook")?,
        url: TargetUrl::parse("https://example.com/", &AddressPolicy::default())?,
        event_types: Subscription::All,
        headers: CustomHeaders::default(),
        ordering: Ordering::Parallel,
        rate_limit: None,
        disable_when: None,
        secrets: Secrets::new(Secret::from_bytes([1; 32])),
        created_at: now,
        updated_at: now,
    };
    records.create_endpoint(&hook).await?;
    Ok(())
}

/// Shards that deliver nothing.
struct NoShards;

impl LocalShards for NoShards {
    fn wake(&self, _: Vec<Wake>) -> Vec<Wake> {
        Vec::new()
    }

    fn wake_from_peer(&self, _: Vec<Wake>) -> Vec<Wake> {
        Vec::new()
    }

    fn scan_now(&self) {}
}

struct NoTestSender;

#[async_trait]
impl TestSender for NoTestSender {
    async fn send_test(&self, _: &Endpoint, _: &Event) -> TestReport {
        panic!("no test event is sent in these tests")
    }
}

/// The view of a node that owns all shards, and may know another node.
fn view(boot: BootId, address: SocketAddr, other: Option<SocketAddr>) -> View {
    let node = |node, address| NodeView {
        node,
        name: "node".to_owned(),
        version: "1".to_owned(),
        state: NodeState::Alive,
        address: Some(address),
    };
    let mut nodes = vec![node(boot, address)];
    nodes.extend(other.map(|address| node(BootId::MAX, address)));
    let owners = vec![Some(Owner { node: boot, epoch: 1 }); SHARDS.into()];
    View { nodes, owners }
}

struct FixedClock;

impl Clock for FixedClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(1_800_000_000_000)
    }
}
