//! What every actor of a node shares.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use postrider_cluster::route::{Notifier, Router};
use postrider_domain::ids::Mint;
use postrider_domain::time::{Clock, Timestamp};
use postrider_store::Records;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::Semaphore;

use crate::census::Waiting;
use crate::metrics::Metrics;
use crate::permits::Permits;
use crate::recorder::Recorder;
use crate::room::Room;
use crate::sender::Sender;
use crate::trouble::Done;
use crate::workers::Shards;

/// Bounds that tests make smaller.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Pointers that one scan of a shard reads.
    pub(crate) pointers: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { pointers: 4096 }
    }
}

/// What every actor of a node shares.
pub(crate) struct Context {
    pub(crate) bounds: Bounds,
    pub(crate) records: Records,
    pub(crate) router: Router,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) dice: Dice,
    pub(crate) mint: Arc<Mint>,
    pub(crate) sender: Sender,
    pub(crate) recorder: Recorder,
    pub(crate) permits: Permits,
    pub(crate) room: Arc<Room>,
    /// For reads that check what other nodes brought along.
    pub(crate) checks: Arc<Semaphore>,
    pub(crate) notifier: Arc<dyn Notifier>,
    pub(crate) metrics: Metrics,
    pub(crate) shards: Shards,
    pub(crate) waiting: Mutex<Waiting>,
    /// Attempts that succeeded and are on record.
    pub(crate) successes: AtomicU64,
}

impl Context {
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// What this node has done since it started.
    pub(crate) fn done(&self) -> Done {
        let successes = self.successes.load(Ordering::Relaxed);
        Done { connections: self.sender.connections(), successes }
    }

    /// The time for what receivers hold against their own clocks.
    pub(crate) fn wall(&self) -> Timestamp {
        self.clock.wall()
    }

    /// What waited when it was counted last.
    pub(crate) fn waiting(&self) -> Waiting {
        *self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where luck comes from: seeded, so that a run can be repeated.
#[derive(Debug)]
pub struct Dice(Mutex<SmallRng>);

impl Dice {
    /// Dice that fall as `seed` says.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(SmallRng::seed_from_u64(seed)))
    }

    /// A number from 0 to below 1.
    pub fn roll(&self) -> f64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).random()
    }
}
