//! Makes an archive of what a node leaves behind: see [`postrider_tests::fixture`].

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;
use postrider_tests::fixture;

/// Fills a data directory with the binary that POSTRIDER_BIN names, and packs it.
#[derive(Parser)]
struct Arguments {
    /// The archive to make.
    archive: PathBuf,
}

#[tokio::main]
async fn main() -> Result<()> {
    fixture::make(&Arguments::parse().archive).await
}
