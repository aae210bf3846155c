//! Nodes and their certificates.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use postrider_domain::ids::IdGenerator;
use postrider_domain::time::Timestamp;
use ractor_cluster::NodeServerMessage;
use ractor_cluster::node::NodeServerSessionInformation as Session;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use tempfile::TempDir;
use tokio::io::AsyncReadExt;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::TryRecvError;
use tokio::time::{Instant, sleep, timeout};

use crate::tasks::Tasks;
use crate::transport::{Cookie, Options, Peer, PeerEvent, PeerName, SERVER_NAME, Tls, Transport};

/// Longer than any operation takes on a busy machine.
pub const TIMEOUT: Duration = Duration::from_secs(30);
/// The tolerance for a time limit on a busy machine.
pub const SLACK: Duration = Duration::from_secs(2);

pub fn cookie() -> Cookie {
    Cookie::parse("0123456789abcdef0123456789abcdef").unwrap()
}

/// The id of each node's run differs, also between the processes of a test.
static BOOTS: LazyLock<IdGenerator> =
    LazyLock::new(|| IdGenerator::new(u64::from(std::process::id())));

pub fn name(name: &str) -> PeerName {
    let boot = BOOTS.id(Timestamp::from_millis(1_700_000_000_000));
    PeerName { name: name.to_owned(), boot }
}

pub fn options(text: &str, tls: Option<Tls>) -> Options {
    let listen = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    Options { name: name(text), listen, cookie: cookie(), tls, tasks: Tasks::new() }
}

/// A transport and its events.
pub struct Node {
    pub name: PeerName,
    pub transport: Transport,
    pub events: Receiver<PeerEvent>,
}

impl Node {
    pub async fn start(options: Options) -> Self {
        let name = options.name.clone();
        let transport = Transport::start(options).await.unwrap();
        let events = transport.peer_events();
        Self { name, transport, events }
    }

    pub async fn plain(name: &str) -> Self {
        Self::start(options(name, None)).await
    }

    pub fn address(&self) -> SocketAddr {
        self.transport.local_addr().unwrap()
    }

    async fn event(&mut self) -> PeerEvent {
        timeout(TIMEOUT, self.events.recv()).await.expect("an event in time").unwrap()
    }

    /// The peer. Its [`PeerEvent::Up`] must be the next event.
    pub async fn up(&mut self, name: &PeerName) -> Peer {
        match self.event().await {
            PeerEvent::Up(peer) if peer.name == *name => peer,
            other => panic!("{other:?} instead of {name} coming up"),
        }
    }

    /// Waits for the peer's [`PeerEvent::Down`], which must be the next event. Returns the wait.
    pub async fn down(&mut self, name: &PeerName) -> Duration {
        let start = Instant::now();
        match self.event().await {
            PeerEvent::Down(peer) if peer.name == *name => start.elapsed(),
            other => panic!("{other:?} instead of {name} going down"),
        }
    }

    /// Asserts that there is no event.
    pub fn no_event(&mut self) {
        assert_eq!(self.events.try_recv(), Err(TryRecvError::Empty));
    }

    pub async fn sessions(&self) -> Vec<Session> {
        let server = &self.transport.inner.acceptor.server;
        let sessions = ractor::call_t!(server, NodeServerMessage::GetSessions, 5_000).unwrap();
        sessions.into_values().collect()
    }

    /// Waits until every connection has ended.
    pub async fn empty(&self) {
        eventually("no connection is left", || {
            self.transport.inner.acceptor.connections.count() == 0
        })
        .await;
    }
}

/// Waits for a condition by polling.
pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < TIMEOUT, "timed out waiting until {what}");
        sleep(Duration::from_millis(10)).await;
    }
}

/// Connects two nodes.
pub async fn join(from: &mut Node, to: &mut Node) -> (Peer, Peer) {
    from.transport.connect(to.address()).await.unwrap();
    (from.up(&to.name).await, to.up(&from.name).await)
}

/// Waits until the other end closes the connection. Returns how long that took.
pub async fn closed(mut stream: impl tokio::io::AsyncRead + Unpin) -> Duration {
    let start = Instant::now();
    let mut bytes = [0; 1_024];
    let reading = async { while stream.read(&mut bytes).await.is_ok_and(|read| read > 0) {} };
    timeout(TIMEOUT, reading).await.expect("the other end closes");
    start.elapsed()
}

/// A CA.
pub struct Authority {
    dir: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        std::fs::write(dir.path().join("ca.pem"), certificate.pem()).unwrap();
        Self { dir, issuer: Issuer::new(params, key) }
    }

    pub fn ca(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// A valid certificate.
    pub fn issue(&self) -> Tls {
        self.issue_for(&[SERVER_NAME], 2_099)
    }

    /// A certificate for these names that expires at the start of the year `until`.
    pub fn issue_for(&self, names: &[&str], until: i32) -> Tls {
        let (cert, key) = self.files(names, until);
        Tls::load(&self.ca(), &cert, &key).unwrap()
    }

    /// A certificate of this CA, whose holder trusts another CA.
    pub fn issue_trusting(&self, other: &Self) -> Tls {
        let (cert, key) = self.files(&[SERVER_NAME], 2_099);
        Tls::load(&other.ca(), &cert, &key).unwrap()
    }

    pub fn files(&self, names: &[&str], until: i32) -> (PathBuf, PathBuf) {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_before = date_time_ymd(2_000, 1, 1);
        params.not_after = date_time_ymd(until, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let (cert_file, key_file) =
            (self.dir.path().join("node.pem"), self.dir.path().join("node.key"));
        std::fs::write(&cert_file, certificate.pem()).unwrap();
        std::fs::write(&key_file, key.serialize_pem()).unwrap();
        (cert_file, key_file)
    }
}
