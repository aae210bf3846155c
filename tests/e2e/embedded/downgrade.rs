//! Data written by a later version.

use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};
use postrider_tests::config::Config;
use postrider_tests::fixture::Fixture;

use crate::start_up::rejected;

#[tokio::test]
async fn data_of_a_newer_version_is_rejected_and_left_unchanged() -> Result<()> {
    let mut fixture = Fixture::start(Config::short_retries()).await?;
    fixture.node.stop().await?;
    let node = &fixture.node;
    let file = store_file(node.data_dir())?;
    let mut bytes = fs::read(&file)?;
    raise_format(&mut bytes)?;
    fs::write(&file, &bytes)?;
    let toml = Config::new().toml(node.data_dir(), node.port());
    rejected(&toml, &[&node.data_dir().to_string_lossy(), "newer"]).await?;
    Ok(())
}

/// LMDB's data file.
fn store_file(data_dir: &Path) -> Result<std::path::PathBuf> {
    let mut directories = vec![data_dir.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory)? {
            let path = entry?.path();
            if path.is_dir() {
                directories.push(path);
            } else if path.file_name().is_some_and(|name| name == "data.mdb") {
                return Ok(path);
            }
        }
    }
    anyhow::bail!("no data.mdb in {}", data_dir.display())
}

/// Overwrites the store's format with a higher number, as a later version would. The record `g 1`
/// holds its own version, the format, and the number of shards, 256 by default; LMDB stores the
/// length of the key in front of it.
fn raise_format(bytes: &mut [u8]) -> Result<()> {
    const LENGTH_KEY_VERSION: &[u8] = &[2, 0, b'g', 1, 1];
    const SHARDS: &[u8] = &[0x80, 0x02];
    let fits = |at: &usize| {
        bytes[*at..].starts_with(LENGTH_KEY_VERSION) && bytes[*at + 6..].starts_with(SHARDS)
    };
    let offsets: Vec<_> = (0..bytes.len().saturating_sub(8)).filter(fits).collect();
    ensure!(!offsets.is_empty(), "the format record is not laid out as this test expects");
    for at in offsets {
        bytes[at + 5] = 0x7f;
    }
    Ok(())
}
