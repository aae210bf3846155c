//! FoundationDB for the nodes of a test: the server named by the environment, or a dedicated
//! fdbserver that can be killed, frozen and restarted.
//!
//! With `POSTRIDER_TEST_STORE=foundationdb`, every node without a configured store
//! ([`Config::with_selected_store`]) uses the server in `FDB_CLUSTER_FILE`, each test under its own
//! subspace. Fault tests start a dedicated [`Server`]. `fdbserver` and `fdbcli` must be in PATH,
//! and `libfdb_c.so` where the nodes find it: `scripts/foundationdb run` sets all this up.

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

/// Selects the store of nodes without a configured store.
const CHOICE: &str = "POSTRIDER_TEST_STORE";
/// FoundationDB's variable for the cluster file.
const CLUSTER_FILE: &str = "FDB_CLUSTER_FILE";
/// The node name in faults of the store.
pub const NAME: &str = "foundationdb";
/// Response deadline; generous because tests share the processors.
const ANSWERS_WITHIN: Duration = seconds(60);
/// The number of log lines shown in errors.
const LOG_LINES_SHOWN: usize = 10;

/// The cluster file of the selected server; `None` if the nodes use the embedded store.
pub fn chosen() -> Result<Option<PathBuf>> {
    match std::env::var(CHOICE).as_deref() {
        Err(std::env::VarError::NotPresent) | Ok("embedded") => return Ok(None),
        Ok("foundationdb") => {}
        other => bail!("{CHOICE} is {other:?}; it must be \"embedded\" or \"foundationdb\""),
    }
    let file = std::env::var_os(CLUSTER_FILE).with_context(|| {
        format!(
            "{CHOICE} is foundationdb, but {CLUSTER_FILE} is not set: use \
                 `scripts/foundationdb run -- …`"
        )
    })?;
    Ok(Some(fs::canonicalize(&file).with_context(|| format!("{CLUSTER_FILE} is {file:?}"))?))
}

/// The reason to skip a test that needs FoundationDB, if any.
pub fn skip_reason() -> Result<Option<&'static str>> {
    Ok(chosen()?.is_none().then_some("the nodes use the embedded store"))
}

/// An fdbserver and its data. The process is killed on drop.
#[derive(Debug)]
pub struct Server {
    process: Option<Child>,
    port: Port,
    files: TempDir,
}

impl Server {
    /// Starts an empty server on 127.0.0.1 and waits until it responds.
    pub async fn start() -> Result<Self> {
        Self::start_at(Ipv4Addr::LOCALHOST).await
    }

    /// Like [`Self::start`], at `host`, an address of this machine.
    pub async fn start_at(host: Ipv4Addr) -> Result<Self> {
        let files = tempfile::tempdir().context("create the fdbserver's directory")?;
        let port = Port::reserve_at(host)?;
        let mut server = Self { process: None, port, files };
        for directory in ["data", "logs"] {
            fs::create_dir(server.files.path().join(directory))?;
        }
        fs::write(server.cluster_file(), format!("postrider:tests@{}\n", server.address()))?;
        server.spawn()?;
        server.cli("configure new single ssd-2").await?;
        Ok(server)
    }

    /// Starts a server at `host` if the environment selects FoundationDB.
    pub async fn start_if_chosen(host: Ipv4Addr) -> Result<Option<Self>> {
        match chosen()? {
            Some(_) => Self::start_at(host).await.map(Some),
            None => Ok(None),
        }
    }

    /// The cluster file for clients.
    #[must_use]
    pub fn cluster_file(&self) -> PathBuf {
        self.files.path().join("fdb.cluster")
    }

    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// SIGKILL, and waits until the process has exited.
    pub async fn kill(&mut self) -> Result<()> {
        let mut process = self.process.take().context("the fdbserver is not running")?;
        process.kill().await.context("kill the fdbserver")
    }

    /// Restarts the server on the same data and port, and waits until it responds.
    pub async fn restart(&mut self) -> Result<()> {
        self.spawn()?;
        self.answers().await
    }

    /// SIGSTOP: connections stay open.
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// SIGCONT.
    pub fn thaw(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// Waits until the server responds.
    pub async fn answers(&self) -> Result<()> {
        self.cli("getversion").await.map(drop)
    }

    /// Kills the server and restarts it after `downtime`. The fault lasts until it responds.
    pub async fn crash(&mut self, downtime: Duration) -> Result<Fault> {
        let from = Timestamp::now();
        self.kill().await?;
        tokio::time::sleep(downtime).await;
        self.restart().await?;
        Ok(fault(Kind::StoreKill, from))
    }

    /// Freezes the server. The fault lasts until it responds.
    pub async fn pause(&mut self, duration: Duration) -> Result<Fault> {
        let from = Timestamp::now();
        self.freeze()?;
        tokio::time::sleep(duration).await;
        self.thaw()?;
        self.answers().await?;
        Ok(fault(Kind::StoreFreeze, from))
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        binary::signal(self.process.as_ref().context("the fdbserver is not running")?, signal)
    }

    fn spawn(&mut self) -> Result<()> {
        ensure!(self.process.is_none(), "the fdbserver is already running");
        let files = self.files.path();
        let log = File::options().create(true).append(true).open(self.log_path())?;
        let mut command = Command::new("fdbserver");
        command.arg("--cluster-file").arg(self.cluster_file());
        command.args(["--public-address", &self.address().to_string()]);
        command.args(["--listen-address", "public"]);
        command.arg("--datadir").arg(files.join("data")).arg("--logdir").arg(files.join("logs"));
        // Several servers run at once.
        command.args(["--memory", "2GiB", "--cache-memory", "128MiB"]);
        command.args(["--storage-memory", "256MiB", "--maxlogssize", "64MiB"]);
        command.stdin(Stdio::null()).kill_on_drop(true);
        binary::redirect(&mut command, log)?;
        self.process = Some(command.spawn().context("start fdbserver (is it in PATH?)")?);
        Ok(())
    }

    /// Runs an `fdbcli` command once the server responds, and returns its output.
    async fn cli(&self, command: &str) -> Result<String> {
        let mut cli = Command::new("fdbcli");
        cli.arg("-C").arg(self.cluster_file());
        cli.args(["--no-status", "--timeout", &ANSWERS_WITHIN.as_secs().to_string()]);
        cli.args(["--exec", command]).stdin(Stdio::null()).kill_on_drop(true);
        let output = cli.output().await.context("run fdbcli (is it in PATH?)")?;
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        ensure!(output.status.success(), "fdbcli failed at {command:?}: {text}\n{}", self.log());
        Ok(text)
    }

    fn log_path(&self) -> PathBuf {
        self.files.path().join("fdbserver.log")
    }

    /// The last lines of the server's output.
    fn log(&self) -> String {
        let text = fs::read_to_string(self.log_path()).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
    }
}

impl Config {
    /// Stores the node's records in FoundationDB, under a unique subspace.
    #[must_use]
    pub fn in_foundationdb(self, cluster_file: &Path) -> Self {
        let subspace = format!("test-{:032x}", rand::random::<u128>());
        self.set("store", "kind", "foundationdb")
            .set("store", "cluster_file", cluster_file.to_string_lossy().as_ref())
            .set("store", "subspace", subspace)
    }

    /// Stores the node's records on `server`, if any.
    #[must_use]
    pub fn on_store_server(self, server: Option<&Server>) -> Self {
        match server {
            Some(server) => self.in_foundationdb(&server.cluster_file()),
            None => self,
        }
    }

    /// Uses the store selected by the environment, unless the configuration has one.
    pub fn with_selected_store(self) -> Result<Self> {
        Ok(match chosen()? {
            Some(file) if !self.has_section("store") => self.in_foundationdb(&file),
            _ => self,
        })
    }

    /// Whether the nodes use FoundationDB.
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
        assert_eq!(subspace(&one.clone().with_selected_store()?), subspace(&one));
        Ok(())
    }

    #[tokio::test]
    async fn a_dedicated_server_keeps_its_data_across_a_crash() -> Result<()> {
        if let Some(skip_reason) = skip_reason()? {
            eprintln!("skipped a_dedicated_server_keeps_its_data_across_a_crash: {skip_reason}");
            return Ok(());
        }
        let mut server = Server::start().await?;
        server.cli("writemode on; set kept here").await?;
        server.crash(Duration::ZERO).await?;
        server.pause(seconds(1)).await?;
        let output = server.cli("get kept").await?;
        assert!(output.contains("here"), "{output}");
        Ok(())
    }
}
