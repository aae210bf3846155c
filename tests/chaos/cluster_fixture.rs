//! A cluster with a receiver, a mail server, and an account that can publish through every node.
//! Over FoundationDB, the cluster has its own fdbserver, which can be killed and frozen.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::Result;
use postrider_tests::client::{Account, NewEndpoint, Operator};
use postrider_tests::cluster::network::Network;
use postrider_tests::cluster::{Cluster, until_cluster};
use postrider_tests::config::Config;
use postrider_tests::evidence::Subscriber;
use postrider_tests::fixture::{CONTACT, ORDER};
use postrider_tests::foundationdb::Server;
use postrider_tests::mail::MailServer;
use postrider_tests::receiver::{Behaviour, Hook, Receiver};
use postrider_tests::wait::seconds;
use serde_json::json;

/// Timeout of calls to nodes, which may be frozen or cut off.
pub(crate) const CALL_TIMEOUT: Duration = seconds(2);
/// How long the initial balancing may take: shards move a tenth at a time.
const BALANCED_WITHIN: Duration = seconds(30);

/// The part of its fair share that each node must own at the start.
pub(crate) const BALANCED_SHARE: f64 = 0.6;
/// A few shards, which move within one or two rounds.
pub(crate) const PARTIAL_SHARE: f64 = 0.2;

pub(crate) struct ClusterFixture {
    pub(crate) cluster: Cluster,
    pub(crate) receiver: Receiver,
    pub(crate) mail: MailServer,
    pub(crate) operator: Operator,
    /// The account, through the first node.
    pub(crate) account: Account,
}

impl ClusterFixture {
    /// Starts `running` nodes of `size` on 127.0.0.1.
    pub(crate) async fn start(config: Config, size: usize, running: usize) -> Result<Self> {
        let mail = MailServer::start().await?;
        let store = Server::start_if_chosen(Ipv4Addr::LOCALHOST).await?;
        let config = config.smtp(mail.address()).on_store_server(store.as_ref());
        let cluster = Cluster::prepare(&config, size)?.with_store_server(store);
        Self::start_with(cluster, running, mail, Receiver::start().await?).await
    }

    /// Starts `running` nodes, each in its own namespace of `network`; the store is on the host
    /// side.
    pub(crate) async fn start_in_namespaces(
        config: Config,
        network: Network,
        running: usize,
    ) -> Result<Self> {
        let mail = MailServer::start_at(network.host_address()).await?;
        let receiver = Receiver::start_at(network.host_address()).await?;
        let targets = json!(["127.0.0.0/8", network.range()]);
        let config = config.smtp(mail.address()).set("delivery", "allow_private_targets", targets);
        let store = Server::start_if_chosen(network.host_address()).await?;
        let cluster =
            Cluster::prepare_in_namespaces(&config.on_store_server(store.as_ref()), network)?
                .with_store_server(store);
        Self::start_with(cluster, running, mail, receiver).await
    }

    /// Starts `running` nodes of a prepared cluster that sends its email to `mail`.
    pub(crate) async fn start_with(
        mut cluster: Cluster,
        running: usize,
        mail: MailServer,
        receiver: Receiver,
    ) -> Result<Self> {
        cluster.start(running).await?;
        let operator = cluster.operator()?;
        operator.event_type(ORDER, &json!({"order": 1})).await?;
        let account = operator.account("Acme", &[CONTACT]).await?;
        let fixture = Self { cluster, receiver, mail, operator, account };
        fixture.wait_for_balance(running, BALANCED_SHARE).await?;
        Ok(fixture)
    }

    /// Waits until exactly `nodes` nodes are alive and each owns at least `part` of its fair share
    /// of the shards. After a fault the share may stay small for a while: a shard that moved stays
    /// put for a minute.
    pub(crate) async fn wait_for_balance(&self, nodes: usize, part: f64) -> Result<()> {
        let what = format!("{nodes} nodes each own {part} of their share of the shards");
        until_cluster(&self.operator, &what, BALANCED_WITHIN, |cluster| {
            let alive: Vec<_> = cluster.nodes.iter().filter(|node| node.state == "alive").collect();
            let fair = cluster.shards as f64 / nodes as f64;
            let with_share = alive.iter().filter(|node| node.shards as f64 >= fair * part).count();
            cluster.unowned == 0 && alive.len() == nodes && with_share == nodes
        })
        .await?;
        Ok(())
    }

    /// The account through each node, with a timeout for nodes that do not answer.
    pub(crate) fn accounts(&self) -> Vec<Account> {
        self.account.at_each(&self.cluster.bases(), CALL_TIMEOUT)
    }

    /// Creates an endpoint at a path of the receiver with this behaviour.
    pub(crate) async fn subscribe(
        &self,
        name: &str,
        behaviour: Behaviour,
    ) -> Result<(Subscriber, Hook)> {
        let hook = self.receiver.hook(name);
        hook.set_behaviour(behaviour);
        let new = NewEndpoint::at(&hook.url()).of_types(&[ORDER]);
        let new = if name.starts_with("strict") { new.strict() } else { new };
        let endpoint = self.account.create(&new).await?;
        Ok((Subscriber::new(&endpoint, &hook), hook))
    }
}
