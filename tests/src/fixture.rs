//! Data directories that earlier versions have written. Each is an archive,
//! `tests/fixtures/format-N.tar.gz`, of what a node leaves behind that is killed in the midst of its
//! work, with a file that says what that is: [`Expected`].
//!
//! An archive is made once, by the last version that writes its format, and never changed:
//! `POSTRIDER_BIN=… cargo run --package postrider-tests --bin fixture -- tests/fixtures/format-N.tar.gz`.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use crate::client::records::{Accepted, Endpoint};
use crate::client::{Account, NewEndpoint, Operator};
use crate::config::Config;
use crate::mail::MailServer;
use crate::node::Node;
use crate::receiver::{Behaviour, Receiver};
use crate::scene::{CONTACT, ORDER, REFUND};
use crate::wait::{self, seconds};

/// Where the endpoints of every archive are: no address that another test listens at.
pub const RECEIVER: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(127, 77, 3, 1)), 18_743);
/// What the subscribers want that are many.
pub const NEWS: &str = "news.published";
/// More than the 500 that one transaction reaches.
pub const MANY: usize = 510;
/// Events that are being fanned out to them.
pub const NEWS_EVENTS: usize = 10;
const SOON: Duration = seconds(30);
const CALLS_AT_ONCE: usize = 16;
const EXPECTED: &str = "expected.json";
const DATA: &str = "data";

/// What a data directory holds.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Expected {
    /// The account's id.
    pub account: String,
    /// A key of it.
    pub key: String,
    /// The endpoints with names of their own.
    pub endpoints: BTreeMap<String, Known>,
    /// The deliveries that had come to their end, by id.
    pub finished: BTreeMap<String, Finished>,
    /// Payloads that are still to be delivered to each endpoint, in the order of acceptance.
    pub pending: BTreeMap<String, Vec<String>>,
    /// Payloads that each endpoint holds.
    pub held: BTreeMap<String, Vec<String>>,
    /// A replay that is paused, of the deliveries to `healthy`.
    pub replay: String,
    /// An endpoint that was deleted.
    pub gone: String,
}

/// An endpoint.
#[derive(Debug, Serialize, Deserialize)]
pub struct Known {
    /// Its id.
    pub id: String,
    /// Its newest signing secret.
    pub secret: String,
}

/// A delivery that had come to its end.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finished {
    /// Its state.
    pub state: String,
    /// The status of each attempt's answer.
    pub answers: Vec<Option<u16>>,
}

/// An archive, unpacked.
#[derive(Debug)]
pub struct Unpacked {
    home: TempDir,
    /// What it holds.
    pub expected: Expected,
}

impl Unpacked {
    /// Unpacks an archive.
    pub async fn of(archive: &Path) -> Result<Self> {
        let home = tempfile::tempdir()?;
        let arguments = ["--extract", "--gzip", "--file"];
        tar(&arguments, archive, home.path(), &[]).await?;
        let expected = fs::read_to_string(home.path().join(EXPECTED))?;
        Ok(Self { home, expected: serde_json::from_str(&expected)? })
    }

    /// The data directory.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.home.path().join(DATA)
    }
}

/// All archives.
pub fn archives() -> Result<Vec<PathBuf>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let entries = fs::read_dir(&directory).with_context(|| directory.display().to_string())?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.sort();
    ensure!(!paths.is_empty(), "no archives in {}", directory.display());
    Ok(paths)
}

/// Fills a data directory with the binary that POSTRIDER_BIN names, and packs it.
pub async fn make(archive: &Path) -> Result<()> {
    let home = tempfile::tempdir()?;
    let expected = fill(&home.path().join(DATA)).await?;
    fs::write(home.path().join(EXPECTED), serde_json::to_string_pretty(&expected)?)?;
    let arguments = ["--create", "--gzip", "--sparse", "--file"];
    tar(&arguments, archive, home.path(), &[DATA, EXPECTED]).await
}

async fn tar(arguments: &[&str], archive: &Path, directory: &Path, files: &[&str]) -> Result<()> {
    let mut command = Command::new("tar");
    command.args(arguments).arg(archive).arg("--directory").arg(directory).args(files);
    let ended = command.status().await.context("run tar")?;
    ensure!(ended.success(), "tar {arguments:?} {}: {ended}", archive.display());
    Ok(())
}

async fn fill(data: &Path) -> Result<Expected> {
    let mail = MailServer::away()?;
    let receiver = Receiver::start_on(RECEIVER)?;
    // Two attempts, a second apart, exhaust a delivery.
    let config = Config::new().timeout("1s").retry("1500ms", 1).smtp(mail.address());
    let mut node = Node::prepare_at(config, data)?;
    node.restart().await?;
    let operator = Operator::new(node.operator_api()?);
    operator.event_type_with_schema(ORDER, &json!({"n": 1}), &json!({"required": ["n"]})).await?;
    operator.event_type(REFUND, &json!({"n": 1})).await?;
    operator.event_type(NEWS, &json!({"n": 1})).await?;
    let id = operator.account("Acme", &[CONTACT]).await?.id;
    let key = operator.key(&id).await?.key;
    let account = Account::new(id, operator.api.with_key(Some(&key)));
    let mut past = Past { receiver, account, expected: Expected { key, ..Expected::default() } };
    past.expected.account.clone_from(&past.account.id);
    past.orders(&operator).await?;
    node.stop().await?;
    node.reconfigure(|config| config.retry("24h", 10));
    node.restart().await?;
    past.refunds().await?;
    past.note_finished().await?;
    past.news(&mut node).await?;
    Ok(past.expected)
}

/// An installation that gets a past.
struct Past {
    receiver: Receiver,
    account: Account,
    expected: Expected,
}

impl Past {
    /// Creates an endpoint whose path is its name.
    async fn endpoint(
        &mut self,
        name: &str,
        change: impl FnOnce(NewEndpoint) -> NewEndpoint,
    ) -> Result<Endpoint> {
        let hook = self.receiver.hook(name);
        let endpoint = self.account.create(&change(NewEndpoint::at(&hook.url()))).await?;
        let secret = endpoint.signing_secret.clone().context("a secret")?;
        let known = Known { id: endpoint.id.clone(), secret };
        self.expected.endpoints.insert(name.to_owned(), known);
        Ok(endpoint)
    }

    fn id(&self, name: &str) -> String {
        self.expected.endpoints[name].id.clone()
    }

    /// What is delivered, exhausted, held, replayed and given up.
    async fn orders(&mut self, operator: &Operator) -> Result<()> {
        for name in ["healthy", "broken", "paused", "gone"] {
            self.endpoint(name, |new| new.of_types(&[ORDER])).await?;
        }
        self.endpoint("strict", |new| new.of_types(&[ORDER]).strict()).await?;
        self.endpoint("rotated", |new| new.of_types(&[ORDER]).header("X-Tenant", "acme")).await?;
        self.receiver.hook("broken").behave(Behaviour::with_body(503, "down for maintenance"));
        for n in 1..=3 {
            self.order(n).await?;
        }
        let broken = self.id("broken");
        let disabled = |endpoint: &Endpoint| endpoint.state == "disabled";
        self.account.until_endpoint(&broken, "is disabled", SOON, disabled).await?;
        self.until_settled().await?;

        let rotated = self.id("rotated");
        let path = self.account.path(&format!("/endpoints/{rotated}/rotate-secret"));
        self.account.api.post(&path, &json!({})).await?.succeeded()?;
        let secret: Value = self.account.read(&format!("/endpoints/{rotated}/secret")).await?;
        let secret = secret["signing_secret"].as_str().context("a secret")?.to_owned();
        self.expected.endpoints.get_mut("rotated").context("it is known")?.secret = secret;

        let gone = self.id("gone");
        self.account
            .api
            .delete(&self.account.path(&format!("/endpoints/{gone}")))
            .await?
            .succeeded()?;
        self.expected.endpoints.remove("gone");
        self.expected.gone = gone;
        let links = format!("/v1/accounts/{}/portal-links", self.account.id);
        operator.api.delete(&links).await?.succeeded()?;

        self.account.disable(&self.id("paused")).await?;
        let held = self.order(4).await?;
        for name in ["broken", "paused"] {
            self.expected.held.entry(name.to_owned()).or_default().push(held.clone());
        }
        let once = self.account.try_publish(ORDER, r#"{"n": 5}"#, Some("key-5")).await?;
        once.expect(202)?;
        for name in ["broken", "paused"] {
            self.expected.held.entry(name.to_owned()).or_default().push(r#"{"n": 5}"#.to_owned());
        }
        self.until_settled().await?;

        let healthy = self.id("healthy");
        let replay = self.account.replay(&json!({"endpoint": healthy, "rate": 1_000})).await?;
        let completed = async || {
            let progress = self.account.replay_progress(&replay.id).await?;
            Ok((progress.state == "completed").then_some(()))
        };
        wait::until("a replay is completed", SOON, completed).await?;
        let replay = self.account.replay(&json!({"endpoint": healthy, "rate": 1})).await?;
        let path = self.account.path(&format!("/replays/{}/pause", replay.id));
        self.account.api.post(&path, &json!({})).await?.succeeded()?;
        self.expected.replay = replay.id;
        self.until_settled().await
    }

    async fn order(&self, n: u32) -> Result<String> {
        let payload = format!(r#"{{ "n": {n} }}"#);
        let _: Accepted = self.account.publish(ORDER, &payload).await?;
        Ok(payload)
    }

    /// Waits until nothing is pending.
    async fn until_settled(&self) -> Result<()> {
        let settled = async || {
            let endpoints = self.account.list::<Endpoint>("/endpoints?").await?;
            Ok(endpoints.iter().all(|endpoint| endpoint.pending == 0).then_some(()))
        };
        wait::until("nothing is pending", SOON, settled).await
    }

    /// What waits for its retry, and what waits behind it.
    async fn refunds(&mut self) -> Result<()> {
        self.endpoint("failing", |new| new.of_types(&[REFUND])).await?;
        self.endpoint("blocked", |new| new.of_types(&[REFUND]).strict()).await?;
        for name in ["failing", "blocked"] {
            self.receiver.hook(name).behave(Behaviour::status(503));
        }
        for n in 1..=3 {
            let payload = format!(r#"{{"n": {n}, "refund": "1.50"}}"#);
            self.account.publish(REFUND, &payload).await?;
            for name in ["failing", "blocked"] {
                self.expected.pending.entry(name.to_owned()).or_default().push(payload.clone());
            }
        }
        for (name, tried) in [("failing", 3), ("blocked", 1)] {
            let id = self.id(name);
            let recorded = async || {
                let deliveries = self.account.deliveries(&id).await?;
                let recorded = deliveries.iter().filter(|delivery| delivery.attempt_count > 0);
                Ok((recorded.count() >= tried).then_some(()))
            };
            wait::until("the first attempts are on record", SOON, recorded).await?;
        }
        Ok(())
    }

    async fn note_finished(&mut self) -> Result<()> {
        for Known { id, .. } in self.expected.endpoints.values() {
            for delivery in self.account.full_deliveries(id).await? {
                if delivery.finished_at.is_some() {
                    let finished = Finished::of(&delivery);
                    self.expected.finished.insert(delivery.id, finished);
                }
            }
        }
        Ok(())
    }

    /// Kills the node while it fans events out to many.
    async fn news(&mut self, node: &mut Node) -> Result<()> {
        let new = |n| NewEndpoint::at(&self.receiver.hook(&format!("many-{n}")).url());
        stream::iter(0..MANY)
            .map(async |n| {
                let endpoint = self.account.create(&new(n).of_types(&[NEWS])).await?;
                self.account.disable(&endpoint.id).await
            })
            .buffer_unordered(CALLS_AT_ONCE)
            .try_collect::<()>()
            .await?;
        self.account.try_publish_batch(&[(NEWS, r#"{"n": 1}"#); NEWS_EVENTS]).await?.expect(202)?;
        // The answer comes before the first is fanned out.
        node.kill().await
    }
}

impl Finished {
    /// What is kept of a delivery.
    #[must_use]
    pub fn of(delivery: &crate::client::records::Delivery) -> Self {
        let answer = |attempt: &crate::client::records::Attempt| {
            attempt.response.as_ref().map(|response| response.status)
        };
        Self {
            state: delivery.state.clone(),
            answers: delivery.attempts.iter().map(answer).collect(),
        }
    }
}
