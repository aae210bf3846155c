//! chromedriver: one process per browser, killed with it.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::wait::seconds;

/// Start-up deadline.
const LISTENS_WITHIN: Duration = seconds(20);
/// Output before the port number.
const STARTED: &str = "started successfully on port ";

/// A running chromedriver, in a process group with the browser.
#[derive(Debug)]
pub(super) struct Driver {
    process: Child,
    url: String,
    /// Kept open so that chromedriver can continue to write.
    _output: Lines<BufReader<ChildStdout>>,
}

impl Driver {
    /// Starts chromedriver with all its files in `home`.
    pub(super) async fn start(home: &Path) -> Result<Self> {
        let mut process = Command::new("chromedriver")
            .arg("--port=0")
            .env("HOME", home)
            .env("TMPDIR", home)
            .env_remove("XDG_CONFIG_HOME")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .context("start chromedriver (on Debian, install chromium and chromium-driver)")?;
        let output = process.stdout.take().context("chromedriver's output")?;
        let mut output = BufReader::new(output).lines();
        let started = tokio::time::timeout(LISTENS_WITHIN, port(&mut output)).await;
        let port = started.context("wait until chromedriver listens")??;
        Ok(Self { process, url: format!("http://127.0.0.1:{port}"), _output: output })
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }
}

async fn port(output: &mut Lines<BufReader<ChildStdout>>) -> Result<u16> {
    while let Some(line) = output.next_line().await? {
        if let Some((_, port)) = line.split_once(STARTED) {
            return port.trim_end_matches('.').parse().context("chromedriver's port");
        }
    }
    bail!("chromedriver exited before it listened")
}

impl Drop for Driver {
    fn drop(&mut self) {
        // Otherwise the browser would outlive its driver.
        let id = self.process.id().and_then(|id| i32::try_from(id).ok());
        if let Some(group) = id.and_then(Pid::from_raw) {
            // It may have exited already.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}
