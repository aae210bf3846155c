//! Creates an archive of a data directory: see [`postrider_tests::archive`].

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;
use postrider_tests::archive;

/// Create an archive of a data directory with the binary in POSTRIDER_BIN.
#[derive(Parser)]
struct Arguments {
    /// Path of the archive to create.
    archive: PathBuf,
}

#[tokio::main]
async fn main() -> Result<()> {
    archive::make(&Arguments::parse().archive).await
}
