//! A real `postrider` process: started, asked whether it is ready, stopped, killed, and
//! started again on the same data directory.

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

/// How long a node may take until it is ready; generous, since tests share the processors.
const READY_WITHIN: Duration = seconds(20);
/// How long a node may take to drain: 5 s for what is in flight, and its own work.
const STOPPED_WITHIN: Duration = seconds(15);
/// The variable that gives a node its operator's key.
pub const OPERATOR_KEY: &str = "POSTRIDER_OPERATOR_KEY";
/// How much of a node's log a test shows.
const LOG_LINES_SHOWN: usize = 60;

/// A node and its data directory. The process ends with this value.
#[derive(Debug)]
pub struct Node {
    config: Config,
    home: Home,
    place: Place,
    launcher: Vec<String>,
    process: Option<Child>,
    /// Stopped in good order, and not started since.
    left_well: bool,
}

/// Where a node's API listens.
#[derive(Debug)]
enum Place {
    /// On this machine, at a port that is kept for it.
    Here(Port),
    /// In a network of its own, where nobody else takes a port.
    Apart(SocketAddr),
}

/// Where a node's files lie.
#[derive(Debug)]
struct Home {
    /// The configuration file and the log.
    files: TempDir,
    data: PathBuf,
}

impl Node {
    /// Starts a node in a directory of its own and waits until it is ready.
    pub async fn start(config: Config) -> Result<Self> {
        let mut node = Self::prepare(config)?;
        node.restart().await?;
        Ok(node)
    }

    /// A node that is not yet started.
    pub fn prepare(config: Config) -> Result<Self> {
        let files = tempfile::tempdir().context("make the node's directory")?;
        let data = files.path().join("data");
        Self::prepare_in(config, files, data, Place::Here(Port::reserve()?))
    }

    /// A node, not yet started, that keeps its data in `data`.
    pub fn prepare_at(config: Config, data: &Path) -> Result<Self> {
        let files = tempfile::tempdir().context("make the node's directory")?;
        Self::prepare_in(config, files, data.to_owned(), Place::Here(Port::reserve()?))
    }

    /// A node, not yet started, that keeps its data in `data` and whose API listens at
    /// `listen`, in a network that it is launched into.
    pub fn prepare_apart(config: Config, data: &Path, listen: SocketAddr) -> Result<Self> {
        let files = tempfile::tempdir().context("make the node's directory")?;
        Self::prepare_in(config, files, data.to_owned(), Place::Apart(listen))
    }

    fn prepare_in(config: Config, files: TempDir, data: PathBuf, place: Place) -> Result<Self> {
        let (config, home) = (config.stored()?, Home { files, data });
        Ok(Self { config, home, place, launcher: Vec::new(), process: None, left_well: false })
    }

    /// Puts a command in front of the binary, which must execute its arguments in its own
    /// process.
    #[must_use]
    pub fn launched_by<W: AsRef<str>>(mut self, launcher: &[W]) -> Self {
        self.launcher = launcher.iter().map(|word| word.as_ref().to_owned()).collect();
        self
    }

    /// Changes the configuration from the next start on.
    pub fn reconfigure(&mut self, change: impl FnOnce(Config) -> Config) {
        self.config = change(self.config.clone());
    }

    /// Shows it the time of `clock` from the next start on.
    pub fn live_by(&mut self, clock: &Clock) -> Result<()> {
        self.config = clock.wind(self.config.clone())?;
        Ok(())
    }

    /// Starts the process, again on the same data, and waits until it is ready.
    pub async fn restart(&mut self) -> Result<()> {
        self.spawn()?;
        self.ready().await
    }

    /// Starts the process without waiting for it.
    pub fn spawn(&mut self) -> Result<()> {
        ensure!(self.process.is_none(), "the node runs already");
        let mut command = self.command()?;
        let log = File::options().create(true).append(true).open(self.log_path())?;
        binary::redirect(&mut command, log)?;
        command.kill_on_drop(true);
        self.process = Some(command.spawn().context("start the node")?);
        self.left_well = false;
        Ok(())
    }

    /// Waits until the node says that it is ready.
    pub async fn ready(&mut self) -> Result<()> {
        let (api, deadline) = (self.api(None), tokio::time::Instant::now() + READY_WITHIN);
        loop {
            let process = self.process.as_mut().context("the node was not started")?;
            if let Some(status) = process.try_wait()? {
                self.process = None;
                bail!("the node ended with {status} before it was ready:\n{}", self.log());
            }
            // Awaiting readiness: connections are refused until the node listens.
            if api.get("/readyz").await.is_ok_and(|answer| answer.status == 200) {
                return Ok(());
            }
            if tokio::time::Instant::now() > deadline {
                bail!("the node was not ready within {READY_WITHIN:?}:\n{}", self.log());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// SIGKILL, and the process is gone when this returns.
    pub async fn kill(&mut self) -> Result<()> {
        let mut process = self.process.take().context("the node does not run")?;
        process.kill().await.context("kill the node")
    }

    /// SIGKILL, without waiting until the process is gone.
    pub fn start_to_kill(&mut self) -> Result<()> {
        self.process.as_mut().context("the node does not run")?.start_kill().context("kill")
    }

    /// SIGTERM.
    pub fn terminate(&self) -> Result<()> {
        binary::terminate(self.process.as_ref().context("the node does not run")?)
    }

    /// SIGSTOP: the process does nothing more until it is resumed.
    pub fn freeze(&self) -> Result<()> {
        binary::signal(self.process.as_ref().context("the node does not run")?, Signal::STOP)
    }

    /// SIGCONT. False if the process did not live to see it.
    pub fn thaw(&mut self) -> Result<bool> {
        let process = self.process.as_mut().context("the node does not run")?;
        if process.try_wait()?.is_some() {
            self.process = None;
            return Ok(false);
        }
        binary::signal(process, Signal::CONT)?;
        Ok(true)
    }

    /// Waits until the process has ended by itself.
    pub async fn ended(&mut self) -> Result<ExitStatus> {
        let mut process = self.process.take().context("the node does not run")?;
        let Ok(status) = tokio::time::timeout(STOPPED_WITHIN, process.wait()).await else {
            bail!("the node did not end within {STOPPED_WITHIN:?}:\n{}", self.log());
        };
        status.context("wait for the node")
    }

    /// SIGTERM, and the node must drain and end with 0.
    pub async fn stop(&mut self) -> Result<()> {
        self.terminate()?;
        let status = self.ended().await?;
        let (code, signal) = (status.code(), status.signal());
        ensure!(code == Some(0), "drained with code {code:?}, signal {signal:?}:\n{}", self.log());
        self.left_well = true;
        Ok(())
    }

    /// The API as whoever holds `key` sees it.
    #[must_use]
    pub fn api(&self, key: Option<&str>) -> Api {
        Api::new(&format!("http://{}", self.address()), key)
    }

    /// The API as the operator sees it.
    pub fn operator_api(&self) -> Result<Api> {
        Ok(self.api(Some(&self.operator_key()?)))
    }

    /// The operator's key: the one that the node was given, or wrote at its first start.
    pub fn operator_key(&self) -> Result<String> {
        if let Some((_, given)) = self.config.environment().find(|(name, _)| *name == OPERATOR_KEY)
        {
            return Ok(given.to_owned());
        }
        let path = self.home.data.join("operator.key");
        let key = fs::read_to_string(&path)
            .with_context(|| format!("read the operator's key from {}", path.display()))?;
        Ok(key.trim().to_owned())
    }

    /// The data directory.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.home.data
    }

    /// Where its API listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        match &self.place {
            Place::Here(port) => port.address(),
            Place::Apart(address) => *address,
        }
    }

    /// The port of its API.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address().port()
    }

    /// The process's id, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().and_then(Child::id)
    }

    /// The end of what the node has said.
    #[must_use]
    pub fn log(&self) -> String {
        let text = fs::read(self.log_path()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
    }

    fn log_path(&self) -> PathBuf {
        self.home.files.path().join("node.log")
    }

    fn command(&self) -> Result<Command> {
        let file = self.home.files.path().join("node.toml");
        fs::write(&file, self.config.toml_at(&self.home.data, self.address()))?;
        let mut command = binary::command(&self.launcher)?;
        command.arg("serve").arg("--config").arg(&file);
        command.current_dir(self.home.files.path()).envs(self.config.environment());
        Ok(command)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if self.left_well {
            return;
        }
        // Test runners show this for failed tests alone.
        eprintln!("--- the node at {} said at last:\n{}\n---", self.address(), self.log());
    }
}
