//! How many requests a node makes at once, and who may make the next one.
//!
//! An endpoint's actor has at most one request for a permit waiting, and the semaphore serves
//! in order, so permits go round: one with a thousand deliveries waits no less than one with a
//! single one. Endpoints that are failing share a part of the permits, so that however many of
//! them hang, the others find room.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Most requests in flight on a node.
pub(crate) const NODE: usize = 2048;
/// Most of them to endpoints whose newest attempt failed.
const FAILING: usize = 1024;

/// The permits of a node.
#[derive(Clone)]
pub(crate) struct Permits {
    node: Arc<Semaphore>,
    failing: Arc<Semaphore>,
}

/// The right to make one request. It ends when this is dropped.
pub(crate) struct Permit {
    _node: OwnedSemaphorePermit,
    failing: Option<OwnedSemaphorePermit>,
}

impl Permit {
    /// Whether it is one of those that failing endpoints share.
    pub(crate) fn is_for_failing(&self) -> bool {
        self.failing.is_some()
    }
}

impl Permits {
    pub(crate) fn new() -> Self {
        Self { node: Arc::new(Semaphore::new(NODE)), failing: Arc::new(Semaphore::new(FAILING)) }
    }

    /// A permit, if one is free and nobody waits for it.
    pub(crate) fn try_acquire(&self, failing: bool) -> Option<Permit> {
        let share =
            if failing { Some(self.failing.clone().try_acquire_owned().ok()?) } else { None };
        let node = self.node.clone().try_acquire_owned().ok()?;
        Some(Permit { _node: node, failing: share })
    }

    /// Waits for a permit, in order.
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
        NODE - self.node.available_permits()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn failing_endpoints_leave_room_for_the_others() {
        let permits = Permits::new();
        let failing: Vec<_> = std::iter::from_fn(|| permits.try_acquire(true)).collect();
        assert_eq!(failing.len(), FAILING);
        let healthy: Vec<_> = std::iter::from_fn(|| permits.try_acquire(false)).collect();
        assert_eq!(healthy.len(), NODE - FAILING);
        assert_eq!(permits.in_use(), NODE);
        drop(failing);
        assert!(permits.try_acquire(true).is_some());
    }

    #[tokio::test]
    async fn permits_are_handed_out_in_the_order_of_asking() {
        let permits = Permits::new();
        let mut held: Vec<_> = std::iter::from_fn(|| permits.try_acquire(false)).collect();
        let mut first = Box::pin(permits.acquire(false));
        assert!(futures::poll!(&mut first).is_pending());
        let mut second = Box::pin(permits.acquire(false));
        assert!(futures::poll!(&mut second).is_pending());
        held.pop();
        assert!(permits.try_acquire(false).is_none(), "nobody overtakes those who wait");
        assert!(futures::poll!(&mut second).is_pending());
        assert!(futures::poll!(&mut first).is_ready());
    }
}
