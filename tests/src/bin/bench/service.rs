//! The processes that are measured: one node by itself, or several over one store.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use postrider_tests::client::Operator;
use postrider_tests::cluster::{Cluster, until_cluster};
use postrider_tests::config::Config;
use postrider_tests::node::Node;
use postrider_tests::port::Port;
use postrider_tests::wait::seconds;

/// How long nodes may take until each has its share. A shard that has moved stays for a minute, so
/// those that came back before may have to wait for one.
const BALANCED_WITHIN: Duration = seconds(150);

/// Running nodes. They end with this value.
pub struct Service {
    nodes: Nodes,
}

enum Nodes {
    Alone(Box<Node>),
    Several {
        cluster: Box<Cluster>,
        /// Where the first one listens for other nodes and for clients.
        link: Port,
    },
}

impl Service {
    /// A node without a `[cluster]`.
    pub async fn alone(config: Config) -> Result<Self> {
        let node = Node::start(config).await?;
        Ok(Self { nodes: Nodes::Alone(Box::new(node)) })
    }

    /// So many nodes with a `[cluster]`, each of which has its share.
    pub async fn cluster(config: &Config, count: usize) -> Result<Self> {
        let mut cluster = Box::new(Cluster::prepare(config, count)?);
        let link = Port::reserve()?;
        let listen = link.address().to_string();
        // Those that look for it elsewhere find it through the store.
        cluster.node(0).reconfigure(|config| config.set("cluster", "listen", listen));
        cluster.start(count).await?;
        let service = Self { nodes: Nodes::Several { cluster, link } };
        service.balanced().await?;
        Ok(service)
    }

    /// Where each node's API is: `http://127.0.0.1:PORT`.
    pub fn bases(&self) -> Vec<String> {
        match &self.nodes {
            Nodes::Alone(node) => vec![format!("http://{}", node.address())],
            Nodes::Several { cluster, .. } => cluster.bases(),
        }
    }

    /// The processes, by node.
    pub fn pids(&self) -> Result<Vec<u32>> {
        match &self.nodes {
            Nodes::Alone(node) => Ok(vec![node.pid().context("the node runs")?]),
            Nodes::Several { cluster, .. } => {
                Ok(cluster.roster().running().into_iter().map(|(_, pid)| pid).collect())
            }
        }
    }

    /// Where clients join, and the file with what they must know.
    pub fn door(&self) -> Result<(std::net::SocketAddr, PathBuf)> {
        match &self.nodes {
            Nodes::Alone(_) => bail!("nobody joins a node that is alone"),
            Nodes::Several { cluster, link } => Ok((link.address(), cluster.cookie_file())),
        }
    }

    /// The operator, at one of the nodes.
    pub fn operator(&self, index: usize) -> Result<Operator> {
        let bases = self.bases();
        let base = bases.get(index).context("there is such a node")?;
        let key = self.operator_key()?;
        Ok(Operator::new(postrider_tests::client::Api::new(base, Some(&key))))
    }

    /// The operator's key, which all nodes know.
    pub fn operator_key(&self) -> Result<String> {
        match &self.nodes {
            Nodes::Alone(node) => node.operator_key(),
            Nodes::Several { cluster, .. } => cluster.operator_key(),
        }
    }

    /// The cluster, for what is done to its nodes.
    pub fn nodes(&mut self) -> Result<&mut Cluster> {
        match &mut self.nodes {
            Nodes::Alone(_) => bail!("a node that is alone is no cluster"),
            Nodes::Several { cluster, .. } => Ok(cluster),
        }
    }

    /// Waits until each node has about its share. All must run.
    pub async fn balanced(&self) -> Result<()> {
        let count = self.bases().len();
        let what = format!("{count} nodes have their shares");
        let operator = self.operator(0)?;
        until_cluster(&operator, &what, BALANCED_WITHIN, |cluster| {
            let fair = cluster.shards / count as u64;
            let alive = cluster.nodes.iter().filter(|node| node.state == "alive");
            let sharing = alive.filter(|node| node.shards * 10 >= fair * 8).count();
            cluster.unowned == 0 && sharing == count
        })
        .await?;
        Ok(())
    }

    /// Starts a node that is alone anew, with another configuration.
    pub async fn restart(&mut self, config: Config) -> Result<()> {
        match &mut self.nodes {
            Nodes::Alone(node) => {
                node.stop().await?;
                node.reconfigure(|_| config);
                node.restart().await
            }
            Nodes::Several { .. } => bail!("this is for a node that is alone"),
        }
    }

    /// Stops all in good order.
    pub async fn stop(mut self) -> Result<()> {
        match &mut self.nodes {
            Nodes::Alone(node) => node.stop().await,
            Nodes::Several { cluster, .. } => cluster.stop().await,
        }
    }
}
