//! `scripts/demo`: a healthy and a failing endpoint in half a minute, with a real node, a real
//! receiver and a real mail server. Exits with 0 if every step succeeded.

mod console;
mod steps;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};

use console::Console;

/// The demo takes about half a minute.
const TIMEOUT: Duration = Duration::from_secs(90);

#[tokio::main]
async fn main() -> ExitCode {
    let console = Console::new();
    match run(&console).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nThe demo failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(console: &Console) -> Result<()> {
    let finished = tokio::time::timeout(TIMEOUT, steps::run(console)).await;
    let fixture = finished.context("the demo timed out").flatten()?;
    steps::close(console, fixture).await
}
