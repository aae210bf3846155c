//! One of each on the stage: a node, a receiver, a mail server, and an account that may
//! publish. Most tests begin with one.

use anyhow::Result;
use serde_json::{Value, json};

use crate::client::records::{Accepted, Endpoint};
use crate::client::{Account, NewEndpoint, Operator};
use crate::config::Config;
use crate::mail::MailServer;
use crate::node::Node;
use crate::receiver::{Hook, Receiver};

/// The event type that every scene knows.
pub const ORDER: &str = "order.created";
/// The second one.
pub const REFUND: &str = "order.refunded";
/// Whom the account's email goes to.
pub const CONTACT: &str = "ops@example.com";

/// The players of a test.
#[derive(Debug)]
pub struct Scene {
    /// Sends.
    pub node: Node,
    /// Receives.
    pub receiver: Receiver,
    /// Takes the email.
    pub mail: MailServer,
    /// Whoever runs the node.
    pub operator: Operator,
    /// One tenant.
    pub account: Account,
}

impl Scene {
    /// Starts everything.
    pub async fn start(config: Config) -> Result<Self> {
        let mail = MailServer::start().await?;
        let node = Node::start(config.smtp(mail.address())).await?;
        Self::around(node, mail).await
    }

    /// Puts the rest around a node that runs and sends its email to `mail`.
    pub async fn around(node: Node, mail: MailServer) -> Result<Self> {
        let receiver = Receiver::start().await?;
        let operator = Operator::new(node.operator_api()?);
        operator.event_type(ORDER, &json!({"order": 1, "total": "12.50"})).await?;
        operator.event_type(REFUND, &json!({"order": 1, "refund": "2.50"})).await?;
        let account = operator.account("Acme", &[CONTACT]).await?;
        Ok(Self { node, receiver, mail, operator, account })
    }

    /// A path of the receiver.
    #[must_use]
    pub fn hook(&self, name: &str) -> Hook {
        self.receiver.hook(name)
    }

    /// An endpoint that gets every event at `hook`.
    pub async fn endpoint(&self, hook: &Hook) -> Result<Endpoint> {
        self.account.create(&NewEndpoint::at(&hook.url())).await
    }

    /// Publishes an order.
    pub async fn publish(&self, payload: &Value) -> Result<Accepted> {
        self.account.publish(ORDER, &payload.to_string()).await
    }
}
