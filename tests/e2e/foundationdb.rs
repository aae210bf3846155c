//! What only FoundationDB can do to a node: be away, while the node lives; and be set up wrongly.
//!
//! Each test has an fdbserver of its own. Where the nodes use the embedded store, nothing of this
//! can happen, and these tests say so.

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
use postrider_tests::evidence::{Evidence, Least, StoreRecords, Subscriber};
use postrider_tests::fault::Fault;
use postrider_tests::foundationdb::{self, Server};
use postrider_tests::load::{Load, Publication};
use postrider_tests::port::Port;
use postrider_tests::receiver::{Behaviour, Hook};
use postrider_tests::scene::{ORDER, Scene};
use postrider_tests::schedule::Schedule;
use postrider_tests::wait::{self, millis, seconds};
use serde_json::Value;
use tokio::time::Instant;

use crate::SOON;
use crate::start_up::{refused, refused_in};

/// How soon a publisher must be told that nothing is accepted.
const TOLD_WITHIN: Duration = seconds(2);
/// How soon events are accepted and delivered again, once the store is back.
const BACK_WITHIN: Duration = seconds(10);
/// After so long, however long it was away, it does not come back at all.
const NOT_BACK: Duration = seconds(60);
/// What it rests between two questions whether events are accepted.
const ASKED_EVERY: Duration = millis(200);
const SETTLED_WITHIN: Duration = seconds(60);
/// The attempts of [`Config::impatient`].
const SCHEDULE: Schedule =
    Schedule { max_retries: 3, window: seconds(6), factor: 2.5, jitter: 0.2, timeout: seconds(1) };
/// What each worker of the load rests, so that the strict endpoint keeps up.
const PAUSE: Duration = millis(200);
/// Events of the load that arrive before the first fault and after the last one, at least.
const BEFORE: usize = 50;
const AFTERWARDS: usize = 100;
/// Decides what the load does.
const SEED: u64 = 1;

/// A node under load on a server of its own.
struct Outage {
    server: Server,
    scene: Scene,
    hooks: Vec<Hook>,
    subscribers: Vec<Subscriber>,
    load: Load,
    faults: Vec<Fault>,
    /// What was asked during each fault and after it, beside the load.
    after: Vec<Publication>,
}

impl Outage {
    async fn prepare() -> Result<Self> {
        let server = Server::start().await?;
        let config = Config::impatient().in_foundationdb(&server.cluster_file());
        let scene = Scene::start(config).await?;
        let behaviours = [
            ("healthy", Behaviour::default()),
            ("strict", Behaviour::default()),
            ("flaky", Behaviour::fail_first(1, 500)),
        ];
        let (mut hooks, mut subscribers) = (Vec::new(), Vec::new());
        for (name, behaviour) in behaviours {
            let hook = scene.hook(name);
            hook.behave(behaviour);
            let new = NewEndpoint::at(&hook.url());
            let new = if name == "strict" { new.strict() } else { new };
            let endpoint = scene.account.create(&new).await?;
            subscribers.push(Subscriber::new(&endpoint, &hook));
            hooks.push(hook);
        }
        let load = Load::over(vec![scene.account.clone()], ORDER, SEED, PAUSE);
        hooks[0].wait_for(BEFORE, SOON).await?;
        Ok(Self { server, scene, hooks, subscribers, load, faults: Vec::new(), after: Vec::new() })
    }

    /// Lets the load go on for a while, waits until all is settled, and checks the invariants.
    async fn judge(self) -> Result<()> {
        let healed = Timestamp::now();
        let so_far = self.hooks[0].received().len();
        self.hooks[0].wait_for(so_far + AFTERWARDS, SOON).await?;
        let mut publications = self.load.stop().await?;
        let account = &self.scene.account;
        let settled = async || {
            let endpoints = account.list::<Endpoint>("/endpoints?").await?;
            Ok(endpoints.iter().all(|endpoint| endpoint.pending == 0).then_some(()))
        };
        wait::until("everything is settled", SETTLED_WITHIN, settled).await?;
        publications.extend(self.after);
        let kind = self.faults.first().context("a fault")?.kind;
        let least = Least {
            events: BEFORE + AFTERWARDS,
            faults: vec![(kind, self.faults.len())],
            ..Least::default()
        };
        checker::check(&Evidence {
            publications,
            received: self.scene.receiver.received(),
            mails: Vec::new(),
            store: StoreRecords::read(account).await?,
            subscribers: self.subscribers,
            faults: self.faults,
            healed,
            sightings: Vec::new(),
            glimpses: Vec::new(),
            vitals: Vec::new(),
            slow_flushes: Vec::new(),
            one_clock: true,
            pauses: Vec::new(),
            replays: Vec::new(),
            schedule: SCHEDULE,
            least,
        })
    }
}

/// Publishes from the moment on at which the store goes away: each event is refused at once and in
/// good order, until one is accepted. Gives how long that took, and all that was asked, the accepted
/// one last. Of what was being committed at that moment, nobody knows.
async fn refused_until_back(
    account: &Account,
    round: usize,
) -> Result<(Duration, Vec<Publication>)> {
    let (began, mut asked_for) = (Instant::now(), Vec::new());
    for n in 0.. {
        ensure!(began.elapsed() <= NOT_BACK, "it does not come back");
        let (asked, when) = (Instant::now(), Timestamp::now());
        let payload = format!(r#"{{"round":{round},"asked":{n}}}"#);
        let answer = account.try_publish(ORDER, &payload, None).await?;
        let took = asked.elapsed();
        asked_for.push(Publication::answered(ORDER, &payload, when, &answer)?);
        if answer.status == 202 {
            return Ok((began.elapsed(), asked_for));
        }
        answer.problem(&[503, 504])?;
        ensure!(answer.headers.contains_key("retry-after"), "{:?}", answer.headers);
        ensure!(took <= TOLD_WITHIN, "refused after {took:?}");
        tokio::time::sleep(ASKED_EVERY).await;
    }
    unreachable!("it asks for ever")
}

/// Waits until the last event has arrived everywhere.
async fn arrived(hooks: &[Hook], publications: &[Publication]) -> Result<()> {
    let last = publications.last().context("one was accepted")?;
    let body = last.payloads[0].as_bytes();
    for hook in hooks {
        let there = async || {
            let received = hook.received();
            Ok(received.iter().any(|request| request.body == body).then_some(()))
        };
        let what = format!("the first event after the outage has arrived at {}", hook.path());
        wait::until(&what, BACK_WITHIN, there).await?;
    }
    Ok(())
}

fn left_out(test: &str) -> Result<bool> {
    let obstacle = foundationdb::obstacle()?;
    if let Some(obstacle) = obstacle {
        eprintln!("left out: {test}, since {obstacle}");
    }
    Ok(obstacle.is_some())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_away_for_half_a_minute_costs_no_event() -> Result<()> {
    const AWAY: Duration = seconds(30);
    if left_out("a_store_that_is_away_for_half_a_minute_costs_no_event")? {
        return Ok(());
    }
    let mut outage = Outage::prepare().await?;
    let (account, hooks) = (outage.scene.account.clone(), outage.hooks.clone());
    let node = outage.scene.node.api(None);
    let looking = async {
        tokio::time::sleep(AWAY / 2).await;
        ensure!(node.get("/healthz").await?.status == 200, "the node does not live");
        ensure!(node.get("/readyz").await?.status == 503, "a node without a store is ready");
        Ok(())
    };
    let (fault, (lasted, after), ()) =
        tokio::try_join!(outage.server.pause(AWAY), refused_until_back(&account, 0), looking)?;
    let back = lasted.saturating_sub(AWAY);
    ensure!(lasted >= AWAY, "accepted after {lasted:?}, while the store was away");
    ensure!(back <= BACK_WITHIN, "accepted {back:?} after the store had returned");
    arrived(&hooks, &after).await?;
    eprintln!("paused for {AWAY:?}: accepted again {back:?} after its return");
    outage.faults.push(fault);
    outage.after.extend(after);
    outage.judge().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_killed_and_restarted_costs_no_event() -> Result<()> {
    if left_out("a_store_that_is_killed_and_restarted_costs_no_event")? {
        return Ok(());
    }
    let mut outage = Outage::prepare().await?;
    for (round, away) in [0, 500, 8_000].map(millis).into_iter().enumerate() {
        let account = outage.scene.account.clone();
        let (fault, (lasted, after)) =
            tokio::try_join!(outage.server.crash(away), refused_until_back(&account, round))?;
        eprintln!("killed, and started again after {away:?}: accepted again after {lasted:?}");
        arrived(&outage.hooks, &after).await?;
        outage.faults.push(fault);
        outage.after.extend(after);
    }
    outage.judge().await
}

/// Whoever outgrows one machine goes on where the embedded store was left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_copied_goes_on_in_foundationdb() -> Result<()> {
    const HELD: usize = 200;
    if left_out("a_store_that_is_copied_goes_on_in_foundationdb")? {
        return Ok(());
    }
    let server = Server::start().await?;
    let mut scene = Scene::start(Config::impatient().set("store", "kind", "embedded")).await?;
    let hook = scene.hook("moved");
    let endpoint = scene.endpoint(&hook).await?;
    scene.account.disable(&endpoint.id).await?;
    let payloads: Vec<_> = (0..HELD).map(|n| format!(r#"{{"n":{n}}}"#)).collect();
    let events: Vec<_> = payloads.iter().map(|text| (ORDER, text.as_str())).collect();
    scene.account.try_publish_batch(&events).await?.expect(202)?;
    scene.node.stop().await?;

    let moved = Config::impatient().in_foundationdb(&server.cluster_file());
    let moved = moved.smtp(scene.mail.address());
    let subspace = moved.get("store", "subspace").and_then(Value::as_str).context("a name")?;
    let (from, to) = (scene.node.data_dir().to_string_lossy().into_owned(), server.cluster_file());
    let copy =
        ["store", "copy", "--from", &from, "--to", &to.to_string_lossy(), "--subspace", subspace];
    let copied = binary::run(&copy).await?;
    ensure!(copied.code == Some(0), "{copied:?}");

    scene.node.reconfigure(|_| moved.clone());
    scene.node.restart().await?;
    let held = scene.account.endpoint(&endpoint.id).await?;
    ensure!((held.state.as_str(), held.held) == ("disabled", HELD as u64), "{held:?}");
    scene.account.enable(&endpoint.id, "resume").await?;
    hook.wait_for(HELD, SOON).await?;
    let again = binary::run(&copy).await?;
    ensure!(again.code == Some(2), "a copy onto what is in use: {again:?}");

    let directory = tempfile::tempdir()?;
    let file = directory.path().join("node.toml");
    fs::write(&file, moved.toml(scene.node.data_dir(), scene.node.port()))?;
    let checked = binary::run(&["store", "check", "--config", &file.to_string_lossy()]).await?;
    ensure!(checked.code == Some(0) && checked.output.ends_with("ok\n"), "{checked:?}");
    Ok(())
}

/// The configuration file of a node that is told of FoundationDB by `cluster_file`.
fn told_by(cluster_file: &Path, directory: &Path) -> Result<String> {
    let config = Config::new().in_foundationdb(cluster_file);
    Ok(config.toml(&directory.join("data"), Port::reserve()?.number()))
}

#[tokio::test]
async fn a_cluster_file_that_is_missing_or_wrong_is_refused_with_what_to_do() -> Result<()> {
    if left_out("a_cluster_file_that_is_missing_or_wrong_is_refused_with_what_to_do")? {
        return Ok(());
    }
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("fdb.cluster");
    let (toml, name) = (told_by(&file, directory.path())?, file.to_string_lossy());
    refused(&toml, &[&name, "cannot be read", "cluster_file"]).await?;
    for garbage in ["", "nonsense\n", "a:b@\n", "a:b@127.0.0.1\n", "<html>\n<body>\n"] {
        fs::write(&file, garbage)?;
        refused(&toml, &[&name, "is no FoundationDB cluster file", "copy the one"]).await?;
    }
    let nobody = Port::reserve()?.address().to_string();
    fs::write(&file, format!("nobody:there@{nobody}\n"))?;
    refused(&toml, &[&name, &nobody, "cannot be used", "fdbcli"]).await?;
    Ok(())
}

#[tokio::test]
async fn a_client_library_of_the_wrong_version_is_refused_with_what_to_do() -> Result<()> {
    if left_out("a_client_library_of_the_wrong_version_is_refused_with_what_to_do")? {
        return Ok(());
    }
    let directory = tempfile::tempdir()?;
    let own = foundationdb::chosen()?.context("it was there")?;
    let toml = told_by(&own, directory.path())?;
    let library = old_library(directory.path())?;
    let environment = [("LD_LIBRARY_PATH", &*library.to_string_lossy())];
    let words = ["libfdb_c.so", "710", "730", "foundationdb-clients 7.3"];
    refused_in(&environment, &toml, &words).await?;
    Ok(())
}

/// A directory with a `libfdb_c.so` that has every function which the node needs, and says that it is
/// of FoundationDB 7.1.
fn old_library(directory: &Path) -> Result<PathBuf> {
    let names =
        run(Command::new("nm").args(["--dynamic", "--undefined-only"]).arg(binary::path()?))?;
    let names = names.split_whitespace().filter(|word| word.starts_with("fdb_"));
    let names: BTreeSet<_> = names.collect();
    ensure!(!names.is_empty(), "the node needs nothing of FoundationDB");
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
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {said}");
    Ok(String::from_utf8(output.stdout)?)
}
