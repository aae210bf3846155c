//! `scripts/demo`: the life of two endpoints in half a minute, one healthy and one broken, with
//! a real node, a real receiver and a real mail server. Ends with 0 if all of it happened.

mod page;
mod story;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;

use page::Page;

/// The story takes about half a minute.
const LONGEST: Duration = Duration::from_secs(90);

#[tokio::main]
async fn main() -> ExitCode {
    let page = Page::open();
    let told = tokio::time::timeout(LONGEST, story::tell(&page)).await;
    match told.context("the demo took too long").flatten() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nThe demo failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}
