//! A network for the nodes of a cluster: a namespace per node, connected by a bridge. This process,
//! with the receiver and the mail server, is on the host side of the bridge.
//!
//! Needs root, `ip` and `nft`. A [`Partition`] drops packets silently, like a broken switch: no
//! connection is closed.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, ensure};
use rustix::process::geteuid;

use crate::fault::Kind;

/// A bridge and the namespaces connected to it, removed on drop.
#[derive(Debug)]
pub struct Network {
    /// The prefix of all interface and namespace names.
    prefix: String,
    /// The first three bytes of the addresses.
    subnet: [u8; 3],
    namespaces: usize,
}

/// A partition: the packets that are dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Partition {
    /// Between a node and the other nodes.
    Peers,
    /// Between a node and everything else.
    Full,
    /// Between a node and the other nodes, and between it and the store at this port of the host.
    Store(u16),
}

impl Partition {
    #[must_use]
    pub fn kind(self) -> Kind {
        match self {
            Self::Peers => Kind::PeerPartition,
            Self::Full => Kind::FullPartition,
            Self::Store(_) => Kind::ApartFromStore,
        }
    }
}

impl Network {
    /// The reason why networks cannot be created on this machine, if any.
    #[must_use]
    pub fn skip_reason() -> Option<&'static str> {
        if !geteuid().is_root() {
            return Some("only root may create network namespaces");
        }
        let found = |program: &str| Command::new(program).arg("--version").output().is_ok();
        let found =
            |program: &str| found(program) || Command::new(program).arg("-V").output().is_ok();
        if !found("ip") || !found("nft") {
            return Some("ip (iproute2) or nft (nftables) is not installed");
        }
        None
    }

    /// Creates a bridge and this number of namespaces.
    pub fn create(namespaces: usize) -> Result<Self> {
        static CREATED: AtomicU32 = AtomicU32::new(0);
        let nth = CREATED.fetch_add(1, Ordering::Relaxed);
        let id = std::process::id();
        // Names of interfaces have 15 bytes at most; process ids have 22 bits.
        let prefix = format!("pr{id:x}{nth}");
        let [.., middle, low] = id.to_be_bytes();
        let third = low.wrapping_add(u8::try_from(nth % 256)?.wrapping_mul(97));
        let network = Self { prefix, subnet: [10, 64 + middle % 64, third], namespaces };
        network.build().context("create a network")?;
        Ok(network)
    }

    fn build(&self) -> Result<()> {
        let bridge = self.bridge();
        run("ip", &format!("link add {bridge} type bridge"))?;
        run("ip", &format!("addr add {}/24 dev {bridge}", self.host_address()))?;
        run("ip", &format!("link set {bridge} up"))?;
        for (index, host) in self.hosts().into_iter().enumerate() {
            let (namespace, veth) = (self.namespace(index), format!("{}v{index}", self.prefix));
            run("ip", &format!("netns add {namespace}"))?;
            run("ip", &format!("link add {veth} type veth peer name eth0 netns {namespace}"))?;
            run("ip", &format!("link set {veth} master {bridge} up"))?;
            run("ip", &format!("-n {namespace} addr add {host}/24 dev eth0"))?;
            run("ip", &format!("-n {namespace} link set lo up"))?;
            run("ip", &format!("-n {namespace} link set eth0 up"))?;
        }
        Ok(())
    }

    /// The address of the host side.
    #[must_use]
    pub fn host_address(&self) -> Ipv4Addr {
        self.host(1)
    }

    /// The addresses of the namespaces.
    #[must_use]
    pub fn hosts(&self) -> Vec<Ipv4Addr> {
        (0..self.namespaces)
            .filter_map(|index| u8::try_from(index + 11).ok())
            .map(|n| self.host(n))
            .collect()
    }

    /// The subnet in CIDR notation.
    #[must_use]
    pub fn range(&self) -> String {
        format!("{}/24", self.host(0))
    }

    /// The command prefix that runs a program in a namespace, in the same process.
    #[must_use]
    pub fn launcher(&self, index: usize) -> Vec<String> {
        ["ip", "netns", "exec", &self.namespace(index)].map(str::to_owned).to_vec()
    }

    /// Drops packets of a namespace.
    pub fn partition(&self, index: usize, partition: Partition) -> Result<()> {
        let mut others = String::new();
        for (other, address) in self.hosts().into_iter().enumerate() {
            if other != index {
                let _ = write!(others, "{address},");
            }
        }
        let host = self.host_address();
        let (to_others, from_others) =
            (format!("ip daddr {{{others}}} drop;"), format!("ip saddr {{{others}}} drop;"));
        let (to, from) = match partition {
            Partition::Full => ("oifname != lo drop;".to_owned(), "iifname != lo drop;".to_owned()),
            Partition::Peers => (to_others, from_others),
            Partition::Store(port) => (
                format!("{to_others} ip daddr {host} tcp dport {port} drop;"),
                format!("{from_others} ip saddr {host} tcp sport {port} drop;"),
            ),
        };
        // One transaction, so that the partition is never one-way.
        self.filter(
            index,
            &format!(
                "table inet cut {{
                    chain out {{ type filter hook output priority 0; {to} }}
                    chain in {{ type filter hook input priority 0; {from} }}
                }}"
            ),
        )
    }

    /// Ends the partition of a namespace.
    pub fn heal(&self, index: usize) -> Result<()> {
        self.filter(index, "delete table inet cut")
    }

    fn filter(&self, index: usize, rules: &str) -> Result<()> {
        let namespace = self.namespace(index);
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &namespace, "nft", rules]);
        succeed(&mut command)
    }

    fn bridge(&self) -> String {
        format!("{}br", self.prefix)
    }

    fn namespace(&self, index: usize) -> String {
        format!("{}n{index}", self.prefix)
    }

    fn host(&self, last: u8) -> Ipv4Addr {
        let [a, b, c] = self.subnet;
        Ipv4Addr::new(a, b, c, last)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for index in 0..self.namespaces {
            // The veth pair is removed with its namespace, after the last process in it has exited.
            let _ = run("ip", &format!("link del {}v{index}", self.prefix));
            let _ = run("ip", &format!("netns del {}", self.namespace(index)));
        }
        let _ = run("ip", &format!("link del {}", self.bridge()));
    }
}

fn run(program: &str, arguments: &str) -> Result<()> {
    succeed(Command::new(program).args(arguments.split(' ')))
}

fn succeed(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("run {command:?}"))?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {stderr}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::net::TcpStream;
    use tokio::time::timeout;

    use super::*;
    use crate::receiver::Receiver;
    use crate::wait::{millis, seconds};

    /// Whether a namespace can connect to the receiver.
    async fn connects(network: &Network, index: usize, address: SocketAddr) -> Result<bool> {
        let mut command = tokio::process::Command::new("ip");
        command.args(&network.launcher(index)[1..]);
        let text = format!("exec 3<>/dev/tcp/{}/{}", address.ip(), address.port());
        let connecting = command.args(["bash", "-c", &text]).kill_on_drop(true).output();
        Ok(timeout(millis(500), connecting)
            .await
            .is_ok_and(|done| done.is_ok_and(|o| o.status.success())))
    }

    #[tokio::test]
    async fn a_partition_drops_packets_until_it_heals() -> Result<()> {
        if let Some(skip_reason) = Network::skip_reason() {
            eprintln!("skipped: {skip_reason}");
            return Ok(());
        }
        let network = Network::create(2)?;
        let receiver = Receiver::start_at(network.host_address()).await?;
        let other = Receiver::start_at(network.host_address()).await?;
        let address = receiver.address();
        timeout(seconds(1), TcpStream::connect(address)).await??;
        crate::wait::until("the bridge forwards", seconds(5), async || {
            Ok(connects(&network, 0, address).await?.then_some(()))
        })
        .await?;
        network.partition(0, Partition::Peers)?;
        assert!(connects(&network, 0, address).await?, "only the other nodes are unreachable");
        network.heal(0)?;
        network.partition(0, Partition::Full)?;
        assert!(!connects(&network, 0, address).await?);
        assert!(connects(&network, 1, address).await?, "the other node is not partitioned");
        network.heal(0)?;
        assert!(connects(&network, 0, address).await?);
        network.partition(0, Partition::Store(address.port()))?;
        assert!(!connects(&network, 0, address).await?);
        assert!(connects(&network, 0, other.address()).await?, "the receiver is still reachable");
        network.heal(0)?;
        assert!(connects(&network, 0, address).await?);
        Ok(())
    }
}
