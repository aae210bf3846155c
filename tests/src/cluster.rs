//! Several nodes over one store. Each can be killed, frozen, partitioned, drained and restarted,
//! and every fault is recorded.
//!
//! Over the embedded store the nodes share a data directory, like nodes on one host. Over
//! FoundationDB each node has its own directory, and gets the operator key and the cookie from its
//! configuration, like nodes on separate hosts. The fdbserver may belong to the cluster
//! ([`Cluster::with_store_server`]) and is then killed and frozen like the nodes.
//!
//! With `POSTRIDER_OTHER_BIN`, the nodes run two versions: each start of a node changes its
//! version.
//!
//! A cluster runs on 127.0.0.1, or with each node in its own network namespace ([`network`], as
//! root), where packets can be dropped. Its nodes are named `node-1` and so on. A
//! [`monitor`](monitor::ClusterMonitor) samples shard ownership and resource usage during the run.

pub mod clock;
pub mod monitor;
pub mod network;

use std::fs::File;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::json;
use tempfile::TempDir;

use crate::binary;
use crate::client::Operator;
use crate::config::Config;
use crate::fault::{Fault, Kind};
use crate::foundationdb::Server;
use crate::node::{Node, OPERATOR_KEY};
use crate::port::Port;
use clock::Clock;
use network::{Network, Partition};

/// Ports in network namespaces, where each node has its own address.
const HTTP_PORT: u16 = 8080;
const CLUSTER_PORT: u16 = 7946;
/// Credentials for nodes without a common data directory.
const OPERATOR_KEY_VALUE: &str = "the-operator-of-the-tests-0123456789";
const COOKIE_VALUE: &str = "the-cookie-of-the-tests-0123456789abcdef";

/// The nodes of a cluster, running or not.
#[derive(Debug)]
pub struct Cluster {
    members: Vec<Member>,
    process_table: ProcessTable,
    /// The store server, if it belongs to the cluster.
    store: Option<Server>,
    network: Option<Network>,
    /// The data directories and other shared files.
    files: TempDir,
}

#[derive(Debug)]
struct Member {
    name: String,
    node: Node,
    /// How often the node was started.
    starts: usize,
    /// Reserves the cluster port; `None` in a network namespace.
    _port: Option<Port>,
}

/// The running node processes, by name.
#[derive(Clone, Debug, Default)]
pub struct ProcessTable(Arc<Mutex<Vec<Option<Process>>>>);

/// The node's name and process id.
type Process = (String, u32);

impl Cluster {
    /// Prepares `count` nodes on 127.0.0.1 without starting them.
    pub fn prepare(config: &Config, count: usize) -> Result<Self> {
        let files = tempfile::tempdir().context("create the cluster's directory")?;
        let ports: Vec<_> = (0..count).map(|_| Port::reserve()).collect::<Result<_>>()?;
        let addresses: Vec<_> = ports.iter().map(Port::address).collect();
        let config = common(config, files.path())?;
        let mut members = Vec::new();
        for (index, port) in ports.into_iter().enumerate() {
            let config = configure(&config, index, &addresses);
            let data = data_dir(&files, &config, index);
            let node = Node::prepare_at(config, &data)?;
            members.push(Member { name: name(index), node, starts: 0, _port: Some(port) });
        }
        Ok(Self {
            members,
            process_table: ProcessTable::default(),
            store: None,
            network: None,
            files,
        })
    }

    /// Prepares a node for each namespace of `network` without starting them.
    pub fn prepare_in_namespaces(config: &Config, network: Network) -> Result<Self> {
        let files = tempfile::tempdir().context("create the cluster's directory")?;
        let hosts = network.hosts();
        let certificates = certify(files.path(), &hosts)?;
        let addresses: Vec<_> =
            hosts.iter().map(|&host| SocketAddr::from((host, CLUSTER_PORT))).collect();
        let config = common(config, files.path())?;
        let mut members = Vec::new();
        for (index, host) in hosts.into_iter().enumerate() {
            let pem = |file: &str| certificates.join(file).to_string_lossy().into_owned();
            let name = name(index);
            let config = configure(&config, index, &addresses)
                .set("cluster", "tls_ca", pem("ca.pem"))
                .set("cluster", "tls_cert", pem(&format!("{name}.pem")))
                .set("cluster", "tls_key", pem(&format!("{name}.key")));
            let listen = SocketAddr::from((host, HTTP_PORT));
            let data = data_dir(&files, &config, index);
            let node = Node::prepare_in_namespaces(config, &data, listen)?;
            let node = node.launched_by(&network.launcher(index));
            members.push(Member { name, node, starts: 0, _port: None });
        }
        let network = Some(network);
        Ok(Self { members, process_table: ProcessTable::default(), store: None, network, files })
    }

    /// Adds a store server, which outlives the nodes.
    #[must_use]
    pub fn with_store_server(mut self, store: Option<Server>) -> Self {
        self.store = store;
        self
    }

    /// Whether the store server belongs to the cluster.
    #[must_use]
    pub fn owns_its_store(&self) -> bool {
        self.store.is_some()
    }

    /// The store server, for injecting faults.
    pub fn store(&mut self) -> Result<&mut Server> {
        self.store.as_mut().context("the cluster has no store server")
    }

    /// Starts the first `count` nodes and waits until they are ready. The first node creates the
    /// store; the others start together, so that each gets its share at once.
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
        if let Some(other) = binary::other_path()? {
            // Every other node begins with the other version, and each start changes the version.
            let binary =
                if (index + member.starts).is_multiple_of(2) { binary::path()? } else { other };
            member.node.use_binary(&binary);
        }
        member.starts += 1;
        member.node.spawn()?;
        self.process_table.set(index, member.node.pid().map(|pid| (member.name.clone(), pid)));
        Ok(())
    }

    /// Waits until every running node is ready.
    pub async fn ready(&mut self) -> Result<()> {
        for member in self.members.iter_mut().filter(|member| member.node.pid().is_some()) {
            member.node.ready().await?;
        }
        Ok(())
    }

    /// The number of nodes, running or not.
    #[must_use]
    pub fn size(&self) -> usize {
        self.members.len()
    }

    pub fn node(&mut self, index: usize) -> &mut Node {
        &mut self.members[index].node
    }

    /// Gives a node its own clock, `ahead_s` seconds ahead, from its next start on.
    pub fn skew_clock(&mut self, index: usize, ahead_s: i64) -> Result<Clock> {
        let clock = Clock::new(self.files(), self.name(index))?;
        clock.set(ahead_s)?;
        self.members[index].node.use_clock(&clock)?;
        Ok(clock)
    }

    /// Whether the node's process is running.
    #[must_use]
    pub fn is_running(&self, index: usize) -> bool {
        self.members[index].node.pid().is_some()
    }

    #[must_use]
    pub fn name(&self, index: usize) -> &str {
        &self.members[index].name
    }

    /// The base URL of each node's API, running or not.
    #[must_use]
    pub fn bases(&self) -> Vec<String> {
        self.members.iter().map(|member| member.node.api(None).base().to_owned()).collect()
    }

    /// The operator, calling the first node.
    pub fn operator(&self) -> Result<Operator> {
        Ok(Operator::new(self.members[0].node.operator_api()?))
    }

    /// The operator key, shared by all nodes.
    pub fn operator_key(&self) -> Result<String> {
        self.members[0].node.operator_key()
    }

    /// The cookie file for nodes and clients.
    #[must_use]
    pub fn cookie_file(&self) -> PathBuf {
        let configured = cookie_file(self.files.path());
        if configured.exists() {
            configured
        } else {
            self.members[0].node.data_dir().join("cluster.cookie")
        }
    }

    /// The running processes.
    #[must_use]
    pub fn process_table(&self) -> ProcessTable {
        self.process_table.clone()
    }

    /// The directory of all the cluster's files.
    #[must_use]
    pub fn files(&self) -> &Path {
        self.files.path()
    }

    /// SIGKILL.
    pub async fn kill(&mut self, index: usize) -> Result<Fault> {
        let from = Timestamp::now();
        self.process_table.set(index, None);
        self.members[index].node.kill().await?;
        Ok(self.fault(Kind::Kill, index, from))
    }

    /// SIGKILL to every running node, before waiting for any of them.
    pub async fn kill_all(&mut self) -> Result<Vec<Fault>> {
        let from = Timestamp::now();
        let running: Vec<_> = (0..self.size()).filter(|&index| self.is_running(index)).collect();
        for &index in &running {
            self.process_table.set(index, None);
            self.members[index].node.send_sigkill()?;
        }
        for &index in &running {
            self.members[index].node.kill().await?;
        }
        Ok(running.into_iter().map(|index| self.fault(Kind::Kill, index, from)).collect())
    }

    /// SIGSTOP.
    pub fn freeze(&mut self, index: usize) -> Result<OngoingFault> {
        let fault = OngoingFault { kind: Kind::Freeze, index, from: Timestamp::now() };
        self.members[index].node.freeze()?;
        Ok(fault)
    }

    /// SIGCONT. A node that was killed meanwhile, because it blocked all other writers, counts as
    /// killed and is started again.
    pub fn thaw(&mut self, fault: &OngoingFault) -> Result<Vec<Fault>> {
        let mut faults = Vec::new();
        if !self.members[fault.index].node.thaw()? {
            faults.push(self.fault(Kind::Kill, fault.index, fault.from));
            self.spawn(fault.index)?;
        }
        faults.push(self.fault(Kind::Freeze, fault.index, fault.from));
        Ok(faults)
    }

    /// Drops the packets of a node, to the other nodes or to everyone.
    pub fn partition(&mut self, index: usize, partition: Partition) -> Result<OngoingFault> {
        let fault = OngoingFault { kind: partition.kind(), index, from: Timestamp::now() };
        self.network()?.partition(index, partition)?;
        Ok(fault)
    }

    /// Drops all packets between a node and the store and between it and the other nodes.
    pub fn partition_from_store(&mut self, index: usize) -> Result<OngoingFault> {
        let store = self.store()?.address().port();
        self.partition(index, Partition::Store(store))
    }

    /// Ends a partition.
    pub fn heal(&mut self, fault: &OngoingFault) -> Result<Fault> {
        self.network()?.heal(fault.index)?;
        Ok(self.fault(fault.kind, fault.index, fault.from))
    }

    /// SIGTERM: the node must drain and exit with 0. Then starts it again.
    pub async fn restart(&mut self, index: usize) -> Result<Fault> {
        let from = Timestamp::now();
        self.members[index].node.stop().await?;
        self.start_one(index).await?;
        Ok(self.fault(Kind::Restart, index, from))
    }

    /// Starts an additional node.
    pub async fn join(&mut self, index: usize) -> Result<Fault> {
        let from = Timestamp::now();
        self.start_one(index).await?;
        Ok(self.fault(Kind::Join, index, from))
    }

    /// SIGTERM: the node must drain and exit with 0.
    pub async fn leave(&mut self, index: usize) -> Result<Fault> {
        let from = Timestamp::now();
        self.process_table.set(index, None);
        self.members[index].node.stop().await?;
        Ok(self.fault(Kind::Leave, index, from))
    }

    /// Shuts all nodes down gracefully.
    pub async fn stop(&mut self) -> Result<()> {
        for index in (0..self.size()).filter(|&index| self.is_running(index)).collect::<Vec<_>>() {
            self.leave(index).await?;
        }
        Ok(())
    }

    fn network(&self) -> Result<&Network> {
        self.network.as_ref().context("the cluster has no network namespaces")
    }

    fn fault(&self, kind: Kind, index: usize, from: Timestamp) -> Fault {
        Fault { kind, node: self.members[index].name.clone(), from, to: Timestamp::now() }
    }
}

/// A fault in progress.
#[derive(Clone, Copy, Debug)]
pub struct OngoingFault {
    kind: Kind,
    index: usize,
    from: Timestamp,
}

impl ProcessTable {
    #[must_use]
    pub fn running(&self) -> Vec<Process> {
        let process_table = self.0.lock();
        process_table.iter().flatten().cloned().collect()
    }

    fn set(&self, index: usize, process: Option<Process>) {
        let mut process_table = self.0.lock();
        if process_table.len() <= index {
            process_table.resize(index + 1, None);
        }
        process_table[index] = process;
    }
}

/// Waits until the cluster satisfies `wanted`, and returns its state.
pub async fn until_cluster(
    operator: &Operator,
    what: &str,
    within: Duration,
    wanted: impl Fn(&crate::client::records::Cluster) -> bool,
) -> Result<crate::client::records::Cluster> {
    let probe = async || Ok(operator.cluster().await.ok().filter(&wanted));
    crate::wait::until(what, within, probe).await
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

/// The cookie file for nodes without a common data directory.
fn cookie_file(files: &Path) -> PathBuf {
    files.join("cookie")
}

/// The configuration common to all nodes.
fn common(config: &Config, files: &Path) -> Result<Config> {
    let config = config.clone().with_selected_store()?;
    if !config.is_in_foundationdb() {
        // The first node creates both in the shared directory.
        return Ok(config);
    }
    let cookie = cookie_file(files);
    let private = File::options().write(true).create_new(true).mode(0o600).open(&cookie);
    private
        .and_then(|mut file| file.write_all(COOKIE_VALUE.as_bytes()))
        .context("write the cookie file")?;
    let config = config.set("cluster", "cookie_file", cookie.to_string_lossy().as_ref());
    Ok(config.env(OPERATOR_KEY, OPERATOR_KEY_VALUE))
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

/// Creates a certificate for each node with `scripts/cluster-certs`.
fn certify(files: &Path, hosts: &[Ipv4Addr]) -> Result<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/cluster-certs");
    let directory = files.join("certificates");
    let names = hosts.iter().enumerate().map(|(index, host)| format!("{}:{host}", name(index)));
    let output = Command::new(script).arg(&directory).args(names).output();
    let output = output.context("run scripts/cluster-certs")?;
    let output_text = [output.stdout, output.stderr].concat();
    ensure!(output.status.success(), "cluster-certs: {}", String::from_utf8_lossy(&output_text));
    Ok(directory)
}
