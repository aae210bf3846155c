//! The node's wall clock, which goes wrong by a month and comes right again.
//!
//! A history that came to be within a minute would be one point of a chart. So the node's clock is
//! set on while its history is made, first by days and then by half hours. A running node does not
//! believe such leaps, and is started anew for each. When it is measured, its clock is the system's.

use anyhow::Result;
use postrider_tests::cluster::clock::Clock as Faked;
use postrider_tests::config::Config;
use tempfile::TempDir;

use crate::service::Service;

pub const HOUR_S: i64 = 3_600;
pub const DAY_S: i64 = 86_400;

/// The clock, and the node that lives by it.
pub struct Clock {
    pub service: Service,
    faked: Faked,
    right: Config,
    _directory: TempDir,
}

impl Clock {
    /// How long ago the parts of a history are, the oldest first: days of a month, and then each half
    /// hour of the last 24.
    pub fn ages_s() -> Vec<i64> {
        let days = (2..30).rev().map(|days| days * DAY_S);
        let half_hours = (0..48).rev().map(|half_hours| half_hours * HOUR_S / 2);
        days.chain(half_hours).collect()
    }

    /// Why no history can be made here, if none can.
    pub fn obstacle() -> Option<&'static str> {
        Faked::obstacle()
    }

    /// Starts a node whose clock is where the history begins.
    pub async fn start(config: Config) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let faked = Faked::new(directory.path(), "node")?;
        faked.set(-Self::ages_s()[0])?;
        let service = Service::alone(faked.wind(config.clone())?).await?;
        Ok(Self { service, faked, right: config, _directory: directory })
    }

    /// Starts the node anew, with its clock so far back.
    pub async fn set_back(&mut self, age_s: i64) -> Result<()> {
        self.faked.set(-age_s)?;
        let config = self.faked.wind(self.right.clone())?;
        self.service.restart(config).await
    }

    /// Starts the node anew, by the right clock.
    pub async fn set_right(&mut self) -> Result<()> {
        self.service.restart(self.right.clone()).await
    }
}
