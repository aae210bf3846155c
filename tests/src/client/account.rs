//! Calls as an account.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use futures::{StreamExt, TryStreamExt, stream};
use http::Method;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::records::{Accepted, Delivery, Endpoint, Event, Page, Replay, Tested};
use super::{Answer, Api};
use crate::wait;

/// The largest page the API allows.
const PAGE_LIMIT: usize = 250;
/// Concurrent reads of single records.
const CONCURRENT_READS: usize = 16;

/// An account with its own API key.
#[derive(Clone, Debug)]
pub struct Account {
    pub id: String,
    /// For untyped calls.
    pub api: Api,
}

/// A new endpoint. By default it subscribes to all event types, with parallel ordering.
#[derive(Clone, Debug)]
pub struct NewEndpoint {
    name: Option<String>,
    url: String,
    event_types: Vec<String>,
    headers: BTreeMap<String, String>,
    ordering: &'static str,
}

impl NewEndpoint {
    #[must_use]
    pub fn at(url: &str) -> Self {
        Self {
            name: None,
            url: url.to_owned(),
            event_types: vec!["*".to_owned()],
            headers: BTreeMap::new(),
            ordering: "parallel",
        }
    }

    /// Sets the name; the default is the URL's path.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    /// Subscribes to these event types only.
    #[must_use]
    pub fn of_types(mut self, types: &[&str]) -> Self {
        self.event_types = types.iter().map(|&name| name.to_owned()).collect();
        self
    }

    /// Adds a custom header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Strict ordering: one delivery at a time.
    #[must_use]
    pub fn strict(mut self) -> Self {
        self.ordering = "strict";
        self
    }

    /// The request body.
    #[must_use]
    pub fn body(&self) -> Value {
        let path = self.url.rsplit('/').next().filter(|n| !n.is_empty()).unwrap_or("endpoint");
        json!({
            "name": self.name.as_deref().unwrap_or(path),
            "url": self.url,
            "event_types": self.event_types,
            "headers": self.headers,
            "ordering": self.ordering,
        })
    }
}

impl Account {
    #[must_use]
    pub fn new(id: String, api: Api) -> Self {
        Self { id, api }
    }

    /// The account at each of these nodes, with a call timeout.
    #[must_use]
    pub fn at_each(&self, bases: &[String], timeout: Duration) -> Vec<Self> {
        let api = self.api.with_timeout(timeout);
        bases.iter().map(|base| Self::new(self.id.clone(), api.at(base))).collect()
    }

    /// A path under this account.
    #[must_use]
    pub fn path(&self, rest: &str) -> String {
        format!("/v1/accounts/{}{rest}", self.id)
    }

    pub async fn create(&self, endpoint: &NewEndpoint) -> Result<Endpoint> {
        self.api.post(&self.path("/endpoints"), &endpoint.body()).await?.parse(201)
    }

    pub async fn endpoint(&self, id: &str) -> Result<Endpoint> {
        self.read(&format!("/endpoints/{id}")).await
    }

    pub async fn change(&self, id: &str, change: &Value) -> Result<Endpoint> {
        self.api.patch(&self.path(&format!("/endpoints/{id}")), change).await?.parse(200)
    }

    /// Enables an endpoint and resumes or discards its held deliveries.
    pub async fn enable(&self, id: &str, held: &str) -> Result<()> {
        self.command(&format!("/endpoints/{id}/enable"), &json!({"held": held})).await
    }

    pub async fn disable(&self, id: &str) -> Result<()> {
        self.command(&format!("/endpoints/{id}/disable"), &json!({})).await
    }

    /// Sends a test event and returns the exchange.
    pub async fn test(&self, id: &str, body: &Value) -> Result<Tested> {
        self.api.post(&self.path(&format!("/endpoints/{id}/test")), body).await?.parse(200)
    }

    /// Waits until the endpoint satisfies `wanted`, and returns it.
    pub async fn until_endpoint(
        &self,
        id: &str,
        what: &str,
        within: Duration,
        wanted: impl Fn(&Endpoint) -> bool,
    ) -> Result<Endpoint> {
        let what = format!("endpoint {id} {what}");
        wait::until(&what, within, async || Ok(Some(self.endpoint(id).await?).filter(&wanted)))
            .await
    }

    /// Publishes an event with this JSON text as its payload, byte for byte.
    pub async fn publish(&self, event_type: &str, payload: &str) -> Result<Accepted> {
        self.try_publish(event_type, payload, None).await?.parse(202)
    }

    /// Publishes an event and returns the response, whatever its status.
    pub async fn try_publish(
        &self,
        event_type: &str,
        payload: &str,
        idempotency_key: Option<&str>,
    ) -> Result<Answer> {
        let headers: Vec<_> =
            idempotency_key.map(|key| ("idempotency-key", key)).into_iter().collect();
        let body = event_json(event_type, payload);
        self.api.send(Method::POST, &self.path("/events"), &headers, Some(body)).await
    }

    /// Publishes a batch and returns the response, whatever its status.
    pub async fn try_publish_batch(&self, events: &[(&str, &str)]) -> Result<Answer> {
        let events: Vec<_> =
            events.iter().map(|(name, payload)| event_json(name, payload)).collect();
        let body = format!(r#"{{"events":[{}]}}"#, events.join(","));
        self.api.send(Method::POST, &self.path("/events/batch"), &[], Some(body)).await
    }

    /// All events, newest first.
    pub async fn events(&self) -> Result<Vec<Event>> {
        self.list("/events?").await
    }

    /// An endpoint's deliveries, newest first, without their attempts.
    pub async fn deliveries(&self, endpoint: &str) -> Result<Vec<Delivery>> {
        self.list(&format!("/endpoints/{endpoint}/deliveries?")).await
    }

    /// An endpoint's deliveries, newest first, with their attempts.
    pub async fn full_deliveries(&self, endpoint: &str) -> Result<Vec<Delivery>> {
        let ids = self.deliveries(endpoint).await?.into_iter().map(|delivery| delivery.id);
        stream::iter(ids)
            .map(async |id| self.delivery(&id).await)
            .buffered(CONCURRENT_READS)
            .try_collect()
            .await
    }

    /// An event's deliveries, newest first, without their attempts.
    pub async fn deliveries_of_event(&self, event: &str) -> Result<Vec<Delivery>> {
        self.list(&format!("/events/{event}/deliveries?")).await
    }

    /// A delivery with its attempts.
    pub async fn delivery(&self, id: &str) -> Result<Delivery> {
        self.read(&format!("/deliveries/{id}")).await
    }

    /// The delivery of an event to an endpoint, the newest if it was repeated.
    pub async fn delivery_of(&self, event: &str, endpoint: &str) -> Result<Delivery> {
        let all = self.deliveries(endpoint).await?;
        let found = all.iter().find(|delivery| delivery.event_id == event);
        match found {
            Some(delivery) => self.delivery(&delivery.id).await,
            None => anyhow::bail!("{event} has no delivery to {endpoint}"),
        }
    }

    /// Waits until the delivery satisfies `wanted`, and returns it.
    pub async fn until_delivery(
        &self,
        id: &str,
        what: &str,
        within: Duration,
        wanted: impl Fn(&Delivery) -> bool,
    ) -> Result<Delivery> {
        let what = format!("delivery {id} {what}");
        wait::until(&what, within, async || Ok(Some(self.delivery(id).await?).filter(&wanted)))
            .await
    }

    pub async fn replay(&self, filter: &Value) -> Result<Replay> {
        let answer = self.api.post(&self.path("/replays"), filter).await?;
        serde_json::from_value(answer.succeeded()?).map_err(Into::into)
    }

    pub async fn replay_progress(&self, id: &str) -> Result<Replay> {
        self.read(&format!("/replays/{id}")).await
    }

    /// Reads a record below the account's path.
    pub async fn read<T: DeserializeOwned>(&self, rest: &str) -> Result<T> {
        self.api.get(&self.path(rest)).await?.parse(200)
    }

    /// Reads all pages of a list below the account's path; `rest` ends in `?` or `&`.
    pub async fn list<T: DeserializeOwned>(&self, rest: &str) -> Result<Vec<T>> {
        let mut all = Vec::new();
        let mut cursor = String::new();
        loop {
            let page: Page<T> = self.read(&format!("{rest}limit={PAGE_LIMIT}{cursor}")).await?;
            all.extend(page.data);
            match page.next_cursor {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return Ok(all),
            }
        }
    }

    async fn command(&self, rest: &str, body: &Value) -> Result<()> {
        self.api.post(&self.path(rest), body).await?.succeeded().map(|_| ())
    }
}

/// The JSON of an event, with the payload inserted verbatim to preserve its bytes.
fn event_json(event_type: &str, payload: &str) -> String {
    format!(r#"{{"event_type":{},"payload":{payload}}}"#, Value::from(event_type))
}
