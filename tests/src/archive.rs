//! Data directories written by earlier versions. Each archive, `tests/fixtures/format-N.tar.gz`,
//! holds the data directory of a node killed while it was working, and a description of its
//! contents, [`Expected`].
//!
//! An archive is created once, by the last version that writes its format, and never changed:
//!
//! ```sh
//! POSTRIDER_BIN=… cargo run -p postrider-tests --bin fixture -- tests/fixtures/format-N.tar.gz
//! ```

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
use crate::fixture::{CONTACT, ORDER, REFUND};
use crate::mail::MailServer;
use crate::node::Node;
use crate::receiver::{Behaviour, Receiver};
use crate::wait::{self, seconds};

/// The receiver address of all archived endpoints. No other test listens there.
pub const RECEIVER: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(127, 77, 3, 1)), 18_743);
/// The event type with many subscribers.
pub const NEWS: &str = "news.published";
/// More endpoints than the 500 that one fan-out transaction handles.
pub const MANY: usize = 510;
/// Events whose fan-out is interrupted.
pub const NEWS_EVENTS: usize = 10;
const SOON: Duration = seconds(30);
const CONCURRENT_CALLS: usize = 16;
const EXPECTED: &str = "expected.json";
const DATA: &str = "data";

/// The contents of a data directory.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Expected {
    pub account: String,
    /// An API key of the account.
    pub key: String,
    /// The endpoints by name.
    pub endpoints: BTreeMap<String, NamedEndpoint>,
    /// The finished deliveries by id.
    pub finished: BTreeMap<String, Finished>,
    /// Payloads of the pending deliveries by endpoint name, in order of acceptance.
    pub pending: BTreeMap<String, Vec<String>>,
    /// Payloads of the held deliveries by endpoint name.
    pub held: BTreeMap<String, Vec<String>>,
    /// A paused replay of the deliveries to `healthy`.
    pub replay: String,
    /// A deleted endpoint.
    pub gone: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct NamedEndpoint {
    pub id: String,
    /// The newest signing secret.
    pub secret: String,
}

/// A finished delivery.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finished {
    pub state: String,
    /// The response status of each attempt.
    pub answers: Vec<Option<u16>>,
}

/// An unpacked archive.
#[derive(Debug)]
pub struct Unpacked {
    home: TempDir,
    pub expected: Expected,
}

impl Unpacked {
    pub async fn of(archive: &Path) -> Result<Self> {
        let home = tempfile::tempdir()?;
        let arguments = ["--extract", "--gzip", "--file"];
        tar(&arguments, archive, home.path(), &[]).await?;
        let expected = fs::read_to_string(home.path().join(EXPECTED))?;
        Ok(Self { home, expected: serde_json::from_str(&expected)? })
    }

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

/// Creates an archive with the binary in `POSTRIDER_BIN`.
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
    let status = command.status().await.context("run tar")?;
    ensure!(status.success(), "tar {arguments:?} {}: {status}", archive.display());
    Ok(())
}

async fn fill(data: &Path) -> Result<Expected> {
    let mail = MailServer::stopped()?;
    let receiver = Receiver::start_on(RECEIVER)?;
    // A delivery is exhausted after two attempts, one second apart.
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
    let mut builder =
        Builder { receiver, account, expected: Expected { key, ..Expected::default() } };
    builder.expected.account.clone_from(&builder.account.id);
    builder.orders(&operator).await?;
    node.stop().await?;
    node.reconfigure(|config| config.retry("24h", 10));
    node.restart().await?;
    builder.refunds().await?;
    builder.record_finished().await?;
    builder.news(&mut node).await?;
    Ok(builder.expected)
}

/// Builds the history of a data directory.
struct Builder {
    receiver: Receiver,
    account: Account,
    expected: Expected,
}

impl Builder {
    /// Creates an endpoint with its name as path.
    async fn endpoint(
        &mut self,
        name: &str,
        change: impl FnOnce(NewEndpoint) -> NewEndpoint,
    ) -> Result<Endpoint> {
        let hook = self.receiver.hook(name);
        let endpoint = self.account.create(&change(NewEndpoint::at(&hook.url()))).await?;
        let secret = endpoint.signing_secret.clone().context("there is no secret")?;
        let known = NamedEndpoint { id: endpoint.id.clone(), secret };
        self.expected.endpoints.insert(name.to_owned(), known);
        Ok(endpoint)
    }

    fn id(&self, name: &str) -> String {
        self.expected.endpoints[name].id.clone()
    }

    /// Creates delivered, exhausted, held and replayed deliveries.
    async fn orders(&mut self, operator: &Operator) -> Result<()> {
        for name in ["healthy", "broken", "paused", "gone"] {
            self.endpoint(name, |new| new.of_types(&[ORDER])).await?;
        }
        self.endpoint("strict", |new| new.of_types(&[ORDER]).strict()).await?;
        self.endpoint("rotated", |new| new.of_types(&[ORDER]).header("X-Tenant", "acme")).await?;
        self.receiver
            .hook("broken")
            .set_behaviour(Behaviour::with_body(503, "down for maintenance"));
        for n in 1..=3 {
            self.order(n).await?;
        }
        let broken = self.id("broken");
        let disabled = |endpoint: &Endpoint| endpoint.state == "disabled";
        self.account.until_endpoint(&broken, "is disabled", SOON, disabled).await?;
        self.until_nothing_is_pending().await?;

        let rotated = self.id("rotated");
        let path = self.account.path(&format!("/endpoints/{rotated}/rotate-secret"));
        self.account.api.post(&path, &json!({})).await?.succeeded()?;
        let secret: Value = self.account.read(&format!("/endpoints/{rotated}/secret")).await?;
        let secret = secret["signing_secret"].as_str().context("there is no secret")?.to_owned();
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
        self.until_nothing_is_pending().await?;

        let healthy = self.id("healthy");
        let replay = self.account.replay(&json!({"endpoint": healthy, "rate": 1_000})).await?;
        let completed = async || {
            let progress = self.account.replay_progress(&replay.id).await?;
            Ok((progress.state == "completed").then_some(()))
        };
        wait::until("the replay is completed", SOON, completed).await?;
        let replay = self.account.replay(&json!({"endpoint": healthy, "rate": 1})).await?;
        let path = self.account.path(&format!("/replays/{}/pause", replay.id));
        self.account.api.post(&path, &json!({})).await?.succeeded()?;
        self.expected.replay = replay.id;
        self.until_nothing_is_pending().await
    }

    async fn order(&self, n: u32) -> Result<String> {
        let payload = format!(r#"{{ "n": {n} }}"#);
        let _: Accepted = self.account.publish(ORDER, &payload).await?;
        Ok(payload)
    }

    async fn until_nothing_is_pending(&self) -> Result<()> {
        let done = async || {
            let endpoints = self.account.list::<Endpoint>("/endpoints?").await?;
            Ok(endpoints.iter().all(|endpoint| endpoint.pending == 0).then_some(()))
        };
        wait::until("nothing is pending", SOON, done).await
    }

    /// Creates deliveries that wait for a retry, and deliveries queued behind one.
    async fn refunds(&mut self) -> Result<()> {
        self.endpoint("failing", |new| new.of_types(&[REFUND])).await?;
        self.endpoint("blocked", |new| new.of_types(&[REFUND]).strict()).await?;
        for name in ["failing", "blocked"] {
            self.receiver.hook(name).set_behaviour(Behaviour::status(503));
        }
        for n in 1..=3 {
            let payload = format!(r#"{{"n": {n}, "refund": "1.50"}}"#);
            self.account.publish(REFUND, &payload).await?;
            for name in ["failing", "blocked"] {
                self.expected.pending.entry(name.to_owned()).or_default().push(payload.clone());
            }
        }
        for (name, attempted) in [("failing", 3), ("blocked", 1)] {
            let id = self.id(name);
            let recorded = async || {
                let deliveries = self.account.deliveries(&id).await?;
                let recorded = deliveries.iter().filter(|delivery| delivery.attempt_count > 0);
                Ok((recorded.count() >= attempted).then_some(()))
            };
            wait::until("the first attempts are recorded", SOON, recorded).await?;
        }
        Ok(())
    }

    async fn record_finished(&mut self) -> Result<()> {
        for NamedEndpoint { id, .. } in self.expected.endpoints.values() {
            for delivery in self.account.full_deliveries(id).await? {
                if delivery.finished_at.is_some() {
                    let finished = Finished::of(&delivery);
                    self.expected.finished.insert(delivery.id, finished);
                }
            }
        }
        Ok(())
    }

    /// Kills the node during a fan-out to many endpoints.
    async fn news(&mut self, node: &mut Node) -> Result<()> {
        let new = |n| NewEndpoint::at(&self.receiver.hook(&format!("many-{n}")).url());
        stream::iter(0..MANY)
            .map(async |n| {
                let endpoint = self.account.create(&new(n).of_types(&[NEWS])).await?;
                self.account.disable(&endpoint.id).await
            })
            .buffer_unordered(CONCURRENT_CALLS)
            .try_collect::<()>()
            .await?;
        self.account.try_publish_batch(&[(NEWS, r#"{"n": 1}"#); NEWS_EVENTS]).await?.expect(202)?;
        // The response comes before the first fan-out.
        node.kill().await
    }
}

impl Finished {
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
