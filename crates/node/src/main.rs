//! The `postrider` binary.

mod cli;
mod clock;
mod company;
mod config;
mod data_dir;
mod listen;
mod logging;
mod run;
mod server;
mod telemetry;

use std::fmt::Display;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;

use cli::{Cli, Command};
use clock::SystemClock;
use config::Config;

/// Measured: a tenth less processor time for a delivery than with the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The exit code of what is refused at start.
const REFUSED: u8 = 2;

#[tokio::main]
async fn main() -> ExitCode {
    let command = Cli::parse().command;
    if let Err(error) = logging::start() {
        return refuse(&error);
    }
    match command {
        Command::Serve(options) => serve(options.config.as_deref()).await,
        Command::CheckConfig(options) => check(&options.config),
        Command::Listen(options) => match listen::run(options, Arc::new(SystemClock)).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => refuse(&error),
        },
    }
}

async fn serve(file: Option<&Path>) -> ExitCode {
    let config = match Config::load(file, std::env::vars_os()) {
        Ok(config) => config,
        Err(refused) => return refuse(&refused),
    };
    match run::serve(config).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(run::Failure::Start(error)) => refuse(&format!("{error:#}")),
        Err(run::Failure::Later(error)) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
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
