//! A cluster with everything around it: a receiver, a mail server, and an account that may
//! publish at each node.

use std::time::Duration;

use anyhow::Result;
use postrider_tests::client::{Account, NewEndpoint, Operator};
use postrider_tests::cluster::network::Network;
use postrider_tests::cluster::{Cluster, until_cluster};
use postrider_tests::config::Config;
use postrider_tests::evidence::Subscriber;
use postrider_tests::mail::MailServer;
use postrider_tests::receiver::{Behaviour, Hook, Receiver};
use postrider_tests::scene::{CONTACT, ORDER};
use postrider_tests::wait::seconds;
use serde_json::json;

/// How long a call to a node may take that may be frozen or cut off.
const PATIENCE: Duration = seconds(2);
/// How long the nodes may take until each has its share: shards move a tenth at a time.
const BALANCED_WITHIN: Duration = seconds(60);

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
        let cluster = Cluster::prepare(&config.smtp(mail.address()), size)?;
        Self::around(cluster, running, mail, Receiver::start().await?).await
    }

    /// Starts `running` nodes, each in a namespace of `network`.
    pub(crate) async fn apart(config: Config, network: Network, running: usize) -> Result<Self> {
        let mail = MailServer::start_at(network.near()).await?;
        let receiver = Receiver::start_at(network.near()).await?;
        let targets = json!(["127.0.0.0/8", network.range()]);
        let config = config.smtp(mail.address()).set("delivery", "allow_private_targets", targets);
        let cluster = Cluster::prepare_apart(&config, network)?;
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
        stage.balanced(running).await?;
        Ok(stage)
    }

    /// Waits until so many nodes own about as many shards each.
    pub(crate) async fn balanced(&self, nodes: usize) -> Result<()> {
        let what = format!("{nodes} nodes have their shares");
        until_cluster(&self.operator, &what, BALANCED_WITHIN, |cluster| {
            let alive = cluster.nodes.iter().filter(|node| node.state == "alive");
            let fair = cluster.shards / nodes as u64;
            let with_share = alive.filter(|node| node.shards * 10 >= fair * 8).count();
            cluster.unowned == 0 && with_share == nodes
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
