//! The fixture of most tests: a node, a receiver, a mail server, and an account that can publish.

use anyhow::Result;
use serde_json::{Value, json};

use crate::client::records::{Accepted, Endpoint};
use crate::client::{Account, NewEndpoint, Operator};
use crate::config::Config;
use crate::mail::MailServer;
use crate::node::Node;
use crate::receiver::{Hook, Receiver};

/// The first event type in the catalogue.
pub const ORDER: &str = "order.created";
/// The second event type in the catalogue.
pub const REFUND: &str = "order.refunded";
/// The account's contact address.
pub const CONTACT: &str = "ops@example.com";

#[derive(Debug)]
pub struct Fixture {
    pub node: Node,
    pub receiver: Receiver,
    pub mail: MailServer,
    pub operator: Operator,
    pub account: Account,
}

impl Fixture {
    pub async fn start(config: Config) -> Result<Self> {
        let mail = MailServer::start().await?;
        let node = Node::start(config.smtp(mail.address())).await?;
        Self::with_node(node, mail).await
    }

    /// Adds the other parts to a running node that sends its email to `mail`.
    pub async fn with_node(node: Node, mail: MailServer) -> Result<Self> {
        let receiver = Receiver::start().await?;
        let operator = Operator::new(node.operator_api()?);
        operator.event_type(ORDER, &json!({"order": 1, "total": "12.50"})).await?;
        operator.event_type(REFUND, &json!({"order": 1, "refund": "2.50"})).await?;
        let account = operator.account("Acme", &[CONTACT]).await?;
        Ok(Self { node, receiver, mail, operator, account })
    }

    #[must_use]
    pub fn hook(&self, name: &str) -> Hook {
        self.receiver.hook(name)
    }

    /// Creates an endpoint for all event types at `hook`.
    pub async fn endpoint(&self, hook: &Hook) -> Result<Endpoint> {
        self.account.create(&NewEndpoint::at(&hook.url())).await
    }

    /// Publishes an order.
    pub async fn publish(&self, payload: &Value) -> Result<Accepted> {
        self.account.publish(ORDER, &payload.to_string()).await
    }
}
