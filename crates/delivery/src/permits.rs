//! Bounds a node's concurrent requests and shares them fairly among endpoints.
//!
//! Each endpoint's actor waits for at most one permit at a time, and the semaphore is FIFO, so an
//! endpoint with a thousand deliveries waits as long as one with a single delivery. Failing
//! endpoints are limited to a part of the permits, so that hanging endpoints cannot starve healthy
//! ones.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Maximum requests in flight on a node.
pub(crate) const MAX_IN_FLIGHT: usize = 2048;
/// Maximum requests in flight to endpoints whose latest attempt failed.
const MAX_IN_FLIGHT_FAILING: usize = 1024;

#[derive(Clone)]
pub(crate) struct Permits {
    node: Arc<Semaphore>,
    failing: Arc<Semaphore>,
}

/// The right to make one request, released on drop.
pub(crate) struct Permit {
    _node: OwnedSemaphorePermit,
    failing: Option<OwnedSemaphorePermit>,
}

impl Permit {
    /// Whether it counts against the limit of failing endpoints.
    pub(crate) fn is_for_failing(&self) -> bool {
        self.failing.is_some()
    }
}

impl Permits {
    pub(crate) fn new() -> Self {
        Self {
            node: Arc::new(Semaphore::new(MAX_IN_FLIGHT)),
            failing: Arc::new(Semaphore::new(MAX_IN_FLIGHT_FAILING)),
        }
    }

    /// Returns a permit if one is free and nobody is waiting.
    pub(crate) fn try_acquire(&self, failing: bool) -> Option<Permit> {
        let share =
            if failing { Some(self.failing.clone().try_acquire_owned().ok()?) } else { None };
        let node = self.node.clone().try_acquire_owned().ok()?;
        Some(Permit { _node: node, failing: share })
    }

    /// Waits for a permit, in FIFO order.
    pub(crate) async fn acquire(&self, failing: bool) -> Permit {
        const NEVER_CLOSED: &str = "the semaphores are never closed";
        let share = if failing {
            Some(self.failing.clone().acquire_owned().await.expect(NEVER_CLOSED))
        } else {
            None
        };
        let node = self.node.clone().acquire_owned().await.expect(NEVER_CLOSED);
        Permit { _node: node, failing: share }
    }

    /// Requests in flight.
    pub(crate) fn in_use(&self) -> usize {
        MAX_IN_FLIGHT - self.node.available_permits()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn failing_endpoints_leave_permits_for_healthy_ones() {
        let permits = Permits::new();
        let failing: Vec<_> = std::iter::from_fn(|| permits.try_acquire(true)).collect();
        assert_eq!(failing.len(), MAX_IN_FLIGHT_FAILING);
        let healthy: Vec<_> = std::iter::from_fn(|| permits.try_acquire(false)).collect();
        assert_eq!(healthy.len(), MAX_IN_FLIGHT - MAX_IN_FLIGHT_FAILING);
        assert_eq!(permits.in_use(), MAX_IN_FLIGHT);
        drop(failing);
        assert!(permits.try_acquire(true).is_some());
    }

    #[tokio::test]
    async fn permits_are_granted_in_fifo_order() {
        let permits = Permits::new();
        let mut held: Vec<_> = std::iter::from_fn(|| permits.try_acquire(false)).collect();
        let mut first = Box::pin(permits.acquire(false));
        assert!(futures::poll!(&mut first).is_pending());
        let mut second = Box::pin(permits.acquire(false));
        assert!(futures::poll!(&mut second).is_pending());
        held.pop();
        assert!(permits.try_acquire(false).is_none(), "waiters are not overtaken");
        assert!(futures::poll!(&mut second).is_pending());
        assert!(futures::poll!(&mut first).is_ready());
    }
}
