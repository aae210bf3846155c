//! FoundationDB under the nodes of a test: which server the environment names, and an fdbserver
//! of a test's own, which can be killed, frozen, and started again.
//!
//! `POSTRIDER_TEST_STORE=foundationdb` puts every node that says nothing of its store
//! ([`Config::stored`]) on the server that `FDB_CLUSTER_FILE` names, each test under a subspace of
//! its own. Stories of faults have a [`Server`] of their own. `fdbserver` and `fdbcli` must be in
//! PATH then, and `libfdb_c.so` where the nodes find it: `scripts/foundationdb run` sees to all
//! that.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use jiff::Timestamp;
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::binary;
use crate::config::Config;
use crate::fault::{Fault, Kind};
use crate::port::Port;
use crate::wait::seconds;

/// Names the store that nodes use which say nothing of it.
const CHOICE: &str = "POSTRIDER_TEST_STORE";
/// Names the server, as for every program that uses FoundationDB.
const CLUSTER_FILE: &str = "FDB_CLUSTER_FILE";
/// What a fault of the store has in place of a node's name.
pub const NAME: &str = "foundationdb";
/// How long a server may take until it answers; generous, since tests share the processors.
const ANSWERS_WITHIN: Duration = seconds(60);
/// How much of what a server said a test shows.
const LOG_LINES_SHOWN: usize = 10;

/// The cluster file of the server that the environment chose; none if the nodes use the embedded
/// store.
pub fn chosen() -> Result<Option<PathBuf>> {
    match std::env::var(CHOICE).as_deref() {
        Err(std::env::VarError::NotPresent) | Ok("embedded") => return Ok(None),
        Ok("foundationdb") => {}
        other => bail!("{CHOICE} is {other:?}, neither \"embedded\" nor \"foundationdb\""),
    }
    let file = std::env::var_os(CLUSTER_FILE).with_context(|| {
        format!(
            "{CHOICE} is foundationdb, and {CLUSTER_FILE} names no server: try \
                 `scripts/foundationdb run -- …`"
        )
    })?;
    Ok(Some(fs::canonicalize(&file).with_context(|| format!("{CLUSTER_FILE} is {file:?}"))?))
}

/// Why a test of FoundationDB alone is left out here, if it is.
pub fn obstacle() -> Result<Option<&'static str>> {
    Ok(chosen()?.is_none().then_some("the nodes use the embedded store"))
}

/// An fdbserver and its data. The process ends with this value.
#[derive(Debug)]
pub struct Server {
    process: Option<Child>,
    port: Port,
    files: TempDir,
}

impl Server {
    /// Starts an empty one on 127.0.0.1, and waits until it answers.
    pub async fn start() -> Result<Self> {
        Self::start_at(Ipv4Addr::LOCALHOST).await
    }

    /// The same at `host`, an address of this machine.
    pub async fn start_at(host: Ipv4Addr) -> Result<Self> {
        let files = tempfile::tempdir().context("make the fdbserver's directory")?;
        let port = Port::reserve_at(host)?;
        let mut server = Self { process: None, port, files };
        for directory in ["data", "logs"] {
            fs::create_dir(server.files.path().join(directory))?;
        }
        fs::write(server.cluster_file(), format!("postrider:tests@{}\n", server.address()))?;
        server.spawn()?;
        server.ask("configure new single ssd-2").await?;
        Ok(server)
    }

    /// One at `host`, if the environment chose FoundationDB.
    pub async fn start_if_chosen(host: Ipv4Addr) -> Result<Option<Self>> {
        match chosen()? {
            Some(_) => Self::start_at(host).await.map(Some),
            None => Ok(None),
        }
    }

    /// Where clients learn of it.
    #[must_use]
    pub fn cluster_file(&self) -> PathBuf {
        self.files.path().join("fdb.cluster")
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// SIGKILL, and the process is gone when this returns.
    pub async fn kill(&mut self) -> Result<()> {
        let mut process = self.process.take().context("the fdbserver does not run")?;
        process.kill().await.context("kill the fdbserver")
    }

    /// Starts it again, on the same data and at the same port, and waits until it answers.
    pub async fn restart(&mut self) -> Result<()> {
        self.spawn()?;
        self.answers().await
    }

    /// SIGSTOP: it does nothing more until it is resumed, and nobody's connection is closed.
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// SIGCONT.
    pub fn thaw(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// Waits until it answers again.
    pub async fn answers(&self) -> Result<()> {
        self.ask("getversion").await.map(drop)
    }

    /// Kills it, and starts it again after a while. The fault lasts until it answers.
    pub async fn crash(&mut self, away: Duration) -> Result<Fault> {
        let from = Timestamp::now();
        self.kill().await?;
        tokio::time::sleep(away).await;
        self.restart().await?;
        Ok(fault(Kind::StoreKill, from))
    }

    /// Freezes it for a while. The fault lasts until it answers.
    pub async fn pause(&mut self, lasting: Duration) -> Result<Fault> {
        let from = Timestamp::now();
        self.freeze()?;
        tokio::time::sleep(lasting).await;
        self.thaw()?;
        self.answers().await?;
        Ok(fault(Kind::StoreFreeze, from))
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        binary::signal(self.process.as_ref().context("the fdbserver does not run")?, signal)
    }

    fn spawn(&mut self) -> Result<()> {
        ensure!(self.process.is_none(), "the fdbserver runs already");
        let files = self.files.path();
        let log = File::options().create(true).append(true).open(self.log_path())?;
        let mut command = Command::new("fdbserver");
        command.arg("--cluster-file").arg(self.cluster_file());
        command.args(["--public-address", &self.address().to_string()]);
        command.args(["--listen-address", "public"]);
        command.arg("--datadir").arg(files.join("data")).arg("--logdir").arg(files.join("logs"));
        // Several run side by side.
        command.args(["--memory", "2GiB", "--cache-memory", "128MiB"]);
        command.args(["--storage-memory", "256MiB", "--maxlogssize", "64MiB"]);
        command.stdin(Stdio::null()).kill_on_drop(true);
        binary::redirect(&mut command, log)?;
        self.process = Some(command.spawn().context("start fdbserver, which must be in PATH")?);
        Ok(())
    }

    /// Has `fdbcli` execute a command as soon as the server answers, and gives what it said.
    async fn ask(&self, command: &str) -> Result<String> {
        let mut asking = Command::new("fdbcli");
        asking.arg("-C").arg(self.cluster_file());
        asking.args(["--no-status", "--timeout", &ANSWERS_WITHIN.as_secs().to_string()]);
        asking.args(["--exec", command]).stdin(Stdio::null()).kill_on_drop(true);
        let output = asking.output().await.context("run fdbcli, which must be in PATH")?;
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        ensure!(output.status.success(), "fdbcli, asked to {command}: {said}\n{}", self.log());
        Ok(said)
    }

    fn log_path(&self) -> PathBuf {
        self.files.path().join("fdbserver.log")
    }

    /// The end of what it has said.
    fn log(&self) -> String {
        let text = fs::read_to_string(self.log_path()).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
    }
}

impl Config {
    /// Keeps the node's records in FoundationDB, under a subspace that nobody else has.
    #[must_use]
    pub fn in_foundationdb(self, cluster_file: &Path) -> Self {
        let subspace = format!("test-{:032x}", rand::random::<u128>());
        self.set("store", "kind", "foundationdb")
            .set("store", "cluster_file", cluster_file.to_string_lossy().as_ref())
            .set("store", "subspace", subspace)
    }

    /// Keeps the node's records on `server`, if there is one.
    #[must_use]
    pub fn over(self, server: Option<&Server>) -> Self {
        match server {
            Some(server) => self.in_foundationdb(&server.cluster_file()),
            None => self,
        }
    }

    /// Keeps the node's records where the environment chose, unless that is said already.
    pub fn stored(self) -> Result<Self> {
        Ok(match chosen()? {
            Some(file) if !self.says_of("store") => self.in_foundationdb(&file),
            _ => self,
        })
    }

    /// Whether the nodes of this configuration share a store without sharing a disk.
    #[must_use]
    pub fn is_in_foundationdb(&self) -> bool {
        self.get("store", "kind").is_some_and(|kind| kind == "foundationdb")
    }
}

fn fault(kind: Kind, from: Timestamp) -> Fault {
    Fault { kind, node: NAME.to_owned(), from, to: Timestamp::now() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_test_has_a_subspace_and_its_nodes_share_it() -> Result<()> {
        let chosen = || Config::new().in_foundationdb(Path::new("/fdb.cluster"));
        let (one, other) = (chosen(), chosen());
        assert!(one.is_in_foundationdb() && !Config::new().is_in_foundationdb());
        let subspace = |config: &Config| config.get("store", "subspace").cloned();
        assert_ne!(subspace(&one), subspace(&other));
        assert_eq!(subspace(&one.clone().stored()?), subspace(&one));
        Ok(())
    }

    #[tokio::test]
    async fn a_server_of_ones_own_is_killed_and_comes_back() -> Result<()> {
        if let Some(obstacle) = obstacle()? {
            eprintln!("left out: a_server_of_ones_own_is_killed_and_comes_back, since {obstacle}");
            return Ok(());
        }
        let mut server = Server::start().await?;
        server.ask("writemode on; set kept here").await?;
        server.crash(Duration::ZERO).await?;
        server.pause(seconds(1)).await?;
        let said = server.ask("get kept").await?;
        assert!(said.contains("here"), "{said}");
        Ok(())
    }
}
