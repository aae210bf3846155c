//! Finds the `postrider` binary and runs its commands.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::NamedTempFile;
use tokio::process::{Child, Command};

use crate::wait::{self, seconds};

/// The deadline for a command to exit.
const EXITS_WITHIN: Duration = seconds(20);

/// The result of a command that has exited.
#[derive(Debug)]
pub struct Ended {
    /// The exit code; `None` if it was killed by a signal.
    pub code: Option<i32>,
    /// Standard output followed by standard error.
    pub output: String,
}

/// Runs `postrider` with `arguments` until it exits.
pub async fn run(arguments: &[&str]) -> Result<Ended> {
    run_in(&[], arguments).await
}

/// Like [`run`], with additional environment variables.
pub async fn run_in(environment: &[(&str, &str)], arguments: &[&str]) -> Result<Ended> {
    let mut command = command(&[], &path()?)?;
    command.args(arguments).envs(environment.iter().copied());
    let running = command.kill_on_drop(true).output();
    let Ok(output) = tokio::time::timeout(EXITS_WITHIN, running).await else {
        bail!("postrider {arguments:?} did not exit within {EXITS_WITHIN:?}");
    };
    let output = output.context("run postrider")?;
    let both = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&both).into_owned();
    Ok(Ended { code: output.status.code(), output: text })
}

/// A running command. The process is killed on drop.
#[derive(Debug)]
pub struct Running {
    process: Child,
    output: NamedTempFile,
}

impl Running {
    /// Starts `postrider` with `arguments`.
    pub fn start(arguments: &[&str]) -> Result<Self> {
        let output = NamedTempFile::new().context("create a file for the output")?;
        let mut command = command(&[], &path()?)?;
        command.args(arguments).kill_on_drop(true);
        redirect(&mut command, output.reopen()?)?;
        let process = command.spawn().context("start postrider")?;
        Ok(Self { process, output })
    }

    /// Waits until the output contains `text`, and returns all output.
    pub async fn wait_for_output(&self, text: &str, within: Duration) -> Result<String> {
        let what = format!("postrider writes {text:?}");
        let probe = async || Ok(Some(self.output()?).filter(|output| output.contains(text)));
        let waited = wait::until(&what, within, probe).await;
        waited.with_context(|| self.output().unwrap_or_default())
    }

    /// SIGTERM, and the exit status.
    pub async fn stop(mut self) -> Result<ExitStatus> {
        terminate(&self.process)?;
        self.process.wait().await.context("wait for postrider")
    }

    fn output(&self) -> Result<String> {
        let bytes = fs::read(self.output.path()).context("read the output")?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// The command `binary`, prefixed with a launcher, if any, that execs its arguments. Standard input
/// is empty, and all `POSTRIDER_*` variables of the test run are removed.
pub(crate) fn command(launcher: &[String], binary: &Path) -> Result<Command> {
    let mut words = launcher.iter().map(AsRef::as_ref).chain([binary.as_os_str()]);
    let mut command = Command::new(words.next().context("there is no program")?);
    command.args(words).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("POSTRIDER_") {
            command.env_remove(name);
        }
    }
    Ok(command)
}

/// Redirects standard output and standard error to `file`.
pub(crate) fn redirect(command: &mut Command, file: File) -> Result<()> {
    command.stdout(file.try_clone()?).stderr(file);
    Ok(())
}

/// SIGTERM.
pub(crate) fn terminate(process: &Child) -> Result<()> {
    signal(process, Signal::TERM)
}

pub(crate) fn signal(process: &Child, signal: Signal) -> Result<()> {
    let id = process.id().context("the process has exited")?;
    let pid = i32::try_from(id).ok().and_then(Pid::from_raw).context("there is no process id")?;
    kill_process(pid, signal).context("signal the process")
}

/// The path of the other version's binary in a cluster of two versions: `POSTRIDER_OTHER_BIN`.
pub fn other_path() -> Result<Option<PathBuf>> {
    let Some(path) = std::env::var_os("POSTRIDER_OTHER_BIN") else { return Ok(None) };
    let path = fs::canonicalize(&path)
        .with_context(|| format!("POSTRIDER_OTHER_BIN is {}", path.display()))?;
    Ok(Some(path))
}

/// The path of the binary: `POSTRIDER_BIN`, or next to this program, where Cargo built it.
pub fn path() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("POSTRIDER_BIN") {
        let path = fs::canonicalize(&path)
            .with_context(|| format!("POSTRIDER_BIN is {}", path.display()))?;
        return Ok(path);
    }
    let program = std::env::current_exe().context("find this program")?;
    let found = program.ancestors().skip(1).take(2).map(|dir| dir.join("postrider"));
    found.into_iter().find(|path| path.is_file()).with_context(|| {
        format!(
            "no postrider binary near {}: build it with `cargo build -p postrider-node`, or \
             set POSTRIDER_BIN",
            program.display()
        )
    })
}
