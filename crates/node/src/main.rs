//! The `postrider` binary.

mod cli;
mod clock;
mod company;
mod config;
mod data_dir;
mod listen;
mod logging;
mod previous_run;
mod run;
mod server;
mod status;
mod store;
mod telemetry;

use std::fmt::Display;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;

use cli::{Cli, Cluster, Command};
use clock::SystemClock;
use config::Config;
use telemetry::Telemetry;

/// Measured: a tenth less processor time for a delivery than with the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The exit code of what is refused at start.
const REFUSED: u8 = 2;

/// How long the process waits, at its end, for threads that are stuck in a call of the operating
/// system: name resolution may take half a minute to fail.
const STUCK: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let command = Cli::parse().command;
    let code = block_on(run(command)).unwrap_or_else(|error| {
        refuse(&format!("the threads that do the work cannot be started: {error}"))
    });
    // Nobody uses a store any more.
    store::close();
    code
}

/// Runs a future to its end. What it leaves behind is broken off, or given up if it is stuck.
fn block_on<T>(future: impl Future<Output = T>) -> io::Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(future);
    runtime.shutdown_timeout(STUCK);
    Ok(outcome)
}

async fn run(command: Command) -> ExitCode {
    match command {
        Command::Serve(options) => serve(options.config.as_deref()).await,
        Command::CheckConfig(options) => with_logs(async { check(&options.config) }).await,
        Command::Cluster(Cluster::Status(options)) => with_logs(status(options)).await,
        Command::Store(command) => with_logs(try_store(command)).await,
        Command::Listen(options) => with_logs(listen(options)).await,
    }
}

/// Runs what logs and exports nothing.
async fn with_logs(command: impl Future<Output = ExitCode>) -> ExitCode {
    match logging::start(None) {
        Ok(()) => command.await,
        Err(error) => refuse(&error),
    }
}

async fn listen(options: cli::Listen) -> ExitCode {
    match listen::run(options, Arc::new(SystemClock::default())).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => refuse(&error),
    }
}

async fn serve(file: Option<&Path>) -> ExitCode {
    let config = match Config::load(file, std::env::vars_os()) {
        Ok(config) => config,
        Err(refused) => return refuse(&refused),
    };
    let telemetry =
        Telemetry::start(&config.node.name.to_string(), config.telemetry.otlp_endpoint.as_ref());
    let telemetry = match telemetry {
        Ok(telemetry) => Arc::new(telemetry),
        Err(error) => return refuse(&format!("telemetry cannot be exported: {error:#}")),
    };
    if let Err(error) = logging::start(telemetry.otlp()) {
        return refuse(&error);
    }
    match run::serve(config, telemetry).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(run::Failure::Start(error)) => refuse(&format!("{error:#}")),
        Err(run::Failure::Later(error)) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn try_store(command: cli::Store) -> ExitCode {
    let ended = match command {
        cli::Store::Check(options) => store::check::run(options).await,
        cli::Store::Copy(options) => store::copy::run(options).await,
    };
    ended.unwrap_or_else(|error| refuse(&format!("{error:#}")))
}

async fn status(options: cli::Status) -> ExitCode {
    match status::run(options).await {
        Ok(code) => code,
        Err(error) => refuse(&format!("{error:#}")),
    }
}

fn check(file: &Path) -> ExitCode {
    match Config::load(Some(file), std::env::vars_os()) {
        Ok(config) => {
            let _ = write!(std::io::stdout(), "{}\nok\n", config.describe());
            ExitCode::SUCCESS
        }
        Err(refused) => refuse(&refused),
    }
}

fn refuse(why: &impl Display) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "postrider: {why}");
    ExitCode::from(REFUSED)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_thread_that_is_stuck_does_not_keep_the_process() {
        let (end, hangs) = mpsc::channel::<()>();
        let (ended, told) = mpsc::channel();
        std::thread::spawn(move || {
            let outcome = block_on(async {
                // As a resolver does that gets no answer.
                tokio::task::spawn_blocking(move || {
                    let _ = hangs.recv();
                });
                7
            });
            let _ = ended.send(outcome.expect("a runtime"));
        });
        // Far more than it takes; without a bound it would be for ever.
        assert_eq!(told.recv_timeout(STUCK * 30), Ok(7));
        drop(end);
    }
}
