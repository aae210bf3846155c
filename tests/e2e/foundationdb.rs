//! Failures that only FoundationDB has: an outage of the store while the node runs, and a wrong
//! configuration.
//!
//! Each test starts its own fdbserver. The tests are skipped when the nodes use the embedded store.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use postrider_tests::binary;
use postrider_tests::checker;
use postrider_tests::client::records::Endpoint;
use postrider_tests::client::{Account, NewEndpoint};
use postrider_tests::config::Config;
use postrider_tests::evidence::{Evidence, Minimum, StoreRecords, Subscriber};
use postrider_tests::fault::Fault;
use postrider_tests::fixture::{Fixture, ORDER};
use postrider_tests::foundationdb::{self, Server};
use postrider_tests::load::{Load, Publication};
use postrider_tests::port::Port;
use postrider_tests::receiver::{Behaviour, Hook};
use postrider_tests::schedule::Schedule;
use postrider_tests::wait::{self, millis, seconds};
use serde_json::Value;
use tokio::time::Instant;

use crate::SOON;
use crate::start_up::{rejected, rejected_in};

/// How soon a publisher's request must be rejected during an outage.
const REJECTED_WITHIN: Duration = seconds(2);
/// How soon events are accepted and delivered again once the store is back.
const RECOVERED_WITHIN: Duration = seconds(10);
/// When to give up waiting for the node to recover, however long the outage was.
const RECOVERY_TIMEOUT: Duration = seconds(60);
/// Pause between two attempts to publish during an outage.
const PUBLISH_EVERY: Duration = millis(200);
const SETTLED_WITHIN: Duration = seconds(60);
/// The attempts of [`Config::short_retries`].
const SCHEDULE: Schedule =
    Schedule { max_retries: 3, window: seconds(6), factor: 2.5, jitter: 0.2, timeout: seconds(1) };
/// Pause between two publications of each load worker, so that the strict endpoint keeps up.
const PAUSE: Duration = millis(200);
/// Minimum number of events that arrive before the first fault and after the last one.
const EVENTS_BEFORE: usize = 50;
const EVENTS_AFTER: usize = 100;
/// The seed of the load.
const SEED: u64 = 1;

/// A node under load with its own FoundationDB server.
struct Outage {
    server: Server,
    fixture: Fixture,
    hooks: Vec<Hook>,
    subscribers: Vec<Subscriber>,
    load: Load,
    faults: Vec<Fault>,
    /// Publications made during and after each fault, in addition to the load.
    probes: Vec<Publication>,
}

impl Outage {
    async fn prepare() -> Result<Self> {
        let server = Server::start().await?;
        let config = Config::short_retries().in_foundationdb(&server.cluster_file());
        let fixture = Fixture::start(config).await?;
        let behaviours = [
            ("healthy", Behaviour::default()),
            ("strict", Behaviour::default()),
            ("flaky", Behaviour::fail_first(1, 500)),
        ];
        let (mut hooks, mut subscribers) = (Vec::new(), Vec::new());
        for (name, behaviour) in behaviours {
            let hook = fixture.hook(name);
            hook.set_behaviour(behaviour);
            let new = NewEndpoint::at(&hook.url());
            let new = if name == "strict" { new.strict() } else { new };
            let endpoint = fixture.account.create(&new).await?;
            subscribers.push(Subscriber::new(&endpoint, &hook));
            hooks.push(hook);
        }
        let load = Load::start_at_each(vec![fixture.account.clone()], ORDER, SEED, PAUSE);
        hooks[0].wait_for(EVENTS_BEFORE, SOON).await?;
        Ok(Self {
            server,
            fixture,
            hooks,
            subscribers,
            load,
            faults: Vec::new(),
            probes: Vec::new(),
        })
    }

    /// Lets the load run on, waits until nothing is pending, and checks the invariants.
    async fn check(self) -> Result<()> {
        let healed = Timestamp::now();
        let so_far = self.hooks[0].received().len();
        self.hooks[0].wait_for(so_far + EVENTS_AFTER, SOON).await?;
        let mut publications = self.load.stop().await?;
        let account = &self.fixture.account;
        let settled = async || {
            let endpoints = account.list::<Endpoint>("/endpoints?").await?;
            Ok(endpoints.iter().all(|endpoint| endpoint.pending == 0).then_some(()))
        };
        wait::until("nothing is pending", SETTLED_WITHIN, settled).await?;
        publications.extend(self.probes);
        let kind = self.faults.first().context("no fault was recorded")?.kind;
        let least = Minimum {
            events: EVENTS_BEFORE + EVENTS_AFTER,
            faults: vec![(kind, self.faults.len())],
            ..Minimum::default()
        };
        checker::check(&Evidence {
            publications,
            received: self.fixture.receiver.received(),
            emails: Vec::new(),
            store: StoreRecords::read(account).await?,
            subscribers: self.subscribers,
            faults: self.faults,
            healed,
            cluster_samples: Vec::new(),
            snapshots: Vec::new(),
            usage: Vec::new(),
            slow_flushes: Vec::new(),
            clocks_agree: true,
            manual_disables: Vec::new(),
            replays: Vec::new(),
            schedule: SCHEDULE,
            minimum: least,
        })
    }
}

/// Publishes from the start of an outage until an event is accepted. Every event before it must be
/// rejected promptly with a proper problem. Returns the length of the outage and all publications,
/// the accepted one last. The outcome of an event that was being committed when the outage began is
/// unknown.
async fn publish_until_accepted(
    account: &Account,
    round: usize,
) -> Result<(Duration, Vec<Publication>)> {
    let (began, mut publications) = (Instant::now(), Vec::new());
    for n in 0.. {
        ensure!(
            began.elapsed() <= RECOVERY_TIMEOUT,
            "no event was accepted within {RECOVERY_TIMEOUT:?} of the outage"
        );
        let (began_at, asked_at) = (Instant::now(), Timestamp::now());
        let payload = format!(r#"{{"round":{round},"asked":{n}}}"#);
        let response = account.try_publish(ORDER, &payload, None).await?;
        let took = began_at.elapsed();
        publications.push(Publication::answered(ORDER, &payload, asked_at, &response)?);
        if response.status == 202 {
            return Ok((began.elapsed(), publications));
        }
        response.problem(&[503, 504])?;
        ensure!(response.headers.contains_key("retry-after"), "{:?}", response.headers);
        ensure!(took <= REJECTED_WITHIN, "the event was rejected only after {took:?}");
        tokio::time::sleep(PUBLISH_EVERY).await;
    }
    unreachable!("the loop ends only by returning")
}

/// Waits until the last publication has arrived at every endpoint.
async fn wait_for_arrival(hooks: &[Hook], publications: &[Publication]) -> Result<()> {
    let last = publications.last().context("no event was accepted")?;
    let body = last.payloads[0].as_bytes();
    for hook in hooks {
        let there = async || {
            let received = hook.received();
            Ok(received.iter().any(|request| request.body == body).then_some(()))
        };
        let what = format!("the first event after the outage has arrived at {}", hook.path());
        wait::until(&what, RECOVERED_WITHIN, there).await?;
    }
    Ok(())
}

fn skipped(test: &str) -> Result<bool> {
    let skip_reason = foundationdb::skip_reason()?;
    if let Some(skip_reason) = skip_reason {
        eprintln!("skipped {test}: {skip_reason}");
    }
    Ok(skip_reason.is_some())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_event_is_lost_when_the_store_is_paused_for_half_a_minute() -> Result<()> {
    const AWAY: Duration = seconds(30);
    if skipped("no_event_is_lost_when_the_store_is_paused_for_half_a_minute")? {
        return Ok(());
    }
    let mut outage = Outage::prepare().await?;
    let (account, hooks) = (outage.fixture.account.clone(), outage.hooks.clone());
    let node = outage.fixture.node.api(None);
    let health = async {
        tokio::time::sleep(AWAY / 2).await;
        ensure!(
            node.get("/healthz").await?.status == 200,
            "the node is not healthy during the outage"
        );
        ensure!(node.get("/readyz").await?.status == 503, "the node is ready without its store");
        Ok(())
    };
    let (fault, (lasted, probes), ()) =
        tokio::try_join!(outage.server.pause(AWAY), publish_until_accepted(&account, 0), health)?;
    let back = lasted.saturating_sub(AWAY);
    ensure!(lasted >= AWAY, "an event was accepted after {lasted:?}, during the outage");
    ensure!(
        back <= RECOVERED_WITHIN,
        "the first event was accepted only {back:?} after the store came back"
    );
    wait_for_arrival(&hooks, &probes).await?;
    eprintln!("store paused for {AWAY:?}: events accepted again {back:?} after it came back");
    outage.faults.push(fault);
    outage.probes.extend(probes);
    outage.check().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_event_is_lost_when_the_store_is_killed_and_restarted() -> Result<()> {
    if skipped("no_event_is_lost_when_the_store_is_killed_and_restarted")? {
        return Ok(());
    }
    let mut outage = Outage::prepare().await?;
    for (round, away) in [0, 500, 8_000].map(millis).into_iter().enumerate() {
        let account = outage.fixture.account.clone();
        let (fault, (lasted, probes)) =
            tokio::try_join!(outage.server.crash(away), publish_until_accepted(&account, round))?;
        eprintln!(
            "store killed and restarted after {away:?}: events accepted again after {lasted:?}"
        );
        wait_for_arrival(&outage.hooks, &probes).await?;
        outage.faults.push(fault);
        outage.probes.extend(probes);
    }
    outage.check().await
}

/// A deployment that outgrows one machine continues where its embedded store left off.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_copied_to_foundationdb_resumes_its_deliveries() -> Result<()> {
    const HELD: usize = 200;
    if skipped("a_store_copied_to_foundationdb_resumes_its_deliveries")? {
        return Ok(());
    }
    let server = Server::start().await?;
    let mut fixture =
        Fixture::start(Config::short_retries().set("store", "kind", "embedded")).await?;
    let hook = fixture.hook("moved");
    let endpoint = fixture.endpoint(&hook).await?;
    fixture.account.disable(&endpoint.id).await?;
    let payloads: Vec<_> = (0..HELD).map(|n| format!(r#"{{"n":{n}}}"#)).collect();
    let events: Vec<_> = payloads.iter().map(|text| (ORDER, text.as_str())).collect();
    fixture.account.try_publish_batch(&events).await?.expect(202)?;
    fixture.node.stop().await?;

    let moved = Config::short_retries().in_foundationdb(&server.cluster_file());
    let moved = moved.smtp(fixture.mail.address());
    let subspace = moved
        .get("store", "subspace")
        .and_then(Value::as_str)
        .context("the config has no subspace")?;
    let (from, to) =
        (fixture.node.data_dir().to_string_lossy().into_owned(), server.cluster_file());
    let copy =
        ["store", "copy", "--from", &from, "--to", &to.to_string_lossy(), "--subspace", subspace];
    let copied = binary::run(&copy).await?;
    ensure!(copied.code == Some(0), "{copied:?}");

    fixture.node.reconfigure(|_| moved.clone());
    fixture.node.restart().await?;
    let held = fixture.account.endpoint(&endpoint.id).await?;
    ensure!((held.state.as_str(), held.held) == ("disabled", HELD as u64), "{held:?}");
    fixture.account.enable(&endpoint.id, "resume").await?;
    hook.wait_for(HELD, SOON).await?;
    let again = binary::run(&copy).await?;
    ensure!(again.code == Some(2), "copying into a subspace in use must fail: {again:?}");

    let directory = tempfile::tempdir()?;
    let file = directory.path().join("node.toml");
    fs::write(&file, moved.toml(fixture.node.data_dir(), fixture.node.port()))?;
    let checked = binary::run(&["store", "check", "--config", &file.to_string_lossy()]).await?;
    ensure!(checked.code == Some(0) && checked.output.ends_with("ok\n"), "{checked:?}");
    Ok(())
}

/// The configuration file of a node that uses `cluster_file`.
fn config_with(cluster_file: &Path, directory: &Path) -> Result<String> {
    let config = Config::new().in_foundationdb(cluster_file);
    Ok(config.toml(&directory.join("data"), Port::reserve()?.number()))
}

#[tokio::test]
async fn a_missing_or_invalid_cluster_file_is_rejected_with_advice() -> Result<()> {
    if skipped("a_missing_or_invalid_cluster_file_is_rejected_with_advice")? {
        return Ok(());
    }
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("fdb.cluster");
    let (toml, name) = (config_with(&file, directory.path())?, file.to_string_lossy());
    rejected(&toml, &[&name, "cannot be read", "cluster_file"]).await?;
    for garbage in ["", "nonsense\n", "a:b@\n", "a:b@127.0.0.1\n", "<html>\n<body>\n"] {
        fs::write(&file, garbage)?;
        rejected(&toml, &[&name, "is not a FoundationDB cluster file", "copy it unchanged"])
            .await?;
    }
    let closed_port = Port::reserve()?.address().to_string();
    fs::write(&file, "nobody:there\n")?;
    rejected(&toml, &[&name, &closed_port, "cannot be used", "fdbcli"]).await?;
    Ok(())
}

#[tokio::test]
async fn a_client_library_of_the_wrong_version_is_rejected_with_advice() -> Result<()> {
    if skipped("a_client_library_of_the_wrong_version_is_rejected_with_advice")? {
        return Ok(());
    }
    let directory = tempfile::tempdir()?;
    let own = foundationdb::chosen()?.context("no FoundationDB is configured")?;
    let toml = config_with(&own, directory.path())?;
    let library = old_library(directory.path())?;
    let environment = [("LD_LIBRARY_PATH", &*library.to_string_lossy())];
    let words = ["libfdb_c.so", "710", "730", "foundationdb-clients 7.3"];
    rejected_in(&environment, &toml, &words).await?;
    Ok(())
}

/// A directory with a `libfdb_c.so` that exports every function the node needs and claims to be
/// FoundationDB 7.1.
fn old_library(directory: &Path) -> Result<PathBuf> {
    let names =
        run(Command::new("nm").args(["--dynamic", "--undefined-only"]).arg(binary::path()?))?;
    let names = names.split_whitespace().filter(|word| word.starts_with("fdb_"));
    let names: BTreeSet<_> = names.collect();
    ensure!(!names.is_empty(), "the node imports no FoundationDB functions");
    let mut source = "void abort(void);\n".to_owned();
    for name in names {
        source += &match name {
            "fdb_get_max_api_version" => format!("int {name}(void) {{ return 710; }}\n"),
            // api_version_not_supported
            "fdb_select_api_version_impl" => format!("int {name}(void) {{ return 2203; }}\n"),
            "fdb_get_error" => format!("char *{name}(void) {{ return \"too old\"; }}\n"),
            _ => format!("void {name}(void) {{ abort(); }}\n"),
        };
    }
    let (file, library) = (directory.join("old.c"), directory.join("lib"));
    fs::write(&file, source)?;
    fs::create_dir(&library)?;
    let mut compile = Command::new("cc");
    compile.args(["-shared", "-fPIC", "-Wl,-soname,libfdb_c.so", "-o"]);
    run(compile.arg(library.join("libfdb_c.so")).arg(&file))?;
    Ok(library)
}

fn run(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("run {command:?}"))?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {stderr}");
    Ok(String::from_utf8(output.stdout)?)
}
