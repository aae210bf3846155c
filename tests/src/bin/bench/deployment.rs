//! The nodes under test: a single node, or several over one store.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use postrider_tests::client::Operator;
use postrider_tests::cluster::{Cluster, until_cluster};
use postrider_tests::config::Config;
use postrider_tests::node::Node;
use postrider_tests::port::Port;
use postrider_tests::wait::seconds;

/// The deadline for each node to have its share. A shard that has moved stays for a minute, so
/// nodes that came back recently may have to wait.
const BALANCED_WITHIN: Duration = seconds(150);

/// Running nodes, killed on drop.
pub struct Deployment {
    nodes: Nodes,
}

enum Nodes {
    Single(Box<Node>),
    Cluster {
        cluster: Box<Cluster>,
        /// The cluster port of the first node, for other nodes and for clients.
        seed: Port,
    },
}

impl Deployment {
    /// Starts a node without `[cluster]`.
    pub async fn single(config: Config) -> Result<Self> {
        let node = Node::start(config).await?;
        Ok(Self { nodes: Nodes::Single(Box::new(node)) })
    }

    /// Starts nodes with `[cluster]` and waits until each has its share.
    pub async fn cluster(config: &Config, count: usize) -> Result<Self> {
        let mut cluster = Box::new(Cluster::prepare(config, count)?);
        let seed = Port::reserve()?;
        let listen = seed.address().to_string();
        // Nodes configured with its former address find it through the store.
        cluster.node(0).reconfigure(|config| config.set("cluster", "listen", listen));
        cluster.start(count).await?;
        let deployment = Self { nodes: Nodes::Cluster { cluster, seed } };
        deployment.balanced().await?;
        Ok(deployment)
    }

    /// The base URL of each node's API: `http://127.0.0.1:PORT`.
    pub fn bases(&self) -> Vec<String> {
        match &self.nodes {
            Nodes::Single(node) => vec![format!("http://{}", node.address())],
            Nodes::Cluster { cluster, .. } => cluster.bases(),
        }
    }

    /// The process ids, by node.
    pub fn pids(&self) -> Result<Vec<u32>> {
        match &self.nodes {
            Nodes::Single(node) => Ok(vec![node.pid().context("the node is not running")?]),
            Nodes::Cluster { cluster, .. } => {
                Ok(cluster.process_table().running().into_iter().map(|(_, pid)| pid).collect())
            }
        }
    }

    /// The address and the cookie file for clients that join the cluster.
    pub fn seed(&self) -> Result<(std::net::SocketAddr, PathBuf)> {
        match &self.nodes {
            Nodes::Single(_) => bail!("a single node has no cluster to join"),
            Nodes::Cluster { cluster, seed } => Ok((seed.address(), cluster.cookie_file())),
        }
    }

    /// The operator, calling this node.
    pub fn operator(&self, index: usize) -> Result<Operator> {
        let bases = self.bases();
        let base = bases.get(index).context("no node has this index")?;
        let key = self.operator_key()?;
        Ok(Operator::new(postrider_tests::client::Api::new(base, Some(&key))))
    }

    /// The operator key, shared by all nodes.
    pub fn operator_key(&self) -> Result<String> {
        match &self.nodes {
            Nodes::Single(node) => node.operator_key(),
            Nodes::Cluster { cluster, .. } => cluster.operator_key(),
        }
    }

    /// The cluster, for injecting faults.
    pub fn cluster_mut(&mut self) -> Result<&mut Cluster> {
        match &mut self.nodes {
            Nodes::Single(_) => bail!("a single node is not a cluster"),
            Nodes::Cluster { cluster, .. } => Ok(cluster),
        }
    }

    /// Waits until each node has about its share. All nodes must be running.
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

    /// Restarts a single node with another configuration.
    pub async fn restart(&mut self, config: Config) -> Result<()> {
        match &mut self.nodes {
            Nodes::Single(node) => {
                node.stop().await?;
                node.reconfigure(|_| config);
                node.restart().await
            }
            Nodes::Cluster { .. } => bail!("only a single node can be restarted"),
        }
    }

    /// Shuts all nodes down gracefully.
    pub async fn stop(mut self) -> Result<()> {
        match &mut self.nodes {
            Nodes::Single(node) => node.stop().await,
            Nodes::Cluster { cluster, .. } => cluster.stop().await,
        }
    }
}
