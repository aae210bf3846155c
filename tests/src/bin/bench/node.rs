//! The client that puts load on the nodes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::Options;
use crate::baseline::{client, payload};
use crate::deployment::Deployment;
use crate::metrics::WAKES_SENT;
use crate::process;
use crate::receiver::Receiver;

/// The deadline for the remaining deliveries when the load ends.
const DRAINED_WITHIN: Duration = Duration::from_secs(120);
/// Endpoints per group, with one event type.
const GROUP_SIZE: usize = 100;

/// An account with endpoints, each with its own event type, so that one event is one delivery.
/// Calls go to the nodes in turn.
pub struct Bench {
    pub options: Options,
    pub receiver: Arc<Receiver>,
    pub client: reqwest::Client,
    pub account: String,
    pub key: String,
    pub bases: Vec<String>,
    next_node: AtomicUsize,
}

pub struct Throughput {
    pub accepted: u64,
    pub accepted_per_s: f64,
    pub delivered_per_s: f64,
    pub cpu_s_per_1000: f64,
    pub memory_mib: Vec<(f64, f64)>,
    pub wakes_per_s: f64,
    pub wakes_per_event: f64,
}

impl Bench {
    pub async fn start(
        options: &Options,
        receiver: Arc<Receiver>,
        deployment: &Deployment,
    ) -> Result<Self> {
        let bench = Self {
            bases: deployment.bases(),
            next_node: AtomicUsize::new(0),
            client: client(options)?,
            options: options.clone(),
            account: String::new(),
            receiver,
            key: deployment.operator_key()?,
        };
        let account = json!({"name": "Bench", "contact_emails": ["bench@example.com"]});
        let answer: Value =
            serde_json::from_slice(&bench.call("POST", "/accounts", account.to_string()).await?)?;
        let account = answer["id"].as_str().context("there is no account")?.to_owned();
        let bench = Self { account, ..bench };
        for number in 0..options.endpoints {
            bench.event_type(&format!("bench.n{number}")).await?;
            bench.endpoint(&format!("bench.n{number}")).await?;
        }
        Ok(bench)
    }

    pub async fn event_type(&self, name: &str) -> Result<()> {
        let body = json!({"description": "for measuring", "example": {}});
        self.call("PUT", &format!("/event-types/{name}"), body.to_string()).await.map(drop)
    }

    pub async fn endpoint(&self, event_type: &str) -> Result<()> {
        let url = format!("http://{}/", self.receiver.address);
        let body = json!({"name": event_type, "url": url, "event_types": [event_type]});
        self.call("POST", &format!("/accounts/{}/endpoints", self.account), body.to_string())
            .await
            .map(drop)
    }

    /// Registers endpoints with one event type.
    pub async fn register(&self, event_type: &str, count: usize) -> Result<()> {
        let registering = stream::iter(0..count).map(|_| self.endpoint(event_type));
        registering.buffer_unordered(self.options.in_flight).try_collect().await
    }

    /// Registers endpoints in groups, and returns the event type of each group.
    pub async fn register_groups(&self, count: usize) -> Result<Vec<String>> {
        let groups: Vec<_> =
            (0..count.div_ceil(GROUP_SIZE)).map(|n| format!("scale.a{n}")).collect();
        for group in &groups {
            self.event_type(group).await?;
        }
        let registering = (0..count).map(|number| self.endpoint(&groups[number / GROUP_SIZE]));
        let registering = stream::iter(registering).buffer_unordered(self.options.in_flight);
        registering.try_collect::<()>().await?;
        Ok(groups)
    }

    /// Publishes an event to each group: one delivery for each endpoint.
    pub async fn publish_to_groups(&self, groups: &[String]) -> Result<()> {
        let path = format!("/accounts/{}/events", self.account);
        for group in groups {
            let body = format!("{{\"event_type\":\"{group}\",\"payload\":{{}}}}");
            self.call("POST", &path, body).await?;
        }
        Ok(())
    }

    /// The event type of the event with this number, which determines the endpoint.
    pub fn event_type_of(&self, number: u64) -> String {
        format!("bench.n{}", number % self.options.endpoints as u64)
    }

    /// Publishes events in one request.
    pub async fn publish(&self, numbers: &[u64]) -> Result<()> {
        self.publish_at(self.next_base(), numbers, None).await
    }

    /// Like [`Self::publish`], at one node, with an optional idempotency key.
    pub async fn publish_at(&self, base: &str, numbers: &[u64], key: Option<&str>) -> Result<()> {
        let event = |number: &u64| {
            let event_type = self.event_type_of(*number);
            let payload = payload(*number, self.options.body);
            format!("{{\"event_type\":\"{event_type}\",\"payload\":{payload}}}")
        };
        let (path, body) = match numbers {
            [number] => ("events", event(number)),
            numbers => {
                let events: Vec<String> = numbers.iter().map(event).collect();
                ("events/batch", format!("{{\"events\":[{}]}}", events.join(",")))
            }
        };
        let path = format!("/accounts/{}/{path}", self.account);
        self.call_at(base, "POST", &path, key, body).await.map(drop)
    }

    pub async fn call(&self, method: &str, path: &str, body: String) -> Result<bytes::Bytes> {
        self.call_at(self.next_base(), method, path, None, body).await
    }

    async fn call_at(
        &self,
        base: &str,
        method: &str,
        path: &str,
        key: Option<&str>,
        body: String,
    ) -> Result<bytes::Bytes> {
        let mut request = self
            .client
            .request(method.parse()?, format!("{base}/v1{path}"))
            .bearer_auth(&self.key)
            .header("content-type", "application/json")
            .body(body);
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let answer = request.send().await?;
        let status = answer.status();
        let body = answer.bytes().await?;
        ensure!(
            status.is_success(),
            "{method} {path}: {status}: {}",
            String::from_utf8_lossy(&body)
        );
        Ok(body)
    }

    /// The next node in turn.
    pub fn next_base(&self) -> &str {
        let node = self.next_node.fetch_add(1, Ordering::Relaxed);
        &self.bases[node % self.bases.len()]
    }

    /// Runs a closed loop for the configured time and waits for the remaining deliveries.
    pub async fn throughput(&self, batch: usize, deployment: &Deployment) -> Result<Throughput> {
        let pids = deployment.pids()?;
        let (wakes, cpu) = (self.wakes_sent().await?, process::cpu_time_of_all(&pids)?);
        let (before, start) = (self.receiver.count(), Instant::now());
        let accepted = self.closed_loop(batch, start + self.options.duration()).await?;
        let accepted_per_s = accepted as f64 / start.elapsed().as_secs_f64();
        self.receiver.wait_for_count(before + accepted, DRAINED_WITHIN).await?;
        let took = start.elapsed().as_secs_f64();
        let cpu = process::cpu_time_of_all(&pids)?.saturating_sub(cpu);
        let wakes = self.wakes_sent().await? - wakes;
        Ok(Throughput {
            accepted,
            accepted_per_s,
            delivered_per_s: accepted as f64 / took,
            cpu_s_per_1000: cpu.as_secs_f64() * 1000.0 / accepted as f64,
            memory_mib: pids.into_iter().map(process::memory_mib).collect::<Result<_>>()?,
            wakes_per_s: wakes / took,
            wakes_per_event: wakes / accepted as f64,
        })
    }

    /// Publishes batches concurrently until `end`, and returns the number of events.
    async fn closed_loop(&self, batch: usize, end: Instant) -> Result<u64> {
        let next = AtomicU64::new(0);
        let loops = (0..self.options.in_flight).map(|_| async {
            while Instant::now() < end {
                let first = next.fetch_add(batch as u64, Ordering::Relaxed);
                let numbers: Vec<u64> = (first..first + batch as u64).collect();
                self.publish(&numbers).await?;
            }
            anyhow::Ok(())
        });
        for result in futures::future::join_all(loops).await {
            result?;
        }
        Ok(next.into_inner())
    }

    async fn wakes_sent(&self) -> Result<f64> {
        Ok(self.metric(WAKES_SENT).await?.into_iter().sum())
    }
}
