//! The source of randomness of a node's deliveries.

use parking_lot::Mutex;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

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
        self.0.lock().random()
    }
}
