//! Calls as the operator.

use anyhow::Result;
use serde_json::{Value, json};

use super::records::{AccountRecord, Cluster, NewKey, PortalLink};
use super::{Account, Api};

#[derive(Clone, Debug)]
pub struct Operator {
    /// For untyped calls.
    pub api: Api,
}

impl Operator {
    #[must_use]
    pub fn new(api: Api) -> Self {
        Self { api }
    }

    /// The state of the cluster, with shard owners.
    pub async fn cluster(&self) -> Result<Cluster> {
        self.api.get("/v1/cluster?owners=true").await?.parse(200)
    }

    /// Creates an account with an API key.
    pub async fn account(&self, name: &str, contacts: &[&str]) -> Result<Account> {
        let body = json!({"name": name, "contact_emails": contacts});
        let account: AccountRecord = self.api.post("/v1/accounts", &body).await?.parse(201)?;
        let key = self.key(&account.id).await?;
        Ok(Account::new(account.id, self.api.with_key(Some(&key.key))))
    }

    /// Creates an API key for an account.
    pub async fn key(&self, account: &str) -> Result<NewKey> {
        let path = format!("/v1/accounts/{account}/api-keys");
        self.api.post(&path, &json!({"name": "tests"})).await?.parse(201)
    }

    /// Creates a portal link for an account.
    pub async fn portal_link(&self, account: &str, body: &Value) -> Result<String> {
        let path = format!("/v1/accounts/{account}/portal-links");
        let link: PortalLink = self.api.post(&path, body).await?.parse(201)?;
        Ok(link.url)
    }

    pub async fn event_type(&self, name: &str, example: &Value) -> Result<()> {
        let body = json!({"description": "An event of the tests.", "example": example});
        self.put_event_type(name, &body).await
    }

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

    pub async fn put_event_type(&self, name: &str, body: &Value) -> Result<()> {
        let answer = self.api.put(&format!("/v1/event-types/{name}"), body).await?;
        answer.succeeded().map(|_| ())
    }
}
