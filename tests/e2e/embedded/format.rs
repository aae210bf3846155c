//! Data that a later version has written.

use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};
use postrider_tests::config::Config;
use postrider_tests::scene::Scene;

use crate::start_up::refused;

#[tokio::test]
async fn data_of_a_newer_version_is_refused_and_left_as_it_is() -> Result<()> {
    let mut scene = Scene::start(Config::impatient()).await?;
    scene.node.stop().await?;
    let node = &scene.node;
    let file = store_file(node.data_dir())?;
    let mut bytes = fs::read(&file)?;
    raise_format(&mut bytes)?;
    fs::write(&file, &bytes)?;
    let toml = Config::new().toml(node.data_dir(), node.port());
    refused(&toml, &[&node.data_dir().to_string_lossy(), "newer"]).await?;
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

/// Writes a high number over the store's format, as a later version would: the record `g 1`
/// holds its own version, the format, and then the number of shards, 256 by default. Before it
/// LMDB keeps the length of the key.
fn raise_format(bytes: &mut [u8]) -> Result<()> {
    const LENGTH_KEY_VERSION: &[u8] = &[2, 0, b'g', 1, 1];
    const SHARDS: &[u8] = &[0x80, 0x02];
    let fits = |at: &usize| {
        bytes[*at..].starts_with(LENGTH_KEY_VERSION) && bytes[*at + 6..].starts_with(SHARDS)
    };
    let places: Vec<_> = (0..bytes.len().saturating_sub(8)).filter(fits).collect();
    ensure!(!places.is_empty(), "the record of the format is not where this test looks");
    for at in places {
        bytes[at + 5] = 0x7f;
    }
    Ok(())
}
