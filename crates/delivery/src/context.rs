//! State shared by all delivery actors of a node.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use postrider_cluster::route::{Notifier, Router};
use postrider_domain::ids::IdGenerator;
use postrider_domain::time::{Clock, Timestamp};
use postrider_store::Records;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::Semaphore;

use crate::backlog::Backlog;
use crate::engine::OwnedShards;
use crate::internal_errors::NodeProgress;
use crate::memory_budget::MemoryBudget;
use crate::metrics::Metrics;
use crate::permits::Permits;
use crate::recorder::Recorder;
use crate::sender::Sender;

/// Bounds that tests lower.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Maximum pointers that one scan of a shard reads.
    pub(crate) pointers_per_scan: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { pointers_per_scan: 4096 }
    }
}

/// State shared by all delivery actors of a node.
pub(crate) struct Context {
    pub(crate) bounds: Bounds,
    pub(crate) records: Records,
    pub(crate) router: Router,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) rng: SharedRng,
    pub(crate) id_generator: Arc<IdGenerator>,
    pub(crate) sender: Sender,
    pub(crate) recorder: Recorder,
    pub(crate) permits: Permits,
    pub(crate) memory_budget: Arc<MemoryBudget>,
    /// Limits concurrent reads that verify deliveries from other nodes.
    pub(crate) peer_reads: Arc<Semaphore>,
    pub(crate) notifier: Arc<dyn Notifier>,
    pub(crate) metrics: Metrics,
    pub(crate) shards: OwnedShards,
    pub(crate) backlog: Mutex<Backlog>,
    /// Number of recorded successful attempts.
    pub(crate) successes: AtomicU64,
}

impl Context {
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// What this node has accomplished since it started.
    pub(crate) fn progress(&self) -> NodeProgress {
        let successes = self.successes.load(Ordering::Relaxed);
        NodeProgress { connections: self.sender.connections_opened(), successes }
    }

    /// The wall-clock time, for values that receivers compare with their own clocks.
    pub(crate) fn wall(&self) -> Timestamp {
        self.clock.wall()
    }

    /// The backlog as of the last scan.
    pub(crate) fn backlog(&self) -> Backlog {
        *self.backlog.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A shared random number generator, seeded so that a run can be reproduced.
#[derive(Debug)]
pub struct SharedRng(Mutex<SmallRng>);

impl SharedRng {
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(SmallRng::seed_from_u64(seed)))
    }

    /// A uniform random number in `[0, 1)`.
    pub fn random(&self) -> f64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).random()
    }
}
