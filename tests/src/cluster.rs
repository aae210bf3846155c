//! Several nodes over one store: each is killed, frozen, cut off, drained and started
//! again, and every such fault is noted.
//!
//! Over the embedded store they share a data directory, as nodes of one host do. Over FoundationDB
//! they stand for hosts: each has a directory of its own, and is told the operator's key and the
//! cookie, as whoever installs a cluster does. The fdbserver may be the cluster's own
//! ([`Cluster::keep`]), and is then killed and frozen like the nodes.
//!
//! A cluster runs on 127.0.0.1, or each node in a network namespace of its own
//! ([`network`], as root), where packets can be lost. Its nodes are called `node-1` and so on.
//! Beside it a [`watch`](watch::Watch) looks who owns what and what the processes use.

pub mod clock;
pub mod network;
pub mod watch;

use std::fs::File;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use serde_json::json;
use tempfile::TempDir;

use crate::client::Operator;
use crate::config::Config;
use crate::fault::{Fault, Kind};
use crate::foundationdb::Server;
use crate::node::{Node, OPERATOR_KEY};
use crate::port::Port;
use clock::Clock;
use network::{Cut, Network};

/// Where the nodes of a network listen: each has an address of its own.
const HTTP_PORT: u16 = 8080;
const CLUSTER_PORT: u16 = 7946;
/// What nodes without a common data directory are told.
const GIVEN_KEY: &str = "the-operator-of-the-tests-0123456789";
const GIVEN_COOKIE: &str = "the-cookie-of-the-tests-0123456789abcdef";

/// The nodes of a cluster, running or not.
#[derive(Debug)]
pub struct Cluster {
    members: Vec<Member>,
    roster: Roster,
    /// The server of the store, if it is the cluster's own.
    store: Option<Server>,
    network: Option<Network>,
    /// The data directories, and what else the nodes share.
    files: TempDir,
}

#[derive(Debug)]
struct Member {
    name: String,
    node: Node,
    /// Keeps the port between nodes; none in a network of its own.
    _port: Option<Port>,
}

/// The processes of the nodes that run, by name.
#[derive(Clone, Debug, Default)]
pub struct Roster(Arc<Mutex<Vec<Option<Process>>>>);

/// The node's name and its process's id.
type Process = (String, u32);

impl Cluster {
    /// As many nodes of 127.0.0.1, none of them started.
    pub fn prepare(config: &Config, count: usize) -> Result<Self> {
        let files = tempfile::tempdir().context("make the cluster's directory")?;
        let ports: Vec<_> = (0..count).map(|_| Port::reserve()).collect::<Result<_>>()?;
        let addresses: Vec<_> = ports.iter().map(Port::address).collect();
        let config = common(config, files.path())?;
        let mut members = Vec::new();
        for (index, port) in ports.into_iter().enumerate() {
            let config = configure(&config, index, &addresses);
            let data = data_dir(&files, &config, index);
            let node = Node::prepare_at(config, &data)?;
            members.push(Member { name: name(index), node, _port: Some(port) });
        }
        Ok(Self { members, roster: Roster::default(), store: None, network: None, files })
    }

    /// As many nodes, none of them started, each in a namespace of `network`.
    pub fn prepare_apart(config: &Config, network: Network) -> Result<Self> {
        let files = tempfile::tempdir().context("make the cluster's directory")?;
        let hosts = network.hosts();
        let certificates = certify(files.path(), &hosts)?;
        let addresses: Vec<_> =
            hosts.iter().map(|&host| SocketAddr::from((host, CLUSTER_PORT))).collect();
        let config = common(config, files.path())?;
        let mut members = Vec::new();
        for (index, host) in hosts.into_iter().enumerate() {
            let pem = |what: &str| certificates.join(what).to_string_lossy().into_owned();
            let name = name(index);
            let config = configure(&config, index, &addresses)
                .set("cluster", "tls_ca", pem("ca.pem"))
                .set("cluster", "tls_cert", pem(&format!("{name}.pem")))
                .set("cluster", "tls_key", pem(&format!("{name}.key")));
            let listen = SocketAddr::from((host, HTTP_PORT));
            let data = data_dir(&files, &config, index);
            let node = Node::prepare_apart(config, &data, listen)?;
            let node = node.launched_by(&network.launcher(index));
            members.push(Member { name, node, _port: None });
        }
        let network = Some(network);
        Ok(Self { members, roster: Roster::default(), store: None, network, files })
    }

    /// Keeps the server of the store, which ends after the nodes.
    #[must_use]
    pub fn keep(mut self, store: Option<Server>) -> Self {
        self.store = store;
        self
    }

    /// Whether the server of the store is the cluster's own.
    #[must_use]
    pub fn has_a_store_of_its_own(&self) -> bool {
        self.store.is_some()
    }

    /// The server of the store, for what is done to it.
    pub fn store(&mut self) -> Result<&mut Server> {
        self.store.as_mut().context("the cluster has no store of its own")
    }

    /// Starts the first `count` nodes, and waits until they are ready. The first makes the store;
    /// the others come together, so that each gets its share at once.
    pub async fn start(&mut self, count: usize) -> Result<()> {
        self.start_one(0).await?;
        for index in 1..count {
            self.spawn(index)?;
        }
        self.ready().await
    }

    /// Starts a node and waits until it is ready.
    pub async fn start_one(&mut self, index: usize) -> Result<()> {
        self.spawn(index)?;
        self.members[index].node.ready().await
    }

    /// Starts a node without waiting for it.
    pub fn spawn(&mut self, index: usize) -> Result<()> {
        let member = &mut self.members[index];
        member.node.spawn()?;
        self.roster.set(index, member.node.pid().map(|pid| (member.name.clone(), pid)));
        Ok(())
    }

    /// Waits until every node that runs is ready.
    pub async fn ready(&mut self) -> Result<()> {
        for member in self.members.iter_mut().filter(|member| member.node.pid().is_some()) {
            member.node.ready().await?;
        }
        Ok(())
    }

    /// How many nodes there are, running or not.
    #[must_use]
    pub fn size(&self) -> usize {
        self.members.len()
    }

    /// A node.
    pub fn node(&mut self, index: usize) -> &mut Node {
        &mut self.members[index].node
    }

    /// Gives a node a clock of its own from its next start on, which is ahead by so many seconds.
    pub fn wind(&mut self, index: usize, ahead_s: i64) -> Result<Clock> {
        let clock = Clock::new(self.files(), self.name(index))?;
        clock.set(ahead_s)?;
        self.members[index].node.live_by(&clock)?;
        Ok(clock)
    }

    /// Whether its process is there.
    #[must_use]
    pub fn runs(&self, index: usize) -> bool {
        self.members[index].node.pid().is_some()
    }

    /// The name of a node.
    #[must_use]
    pub fn name(&self, index: usize) -> &str {
        &self.members[index].name
    }

    /// Where each node's API is, running or not.
    #[must_use]
    pub fn bases(&self) -> Vec<String> {
        self.members.iter().map(|member| member.node.api(None).base().to_owned()).collect()
    }

    /// The operator, at the first node.
    pub fn operator(&self) -> Result<Operator> {
        Ok(Operator::new(self.members[0].node.operator_api()?))
    }

    /// The operator's key, which all nodes know.
    pub fn operator_key(&self) -> Result<String> {
        self.members[0].node.operator_key()
    }

    /// The file with what nodes and clients must know.
    #[must_use]
    pub fn cookie_file(&self) -> PathBuf {
        let given = cookie_file(self.files.path());
        if given.exists() { given } else { self.members[0].node.data_dir().join("cluster.cookie") }
    }

    /// The processes that run.
    #[must_use]
    pub fn roster(&self) -> Roster {
        self.roster.clone()
    }

    /// What its nodes keep on disk, and share.
    #[must_use]
    pub fn files(&self) -> &Path {
        self.files.path()
    }

    /// SIGKILL.
    pub async fn kill(&mut self, index: usize) -> Result<Fault> {
        let from = Timestamp::now();
        self.roster.set(index, None);
        self.members[index].node.kill().await?;
        Ok(self.fault(Kind::Kill, index, from))
    }

    /// SIGKILL to every node that runs, before any of them is waited for.
    pub async fn kill_all(&mut self) -> Result<Vec<Fault>> {
        let from = Timestamp::now();
        let running: Vec<_> = (0..self.size()).filter(|&index| self.runs(index)).collect();
        for &index in &running {
            self.roster.set(index, None);
            self.members[index].node.start_to_kill()?;
        }
        for &index in &running {
            self.members[index].node.kill().await?;
        }
        Ok(running.into_iter().map(|index| self.fault(Kind::Kill, index, from)).collect())
    }

    /// SIGSTOP.
    pub fn freeze(&mut self, index: usize) -> Result<Open> {
        let open = Open { kind: Kind::Freeze, index, from: Timestamp::now() };
        self.members[index].node.freeze()?;
        Ok(open)
    }

    /// SIGCONT. A node that was ended meanwhile, because it kept all others from writing, counts
    /// as killed, and is started anew.
    pub fn thaw(&mut self, open: &Open) -> Result<Vec<Fault>> {
        let mut faults = Vec::new();
        if !self.members[open.index].node.thaw()? {
            faults.push(self.fault(Kind::Kill, open.index, open.from));
            self.spawn(open.index)?;
        }
        faults.push(self.fault(Kind::Freeze, open.index, open.from));
        Ok(faults)
    }

    /// Loses all packets of a node, to the other nodes or to everybody.
    pub fn cut(&mut self, index: usize, cut: Cut) -> Result<Open> {
        let open = Open { kind: cut.kind(), index, from: Timestamp::now() };
        self.network()?.cut(index, cut)?;
        Ok(open)
    }

    /// Loses all packets between a node and the store, and between it and the other nodes.
    pub fn cut_from_store(&mut self, index: usize) -> Result<Open> {
        let store = self.store()?.address().port();
        self.cut(index, Cut::Store(store))
    }

    /// Lets them pass again.
    pub fn mend(&mut self, open: &Open) -> Result<Fault> {
        self.network()?.mend(open.index)?;
        Ok(self.fault(open.kind, open.index, open.from))
    }

    /// SIGTERM, and the node must drain, end with 0, and be ready again.
    pub async fn restart(&mut self, index: usize) -> Result<Fault> {
        let from = Timestamp::now();
        self.members[index].node.stop().await?;
        self.start_one(index).await?;
        Ok(self.fault(Kind::Restart, index, from))
    }

    /// A node that was not there before.
    pub async fn join(&mut self, index: usize) -> Result<Fault> {
        let from = Timestamp::now();
        self.start_one(index).await?;
        Ok(self.fault(Kind::Join, index, from))
    }

    /// SIGTERM, and the node must drain and end with 0.
    pub async fn leave(&mut self, index: usize) -> Result<Fault> {
        let from = Timestamp::now();
        self.roster.set(index, None);
        self.members[index].node.stop().await?;
        Ok(self.fault(Kind::Leave, index, from))
    }

    /// Stops all in good order.
    pub async fn stop(&mut self) -> Result<()> {
        for index in (0..self.size()).filter(|&index| self.runs(index)).collect::<Vec<_>>() {
            self.leave(index).await?;
        }
        Ok(())
    }

    fn network(&self) -> Result<&Network> {
        self.network.as_ref().context("the cluster has no network of its own")
    }

    fn fault(&self, kind: Kind, index: usize, from: Timestamp) -> Fault {
        Fault { kind, node: self.members[index].name.clone(), from, to: Timestamp::now() }
    }
}

/// A fault that is not over.
#[derive(Clone, Copy, Debug)]
pub struct Open {
    kind: Kind,
    index: usize,
    from: Timestamp,
}

impl Roster {
    /// Who runs now.
    #[must_use]
    pub fn running(&self) -> Vec<Process> {
        let roster = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        roster.iter().flatten().cloned().collect()
    }

    fn set(&self, index: usize, process: Option<Process>) {
        let mut roster = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if roster.len() <= index {
            roster.resize(index + 1, None);
        }
        roster[index] = process;
    }
}

/// Waits until the nodes of the cluster are as `wanted`, and gives what was seen then.
pub async fn until_cluster(
    operator: &Operator,
    what: &str,
    within: Duration,
    wanted: impl Fn(&crate::client::records::Cluster) -> bool,
) -> Result<crate::client::records::Cluster> {
    let look = async || Ok(operator.cluster().await.ok().filter(&wanted));
    crate::wait::until(what, within, look).await
}

fn name(index: usize) -> String {
    format!("node-{}", index + 1)
}

fn data_dir(files: &TempDir, config: &Config, index: usize) -> PathBuf {
    let directory = match config.is_in_foundationdb() {
        true => format!("data-{}", name(index)),
        false => "data".to_owned(),
    };
    files.path().join(directory)
}

/// The cookie that is given to nodes without a common data directory.
fn cookie_file(files: &Path) -> PathBuf {
    files.join("cookie")
}

/// What all nodes are told.
fn common(config: &Config, files: &Path) -> Result<Config> {
    let config = config.clone().stored()?;
    if !config.is_in_foundationdb() {
        // The first of them makes both, in the directory that they share.
        return Ok(config);
    }
    let cookie = cookie_file(files);
    let private = File::options().write(true).create_new(true).mode(0o600).open(&cookie);
    private.and_then(|mut file| file.write_all(GIVEN_COOKIE.as_bytes())).context("a cookie")?;
    let config = config.set("cluster", "cookie_file", cookie.to_string_lossy().as_ref());
    Ok(config.env(OPERATOR_KEY, GIVEN_KEY))
}

fn configure(config: &Config, index: usize, addresses: &[SocketAddr]) -> Config {
    let others = addresses.iter().enumerate().filter(|&(other, _)| other != index);
    let seeds: Vec<_> = others.map(|(_, address)| address.to_string()).collect();
    config
        .clone()
        .set("node", "name", name(index))
        .set("cluster", "listen", addresses[index].to_string())
        .set("cluster", "seeds", json!(seeds))
}

/// A certificate for each node, as whoever installs a cluster makes them.
fn certify(files: &Path, hosts: &[Ipv4Addr]) -> Result<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/cluster-certs");
    let directory = files.join("certificates");
    let names = hosts.iter().enumerate().map(|(index, host)| format!("{}:{host}", name(index)));
    let output = Command::new(script).arg(&directory).args(names).output();
    let output = output.context("run scripts/cluster-certs")?;
    let said = [output.stdout, output.stderr].concat();
    ensure!(output.status.success(), "cluster-certs: {}", String::from_utf8_lossy(&said));
    Ok(directory)
}
