//! A cluster with everything around it: a receiver, a mail server, and an account that may
//! publish at each node. Over FoundationDB it has an fdbserver of its own, to which things can be
//! done.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::Result;
use postrider_tests::client::{Account, NewEndpoint, Operator};
use postrider_tests::cluster::network::Network;
use postrider_tests::cluster::{Cluster, until_cluster};
use postrider_tests::config::Config;
use postrider_tests::evidence::Subscriber;
use postrider_tests::foundationdb::Server;
use postrider_tests::mail::MailServer;
use postrider_tests::receiver::{Behaviour, Hook, Receiver};
use postrider_tests::scene::{CONTACT, ORDER};
use postrider_tests::wait::seconds;
use serde_json::json;

/// How long a call to a node may take that may be frozen or cut off.
pub(crate) const PATIENCE: Duration = seconds(2);
/// How long the nodes may take until each has some: shards move a tenth at a time.
const SHARED_WITHIN: Duration = seconds(30);

/// What counts as balanced at the start.
pub(crate) const MOST_OF_ITS_SHARE: f64 = 0.6;
/// A few shards, which came in a round or two.
pub(crate) const SOME_OF_ITS_SHARE: f64 = 0.2;

/// The players.
pub(crate) struct Stage {
    pub(crate) cluster: Cluster,
    pub(crate) receiver: Receiver,
    pub(crate) mail: MailServer,
    pub(crate) operator: Operator,
    /// The account, at the first node.
    pub(crate) account: Account,
}

impl Stage {
    /// Starts `running` nodes of `size` on 127.0.0.1.
    pub(crate) async fn start(config: Config, size: usize, running: usize) -> Result<Self> {
        let mail = MailServer::start().await?;
        let store = Server::start_if_chosen(Ipv4Addr::LOCALHOST).await?;
        let config = config.smtp(mail.address()).over(store.as_ref());
        let cluster = Cluster::prepare(&config, size)?.keep(store);
        Self::around(cluster, running, mail, Receiver::start().await?).await
    }

    /// Starts `running` nodes, each in a namespace of `network`, on whose near side the store is.
    pub(crate) async fn apart(config: Config, network: Network, running: usize) -> Result<Self> {
        let mail = MailServer::start_at(network.near()).await?;
        let receiver = Receiver::start_at(network.near()).await?;
        let targets = json!(["127.0.0.0/8", network.range()]);
        let config = config.smtp(mail.address()).set("delivery", "allow_private_targets", targets);
        let store = Server::start_if_chosen(network.near()).await?;
        let cluster = Cluster::prepare_apart(&config.over(store.as_ref()), network)?.keep(store);
        Self::around(cluster, running, mail, receiver).await
    }

    /// Starts `running` nodes of a cluster that is prepared, and sends its email to `mail`.
    pub(crate) async fn around(
        mut cluster: Cluster,
        running: usize,
        mail: MailServer,
        receiver: Receiver,
    ) -> Result<Self> {
        cluster.start(running).await?;
        let operator = cluster.operator()?;
        operator.event_type(ORDER, &json!({"order": 1})).await?;
        let account = operator.account("Acme", &[CONTACT]).await?;
        let stage = Self { cluster, receiver, mail, operator, account };
        stage.shared(running, MOST_OF_ITS_SHARE).await?;
        Ok(stage)
    }

    /// Waits until just so many nodes live, and each has at least so much of its fair share.
    /// After a fault it may have little for a while: what has moved stays for a minute.
    pub(crate) async fn shared(&self, nodes: usize, part: f64) -> Result<()> {
        let what = format!("{nodes} nodes have {part} of their share");
        until_cluster(&self.operator, &what, SHARED_WITHIN, |cluster| {
            let alive: Vec<_> = cluster.nodes.iter().filter(|node| node.state == "alive").collect();
            let fair = cluster.shards as f64 / nodes as f64;
            let with_share = alive.iter().filter(|node| node.shards as f64 >= fair * part).count();
            cluster.unowned == 0 && alive.len() == nodes && with_share == nodes
        })
        .await?;
        Ok(())
    }

    /// The account at each node, for calls to nodes that may not answer.
    pub(crate) fn accounts(&self) -> Vec<Account> {
        self.account.at_each(&self.cluster.bases(), PATIENCE)
    }

    /// An endpoint at a path of the receiver, where requests are met so.
    pub(crate) async fn subscribe(
        &self,
        name: &str,
        behaviour: Behaviour,
    ) -> Result<(Subscriber, Hook)> {
        let hook = self.receiver.hook(name);
        hook.behave(behaviour);
        let new = NewEndpoint::at(&hook.url()).of_types(&[ORDER]);
        let new = if name.starts_with("strict") { new.strict() } else { new };
        let endpoint = self.account.create(&new).await?;
        Ok((Subscriber::new(&endpoint, &hook), hook))
    }
}
