//! A wall clock of one node that can be set, by libfaketime. Its monotonic clock is left alone.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::config::Config;

/// Where Debian's package `faketime` puts its library.
const LIBRARIES: [&str; 2] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
];

/// How soon a node sees that its clock was set, in seconds: the library's shortest.
const SEEN_WITHIN_S: &str = "1";

/// The clock of a node.
#[derive(Debug)]
pub struct Clock {
    file: PathBuf,
}

impl Clock {
    /// Why no clock can be set here, if none can.
    #[must_use]
    pub fn obstacle() -> Option<&'static str> {
        library().is_none().then_some("libfaketime is not installed")
    }

    /// A clock that shows the true time, and is kept in `directory` under a name of its own.
    pub fn new(directory: &Path, name: &str) -> Result<Self> {
        let clock = Self { file: directory.join(format!("{name}.clock")) };
        clock.set(0)?;
        Ok(clock)
    }

    /// Shows the true time and so many seconds more.
    pub fn set(&self, ahead_s: i64) -> Result<()> {
        // Renamed into place: half a file is never read.
        let new = self.file.with_extension("new");
        fs::write(&new, format!("{ahead_s:+}\n"))?;
        fs::rename(&new, &self.file).context("set the clock")
    }

    /// Lets the node of this configuration live by it.
    pub fn wind(&self, config: Config) -> Result<Config> {
        let library = library().context("libfaketime is not installed")?;
        let file = self.file.to_string_lossy();
        Ok(config
            .env("LD_PRELOAD", library)
            .env("FAKETIME_TIMESTAMP_FILE", &file)
            .env("FAKETIME_CACHE_DURATION", SEEN_WITHIN_S)
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
        if let Some(obstacle) = Clock::obstacle() {
            eprintln!("left out: {obstacle}");
            return Ok(());
        }
        let directory = tempfile::tempdir()?;
        let clock = Clock::new(directory.path(), "one")?;
        let config = clock.wind(Config::new())?;
        let ahead = || -> Result<i64> {
            let output = Command::new("date").arg("+%s").envs(config.environment()).output()?;
            let shown: i64 = String::from_utf8(output.stdout)?.trim().parse()?;
            Ok(shown - jiff::Timestamp::now().as_second())
        };
        for hour in [0, 3_600, -3_600] {
            clock.set(hour)?;
            assert!((hour - 2..=hour + 2).contains(&ahead()?), "{hour}");
        }
        Ok(())
    }
}
