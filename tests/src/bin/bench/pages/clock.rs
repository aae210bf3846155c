//! The node's wall clock, set back by up to a month while the history is created.
//!
//! A history created within a minute would be a single point in a chart. So the node's clock
//! advances while its history is created, first by days and then by half hours. A running node
//! ignores such jumps, so it is restarted for each. For the measurements it uses the system clock.

use anyhow::Result;
use postrider_tests::cluster::clock::Clock as Faked;
use postrider_tests::config::Config;
use tempfile::TempDir;

use crate::deployment::Deployment;

pub const HOUR_S: i64 = 3_600;
pub const DAY_S: i64 = 86_400;

/// The clock and the node that uses it.
pub struct Clock {
    pub deployment: Deployment,
    faked: Faked,
    unskewed: Config,
    _directory: TempDir,
}

impl Clock {
    /// The ages of the parts of a history, oldest first: days of a month, then the half hours of
    /// the last day.
    pub fn ages_s() -> Vec<i64> {
        let days = (2..30).rev().map(|days| days * DAY_S);
        let half_hours = (0..48).rev().map(|half_hours| half_hours * HOUR_S / 2);
        days.chain(half_hours).collect()
    }

    /// The reason why no history can be created on this machine, if any.
    pub fn skip_reason() -> Option<&'static str> {
        Faked::skip_reason()
    }

    /// Starts a node with its clock at the start of the history.
    pub async fn start(config: Config) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let faked = Faked::new(directory.path(), "node")?;
        faked.set(-Self::ages_s()[0])?;
        let deployment = Deployment::single(faked.apply_to(config.clone())?).await?;
        Ok(Self { deployment, faked, unskewed: config, _directory: directory })
    }

    /// Restarts the node with its clock set back.
    pub async fn set_back(&mut self, age_s: i64) -> Result<()> {
        self.faked.set(-age_s)?;
        let config = self.faked.apply_to(self.unskewed.clone())?;
        self.deployment.restart(config).await
    }

    /// Restarts the node with the system clock.
    pub async fn use_system_clock(&mut self) -> Result<()> {
        self.deployment.restart(self.unskewed.clone()).await
    }
}
