//! The operator's calls.

use anyhow::Result;
use serde_json::{Value, json};

use super::records::{AccountRecord, Cluster, NewKey, PortalLink};
use super::{Account, Api};

/// Whoever runs the installation.
#[derive(Clone, Debug)]
pub struct Operator {
    /// For calls that are not typed here.
    pub api: Api,
}

impl Operator {
    /// The operator, calling through `api`.
    #[must_use]
    pub fn new(api: Api) -> Self {
        Self { api }
    }

    /// What the node says of the cluster, with the owner of each shard.
    pub async fn cluster(&self) -> Result<Cluster> {
        self.api.get("/v1/cluster?owners=true").await?.parse(200)
    }

    /// Creates an account with a key, and gives its own view of the API.
    pub async fn account(&self, name: &str, contacts: &[&str]) -> Result<Account> {
        let body = json!({"name": name, "contact_emails": contacts});
        let account: AccountRecord = self.api.post("/v1/accounts", &body).await?.parse(201)?;
        let key = self.key(&account.id).await?;
        Ok(Account::new(account.id, self.api.with_key(Some(&key.key))))
    }

    /// Creates a key of an account.
    pub async fn key(&self, account: &str) -> Result<NewKey> {
        let path = format!("/v1/accounts/{account}/api-keys");
        self.api.post(&path, &json!({"name": "tests"})).await?.parse(201)
    }

    /// Makes a link that opens the dashboard as an account.
    pub async fn portal_link(&self, account: &str, body: &Value) -> Result<String> {
        let path = format!("/v1/accounts/{account}/portal-links");
        let link: PortalLink = self.api.post(&path, body).await?.parse(201)?;
        Ok(link.url)
    }

    /// Puts an event type into the catalogue.
    pub async fn event_type(&self, name: &str, example: &Value) -> Result<()> {
        let body = json!({"description": "An event of the tests.", "example": example});
        self.put_event_type(name, &body).await
    }

    /// Puts an event type whose payloads must satisfy `schema`.
    pub async fn event_type_with_schema(
        &self,
        name: &str,
        example: &Value,
        schema: &Value,
    ) -> Result<()> {
        let body =
            json!({"description": "An event of the tests.", "example": example, "schema": schema});
        self.put_event_type(name, &body).await
    }

    /// Puts an event type with this record into the catalogue.
    pub async fn put_event_type(&self, name: &str, body: &Value) -> Result<()> {
        let answer = self.api.put(&format!("/v1/event-types/{name}"), body).await?;
        answer.succeeded().map(|_| ())
    }
}
