//! A real `postrider` process that can be started, polled for readiness, stopped, killed, and
//! restarted on the same data directory.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::binary;
use crate::client::Api;
use crate::cluster::clock::Clock;
use crate::config::Config;
use crate::port::Port;
use crate::wait::seconds;

/// Start-up deadline; generous because tests share the processors.
const READY_WITHIN: Duration = seconds(20);
/// Shutdown deadline: 5 s for requests in flight, and the rest of the shutdown.
const STOPPED_WITHIN: Duration = seconds(15);
/// The environment variable with the operator key.
pub const OPERATOR_KEY: &str = "POSTRIDER_OPERATOR_KEY";
/// The number of log lines shown for a failed test.
const LOG_LINES_SHOWN: usize = 60;

/// A node and its data directory. The process is killed on drop.
#[derive(Debug)]
pub struct Node {
    config: Config,
    files: Files,
    address: Address,
    launcher: Vec<String>,
    /// The binary of the next start, if it is not the default one.
    binary: Option<PathBuf>,
    process: Option<Child>,
    /// Stopped gracefully and not started since.
    stopped_cleanly: bool,
}

/// The address of a node's API.
#[derive(Debug)]
enum Address {
    /// A reserved port on this machine.
    Reserved(Port),
    /// In a network namespace, where no other process takes a port.
    Namespace(SocketAddr),
}

#[derive(Debug)]
struct Files {
    /// Contains the configuration file and the log.
    directory: TempDir,
    data: PathBuf,
}

impl Node {
    /// Starts a node in a new directory and waits until it is ready.
    pub async fn start(config: Config) -> Result<Self> {
        let mut node = Self::prepare(config)?;
        node.restart().await?;
        Ok(node)
    }

    /// Prepares a node without starting it.
    pub fn prepare(config: Config) -> Result<Self> {
        let directory = tempfile::tempdir().context("create the node's directory")?;
        let data = directory.path().join("data");
        Self::prepare_in(config, directory, data, Address::Reserved(Port::reserve()?))
    }

    /// Prepares a node with its data in `data`, without starting it.
    pub fn prepare_at(config: Config, data: &Path) -> Result<Self> {
        let directory = tempfile::tempdir().context("create the node's directory")?;
        Self::prepare_in(config, directory, data.to_owned(), Address::Reserved(Port::reserve()?))
    }

    /// Prepares a node with its data in `data` and its API at `listen`, in the network namespace it
    /// is launched into, without starting it.
    pub fn prepare_in_namespaces(config: Config, data: &Path, listen: SocketAddr) -> Result<Self> {
        let directory = tempfile::tempdir().context("create the node's directory")?;
        Self::prepare_in(config, directory, data.to_owned(), Address::Namespace(listen))
    }

    fn prepare_in(
        config: Config,
        directory: TempDir,
        data: PathBuf,
        address: Address,
    ) -> Result<Self> {
        let (config, files) = (config.with_selected_store()?, Files { directory, data });
        Ok(Self {
            config,
            files,
            address,
            launcher: Vec::new(),
            binary: None,
            process: None,
            stopped_cleanly: false,
        })
    }

    /// Prefixes the binary with a launcher, which must exec its arguments in its own process.
    #[must_use]
    pub fn launched_by<W: AsRef<str>>(mut self, launcher: &[W]) -> Self {
        self.launcher = launcher.iter().map(|word| word.as_ref().to_owned()).collect();
        self
    }

    /// Changes the configuration from the next start on.
    pub fn reconfigure(&mut self, change: impl FnOnce(Config) -> Config) {
        self.config = change(self.config.clone());
    }

    /// Makes the node run another binary from the next start on.
    pub fn use_binary(&mut self, binary: &Path) {
        self.binary = Some(binary.to_owned());
    }

    /// Makes the node use `clock` from the next start on.
    pub fn use_clock(&mut self, clock: &Clock) -> Result<()> {
        self.config = clock.apply_to(self.config.clone())?;
        Ok(())
    }

    /// Starts the process on the existing data and waits until it is ready.
    pub async fn restart(&mut self) -> Result<()> {
        self.spawn()?;
        self.ready().await
    }

    /// Starts the process without waiting for it.
    pub fn spawn(&mut self) -> Result<()> {
        ensure!(self.process.is_none(), "the node is already running");
        let mut command = self.command()?;
        let log = File::options().create(true).append(true).open(self.log_path())?;
        binary::redirect(&mut command, log)?;
        command.kill_on_drop(true);
        self.process = Some(command.spawn().context("start the node")?);
        self.stopped_cleanly = false;
        Ok(())
    }

    /// Waits until the node reports that it is ready.
    pub async fn ready(&mut self) -> Result<()> {
        let (api, deadline) = (self.api(None), tokio::time::Instant::now() + READY_WITHIN);
        loop {
            let process = self.process.as_mut().context("the node was not started")?;
            if let Some(status) = process.try_wait()? {
                self.process = None;
                bail!("the node exited with {status} before it was ready:\n{}", self.log());
            }
            // Connections are refused until the node listens.
            if api.get("/readyz").await.is_ok_and(|answer| answer.status == 200) {
                return Ok(());
            }
            if tokio::time::Instant::now() > deadline {
                bail!("the node was not ready within {READY_WITHIN:?}:\n{}", self.log());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// SIGKILL, and waits until the process has exited.
    pub async fn kill(&mut self) -> Result<()> {
        let mut process = self.process.take().context("the node is not running")?;
        process.kill().await.context("kill the node")
    }

    /// SIGKILL, without waiting until the process has exited.
    pub fn send_sigkill(&mut self) -> Result<()> {
        self.process.as_mut().context("the node is not running")?.start_kill().context("kill")
    }

    /// SIGTERM.
    pub fn terminate(&self) -> Result<()> {
        binary::terminate(self.process.as_ref().context("the node is not running")?)
    }

    /// SIGSTOP.
    pub fn freeze(&self) -> Result<()> {
        binary::signal(self.process.as_ref().context("the node is not running")?, Signal::STOP)
    }

    /// SIGCONT. Returns false if the process has exited.
    pub fn thaw(&mut self) -> Result<bool> {
        let process = self.process.as_mut().context("the node is not running")?;
        if process.try_wait()?.is_some() {
            self.process = None;
            return Ok(false);
        }
        binary::signal(process, Signal::CONT)?;
        Ok(true)
    }

    /// Waits until the process exits.
    pub async fn ended(&mut self) -> Result<ExitStatus> {
        let mut process = self.process.take().context("the node is not running")?;
        let Ok(status) = tokio::time::timeout(STOPPED_WITHIN, process.wait()).await else {
            bail!("the node did not exit within {STOPPED_WITHIN:?}:\n{}", self.log());
        };
        status.context("wait for the node")
    }

    /// SIGTERM: the node must drain and exit with 0.
    pub async fn stop(&mut self) -> Result<()> {
        self.terminate()?;
        let status = self.ended().await?;
        let (code, signal) = (status.code(), status.signal());
        ensure!(
            code == Some(0),
            "the node exited with code {code:?}, signal {signal:?}:\n{}",
            self.log()
        );
        self.stopped_cleanly = true;
        Ok(())
    }

    /// The API, called with `key`.
    #[must_use]
    pub fn api(&self, key: Option<&str>) -> Api {
        Api::new(&format!("http://{}", self.address()), key)
    }

    /// The API, called with the operator key.
    pub fn operator_api(&self) -> Result<Api> {
        Ok(self.api(Some(&self.operator_key()?)))
    }

    /// The operator key: configured, or generated by the node at its first start.
    pub fn operator_key(&self) -> Result<String> {
        if let Some((_, configured)) =
            self.config.environment().find(|(name, _)| *name == OPERATOR_KEY)
        {
            return Ok(configured.to_owned());
        }
        let path = self.files.data.join("operator.key");
        let key = fs::read_to_string(&path)
            .with_context(|| format!("read the operator key from {}", path.display()))?;
        Ok(key.trim().to_owned())
    }

    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.files.data
    }

    #[must_use]
    pub fn address(&self) -> SocketAddr {
        match &self.address {
            Address::Reserved(port) => port.address(),
            Address::Namespace(address) => *address,
        }
    }

    #[must_use]
    pub fn port(&self) -> u16 {
        self.address().port()
    }

    /// The process id, while the node is running.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().and_then(Child::id)
    }

    /// The last lines of the log.
    #[must_use]
    pub fn log(&self) -> String {
        let text = fs::read(self.log_path()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
    }

    fn log_path(&self) -> PathBuf {
        self.files.directory.path().join("node.log")
    }

    fn command(&self) -> Result<Command> {
        let file = self.files.directory.path().join("node.toml");
        fs::write(&file, self.config.toml_at(&self.files.data, self.address()))?;
        let binary = match &self.binary {
            Some(binary) => binary.clone(),
            None => binary::path()?,
        };
        let mut command = binary::command(&self.launcher, &binary)?;
        command.arg("serve").arg("--config").arg(&file);
        command.current_dir(self.files.directory.path()).envs(self.config.environment());
        Ok(command)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if self.stopped_cleanly {
            return;
        }
        // Test runners show this only for failed tests.
        eprintln!("--- last log lines of the node at {}:\n{}\n---", self.address(), self.log());
    }
}
