//! The node under load.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use postrider_tests::config::Config;
use postrider_tests::node::Node;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::Options;
use crate::bare::{client, payload};
use crate::process;
use crate::receiver::Receiver;

/// How long the node may take for what is left when the load ends.
const REST: Duration = Duration::from_secs(120);

/// A node with an account and endpoints, each with an event type of its own, so that one event
/// is one delivery.
pub struct Bench {
    pub options: Options,
    pub receiver: Arc<Receiver>,
    pub client: reqwest::Client,
    pub account: String,
    pub key: String,
    pub base: String,
    node: Node,
}

/// What a throughput measurement came to.
pub struct Throughput {
    pub accepted_per_s: f64,
    pub delivered_per_s: f64,
    pub cpu_s_per_1000: f64,
    pub memory_mib: (f64, f64),
}

impl Bench {
    pub async fn start(options: &Options, receiver: Arc<Receiver>) -> Result<Self> {
        let node = Node::start(Config::new()).await?;
        let key = std::fs::read_to_string(node.data_dir().join("operator.key"))?.trim().to_owned();
        let bench = Self {
            base: format!("http://127.0.0.1:{}/v1", node.port()),
            client: client(options)?,
            options: options.clone(),
            account: String::new(),
            receiver,
            key,
            node,
        };
        let account = json!({"name": "Bench", "contact_emails": ["bench@example.com"]});
        let answer: Value =
            serde_json::from_slice(&bench.call("POST", "/accounts", account.to_string()).await?)?;
        let account = answer["id"].as_str().context("an account")?.to_owned();
        let bench = Self { account, ..bench };
        for number in 0..options.endpoints {
            bench.event_type(&format!("bench.n{number}")).await?;
            bench.endpoint(&format!("bench.n{number}")).await?;
        }
        Ok(bench)
    }

    pub fn pid(&self) -> Result<u32> {
        self.node.pid().context("the node runs")
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

    /// Publishes events of one request's body.
    pub async fn publish(&self, numbers: &[u64]) -> Result<()> {
        let event = |number: &u64| {
            let event_type = number % self.options.endpoints as u64;
            let payload = payload(*number, self.options.body);
            format!("{{\"event_type\":\"bench.n{event_type}\",\"payload\":{payload}}}")
        };
        let (path, body) = match numbers {
            [number] => ("events", event(number)),
            numbers => {
                let events: Vec<String> = numbers.iter().map(event).collect();
                ("events/batch", format!("{{\"events\":[{}]}}", events.join(",")))
            }
        };
        self.call("POST", &format!("/accounts/{}/{path}", self.account), body).await.map(drop)
    }

    pub async fn call(&self, method: &str, path: &str, body: String) -> Result<bytes::Bytes> {
        let request = self
            .client
            .request(method.parse()?, format!("{}{path}", self.base))
            .bearer_auth(&self.key)
            .header("content-type", "application/json")
            .body(body);
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

    /// A closed loop for the configured time, and then what is left.
    pub async fn throughput(&self, batch: usize) -> Result<Throughput> {
        let pid = self.pid()?;
        let (before, cpu, start) = (self.receiver.count(), process::cpu_time(pid)?, Instant::now());
        let end = start + self.options.duration();
        let next = AtomicU64::new(0);
        let loops = (0..self.options.in_flight).map(|_| async {
            while Instant::now() < end {
                let first = next.fetch_add(batch as u64, Ordering::Relaxed);
                let numbers: Vec<u64> = (first..first + batch as u64).collect();
                self.publish(&numbers).await?;
            }
            anyhow::Ok(())
        });
        for ended in futures::future::join_all(loops).await {
            ended?;
        }
        let accepted = next.into_inner();
        let accepted_per_s = accepted as f64 / start.elapsed().as_secs_f64();
        self.receiver.reached(before + accepted, REST).await?;
        let delivered_per_s = accepted as f64 / start.elapsed().as_secs_f64();
        let cpu = process::cpu_time(pid)?.saturating_sub(cpu);
        Ok(Throughput {
            accepted_per_s,
            delivered_per_s,
            cpu_s_per_1000: cpu.as_secs_f64() * 1000.0 / accepted as f64,
            memory_mib: process::memory_mib(pid)?,
        })
    }
}
