//! An adjustable wall clock for one node, using libfaketime. The monotonic clock is not changed.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::config::Config;

/// Install paths of Debian's package `faketime`.
const LIBRARIES: [&str; 2] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
];

/// The library's shortest interval for reading the clock file, in seconds.
const CACHE_DURATION_S: &str = "1";

/// The clock of a node.
#[derive(Debug)]
pub struct Clock {
    file: PathBuf,
}

impl Clock {
    /// The reason why clocks cannot be set on this machine, if any.
    #[must_use]
    pub fn skip_reason() -> Option<&'static str> {
        library().is_none().then_some("libfaketime is not installed")
    }

    /// A clock with the true time, stored in `directory` as `name`.
    pub fn new(directory: &Path, name: &str) -> Result<Self> {
        let clock = Self { file: directory.join(format!("{name}.clock")) };
        clock.set(0)?;
        Ok(clock)
    }

    /// Sets the clock `ahead_s` seconds ahead of the true time.
    pub fn set(&self, ahead_s: i64) -> Result<()> {
        // Renamed into place so that a partial file is never read.
        let new = self.file.with_extension("new");
        fs::write(&new, format!("{ahead_s:+}\n"))?;
        fs::rename(&new, &self.file).context("set the clock")
    }

    /// Makes the node of this configuration use the clock.
    pub fn apply_to(&self, config: Config) -> Result<Config> {
        let library = library().context("libfaketime is not installed")?;
        let file = self.file.to_string_lossy();
        Ok(config
            .env("LD_PRELOAD", library)
            .env("FAKETIME_TIMESTAMP_FILE", &file)
            .env("FAKETIME_CACHE_DURATION", CACHE_DURATION_S)
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .env("DONT_FAKE_MONOTONIC", "1")
            .env("NO_FAKE_STAT", "1"))
    }
}

fn library() -> Option<&'static str> {
    LIBRARIES.into_iter().find(|path| Path::new(path).exists())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn shows_what_it_was_set_to() -> Result<()> {
        if let Some(skip_reason) = Clock::skip_reason() {
            eprintln!("skipped: {skip_reason}");
            return Ok(());
        }
        let directory = tempfile::tempdir()?;
        let clock = Clock::new(directory.path(), "one")?;
        let config = clock.apply_to(Config::new())?;
        let ahead = || -> Result<i64> {
            let output = Command::new("date").arg("+%s").envs(config.environment()).output()?;
            let time: i64 = String::from_utf8(output.stdout)?.trim().parse()?;
            Ok(time - jiff::Timestamp::now().as_second())
        };
        for hour in [0, 3_600, -3_600] {
            clock.set(hour)?;
            assert!((hour - 2..=hour + 2).contains(&ahead()?), "{hour}");
        }
        Ok(())
    }
}
