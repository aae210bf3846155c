//! A network for the nodes of a cluster: a namespace for each, joined by a bridge, on whose near
//! side this process is, with the receiver and the mail server.
//!
//! Only root can lay one, with `ip` and `nft`. A [`Cut`] loses packets without a word, as a
//! broken switch does; nobody's connection is closed.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, ensure};
use rustix::process::geteuid;

use crate::fault::Kind;

/// A bridge and the namespaces at it. They end with this value.
#[derive(Debug)]
pub struct Network {
    /// What the names of all its parts begin with.
    prefix: String,
    /// The first three bytes of its addresses.
    subnet: [u8; 3],
    spaces: usize,
}

/// Whose packets are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Those between a node and the other nodes.
    Nodes,
    /// Those between a node and everybody.
    World,
    /// Those between a node and the other nodes, and between it and this port of the near side,
    /// where the store is.
    Store(u16),
}

impl Cut {
    /// As a fault.
    #[must_use]
    pub fn kind(self) -> Kind {
        match self {
            Self::Nodes => Kind::ApartFromNodes,
            Self::World => Kind::ApartFromWorld,
            Self::Store(_) => Kind::ApartFromStore,
        }
    }
}

impl Network {
    /// Why no network can be laid here, if none can.
    #[must_use]
    pub fn obstacle() -> Option<&'static str> {
        if !geteuid().is_root() {
            return Some("only root may make network namespaces");
        }
        let found = |program: &str| Command::new(program).arg("--version").output().is_ok();
        let found =
            |program: &str| found(program) || Command::new(program).arg("-V").output().is_ok();
        if !found("ip") || !found("nft") {
            return Some("ip (iproute2) or nft (nftables) is not installed");
        }
        None
    }

    /// Makes a bridge and as many namespaces at it.
    pub fn lay(spaces: usize) -> Result<Self> {
        static LAID: AtomicU32 = AtomicU32::new(0);
        let nth = LAID.fetch_add(1, Ordering::Relaxed);
        let id = std::process::id();
        // Names of interfaces have 15 bytes at most; process ids have 22 bits.
        let prefix = format!("pr{id:x}{nth}");
        let [.., middle, low] = id.to_be_bytes();
        let third = low.wrapping_add(u8::try_from(nth % 256)?.wrapping_mul(97));
        let network = Self { prefix, subnet: [10, 64 + middle % 64, third], spaces };
        network.build().context("lay a network")?;
        Ok(network)
    }

    fn build(&self) -> Result<()> {
        let bridge = self.bridge();
        run("ip", &format!("link add {bridge} type bridge"))?;
        run("ip", &format!("addr add {}/24 dev {bridge}", self.near()))?;
        run("ip", &format!("link set {bridge} up"))?;
        for (index, host) in self.hosts().into_iter().enumerate() {
            let (space, cable) = (self.space(index), format!("{}v{index}", self.prefix));
            run("ip", &format!("netns add {space}"))?;
            run("ip", &format!("link add {cable} type veth peer name eth0 netns {space}"))?;
            run("ip", &format!("link set {cable} master {bridge} up"))?;
            run("ip", &format!("-n {space} addr add {host}/24 dev eth0"))?;
            run("ip", &format!("-n {space} link set lo up"))?;
            run("ip", &format!("-n {space} link set eth0 up"))?;
        }
        Ok(())
    }

    /// The address of this process's side.
    #[must_use]
    pub fn near(&self) -> Ipv4Addr {
        self.host(1)
    }

    /// The address of each namespace.
    #[must_use]
    pub fn hosts(&self) -> Vec<Ipv4Addr> {
        (0..self.spaces)
            .filter_map(|index| u8::try_from(index + 11).ok())
            .map(|n| self.host(n))
            .collect()
    }

    /// All its addresses.
    #[must_use]
    pub fn range(&self) -> String {
        format!("{}/24", self.host(0))
    }

    /// The command that executes another one in a namespace, in its own process.
    #[must_use]
    pub fn launcher(&self, index: usize) -> Vec<String> {
        ["ip", "netns", "exec", &self.space(index)].map(str::to_owned).to_vec()
    }

    /// Loses packets of a namespace.
    pub fn cut(&self, index: usize, cut: Cut) -> Result<()> {
        let mut others = String::new();
        for (other, host) in self.hosts().into_iter().enumerate() {
            if other != index {
                let _ = write!(others, "{host},");
            }
        }
        let near = self.near();
        let (to_others, from_others) =
            (format!("ip daddr {{{others}}} drop;"), format!("ip saddr {{{others}}} drop;"));
        let (to, from) = match cut {
            Cut::World => ("oifname != lo drop;".to_owned(), "iifname != lo drop;".to_owned()),
            Cut::Nodes => (to_others, from_others),
            Cut::Store(port) => (
                format!("{to_others} ip daddr {near} tcp dport {port} drop;"),
                format!("{from_others} ip saddr {near} tcp sport {port} drop;"),
            ),
        };
        // One transaction: nothing passes in one direction alone.
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

    /// Lets them pass.
    pub fn mend(&self, index: usize) -> Result<()> {
        self.filter(index, "delete table inet cut")
    }

    fn filter(&self, index: usize, rules: &str) -> Result<()> {
        let space = self.space(index);
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &space, "nft", rules]);
        succeed(&mut command)
    }

    fn bridge(&self) -> String {
        format!("{}br", self.prefix)
    }

    fn space(&self, index: usize) -> String {
        format!("{}n{index}", self.prefix)
    }

    fn host(&self, last: u8) -> Ipv4Addr {
        let [a, b, c] = self.subnet;
        Ipv4Addr::new(a, b, c, last)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for index in 0..self.spaces {
            // The cable goes with its namespace, once the last process in it is gone.
            let _ = run("ip", &format!("link del {}v{index}", self.prefix));
            let _ = run("ip", &format!("netns del {}", self.space(index)));
        }
        let _ = run("ip", &format!("link del {}", self.bridge()));
    }
}

fn run(program: &str, arguments: &str) -> Result<()> {
    succeed(Command::new(program).args(arguments.split(' ')))
}

fn succeed(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("run {command:?}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {said}");
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

    /// Asks the receiver from within a namespace.
    async fn asks(network: &Network, index: usize, address: SocketAddr) -> Result<bool> {
        let mut command = tokio::process::Command::new("ip");
        command.args(&network.launcher(index)[1..]);
        let text = format!("exec 3<>/dev/tcp/{}/{}", address.ip(), address.port());
        let asked = command.args(["bash", "-c", &text]).kill_on_drop(true).output();
        Ok(timeout(millis(500), asked)
            .await
            .is_ok_and(|done| done.is_ok_and(|o| o.status.success())))
    }

    #[tokio::test]
    async fn what_is_cut_is_lost_until_it_is_mended() -> Result<()> {
        if let Some(obstacle) = Network::obstacle() {
            eprintln!("left out: {obstacle}");
            return Ok(());
        }
        let network = Network::lay(2)?;
        let receiver = Receiver::start_at(network.near()).await?;
        let other = Receiver::start_at(network.near()).await?;
        let address = receiver.address();
        timeout(seconds(1), TcpStream::connect(address)).await??;
        crate::wait::until("the bridge forwards", seconds(5), async || {
            Ok(asks(&network, 0, address).await?.then_some(()))
        })
        .await?;
        network.cut(0, Cut::Nodes)?;
        assert!(asks(&network, 0, address).await?, "the world is still there");
        network.mend(0)?;
        network.cut(0, Cut::World)?;
        assert!(!asks(&network, 0, address).await?);
        assert!(asks(&network, 1, address).await?, "the others are not cut off");
        network.mend(0)?;
        assert!(asks(&network, 0, address).await?);
        network.cut(0, Cut::Store(address.port()))?;
        assert!(!asks(&network, 0, address).await?);
        assert!(asks(&network, 0, other.address()).await?, "the receiver is still there");
        network.mend(0)?;
        assert!(asks(&network, 0, address).await?);
        Ok(())
    }
}
