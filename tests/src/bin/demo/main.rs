//! `scripts/demo`: the life of two endpoints in half a minute, one healthy and one broken, with
//! a real node, a real receiver and a real mail server. Ends with 0 if all of it happened.

mod page;
mod story;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};

use page::Page;

/// The story takes about half a minute.
const LONGEST: Duration = Duration::from_secs(90);

#[tokio::main]
async fn main() -> ExitCode {
    let page = Page::open();
    match show(&page).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nThe demo failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn show(page: &Page) -> Result<()> {
    let told = tokio::time::timeout(LONGEST, story::tell(page)).await;
    let scene = told.context("the demo took too long").flatten()?;
    story::close(page, scene).await
}
