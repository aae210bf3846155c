//! Bounds a node's concurrent requests and shares them fairly among endpoints.
//!
//! Each endpoint's actor waits for at most one permit at a time, and the semaphore is FIFO, so an
//! endpoint with a thousand deliveries waits as long as one with a single delivery. Failing
//! endpoints are limited to a part of the permits, so that hanging endpoints cannot starve healthy
//! ones. During and after an outage of this node the limits are lower (`domain::own_outage`).

use std::sync::Arc;

use parking_lot::Mutex;
use postrider_domain::own_outage::Limits;
use tokio::sync::{Semaphore, SemaphorePermit};

/// Maximum requests in flight on a node.
pub(crate) const MAX_IN_FLIGHT: usize = 2048;
/// Maximum requests in flight to endpoints whose latest attempt failed.
const MAX_IN_FLIGHT_FAILING: usize = 1024;

#[derive(Clone)]
pub(crate) struct Permits {
    node: Arc<Lane>,
    failing: Arc<Lane>,
    names: Arc<Lane>,
}

/// Which limits, besides the node's, a request counts against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    /// That of failing endpoints: the latest attempt failed.
    pub(crate) failing: bool,
    /// That of targets whose names must be resolved. It is lowered while the name servers fail.
    pub(crate) named: bool,
}

/// The right to make one request, released on drop.
pub(crate) struct Permit {
    share: Share,
    _lanes: [Option<LanePermit>; 3],
}

impl Permit {
    /// What it counts against.
    pub(crate) fn share(&self) -> Share {
        self.share
    }
}

impl Permits {
    pub(crate) fn new() -> Self {
        Self {
            node: Lane::new(MAX_IN_FLIGHT),
            failing: Lane::new(MAX_IN_FLIGHT_FAILING),
            names: Lane::new(MAX_IN_FLIGHT),
        }
    }

    /// The lanes of a share, in the order in which they are waited for.
    fn lanes(&self, share: Share) -> [Option<&Arc<Lane>>; 3] {
        [
            share.failing.then_some(&self.failing),
            share.named.then_some(&self.names),
            Some(&self.node),
        ]
    }

    /// Returns a permit if one is free and nobody is waiting.
    pub(crate) fn try_acquire(&self, share: Share) -> Option<Permit> {
        let mut permits = [const { None }; 3];
        for (permit, lane) in permits.iter_mut().zip(self.lanes(share)) {
            if let Some(lane) = lane {
                *permit = Some(lane.try_acquire()?);
            }
        }
        Some(Permit { share, _lanes: permits })
    }

    /// Waits for a permit, in FIFO order.
    pub(crate) async fn acquire(&self, share: Share) -> Permit {
        let mut permits = [const { None }; 3];
        for (permit, lane) in permits.iter_mut().zip(self.lanes(share)) {
            if let Some(lane) = lane {
                *permit = Some(lane.acquire().await);
            }
        }
        Permit { share, _lanes: permits }
    }

    /// Changes the limits. Requests in flight beyond a lower limit finish.
    pub(crate) fn set_limits(&self, limits: Limits) {
        self.node.set_limit(limits.all);
        self.names.set_limit(limits.names);
    }

    /// Requests in flight.
    pub(crate) fn in_use(&self) -> usize {
        self.node.in_use()
    }
}

/// One limit.
struct Lane {
    semaphore: Semaphore,
    size: Mutex<Size>,
}

struct Size {
    limit: usize,
    /// How many requests are in flight beyond the limit, because it was lowered.
    excess: usize,
}

struct LanePermit(Arc<Lane>);

impl Drop for LanePermit {
    fn drop(&mut self) {
        self.0.release();
    }
}

impl Lane {
    fn new(limit: usize) -> Arc<Self> {
        let size = Mutex::new(Size { limit, excess: 0 });
        Arc::new(Self { semaphore: Semaphore::new(limit), size })
    }

    fn try_acquire(self: &Arc<Self>) -> Option<LanePermit> {
        self.semaphore.try_acquire().ok().map(SemaphorePermit::forget)?;
        Some(LanePermit(self.clone()))
    }

    async fn acquire(self: &Arc<Self>) -> LanePermit {
        self.semaphore.acquire().await.expect("the semaphore is never closed").forget();
        LanePermit(self.clone())
    }

    fn release(&self) {
        let mut size = self.size.lock();
        match size.excess.checked_sub(1) {
            Some(excess) => size.excess = excess,
            None => self.semaphore.add_permits(1),
        }
    }

    fn set_limit(&self, limit: usize) {
        let mut size = self.size.lock();
        if let Some(added) = limit.checked_sub(size.limit) {
            let still_in_flight = size.excess.min(added);
            size.excess -= still_in_flight;
            self.semaphore.add_permits(added - still_in_flight);
        } else {
            let removed = size.limit - limit;
            size.excess += removed - self.semaphore.forget_permits(removed);
        }
        size.limit = limit;
    }

    fn in_use(&self) -> usize {
        let size = self.size.lock();
        (size.limit + size.excess).saturating_sub(self.semaphore.available_permits())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEALTHY: Share = Share { failing: false, named: true };
    const FAILING: Share = Share { failing: true, named: true };
    const ADDRESS: Share = Share { failing: false, named: false };

    #[tokio::test]
    async fn failing_endpoints_leave_permits_for_healthy_ones() {
        let permits = Permits::new();
        let failing: Vec<_> = std::iter::from_fn(|| permits.try_acquire(FAILING)).collect();
        assert_eq!(failing.len(), MAX_IN_FLIGHT_FAILING);
        let healthy: Vec<_> = std::iter::from_fn(|| permits.try_acquire(HEALTHY)).collect();
        assert_eq!(healthy.len(), MAX_IN_FLIGHT - MAX_IN_FLIGHT_FAILING);
        assert_eq!(permits.in_use(), MAX_IN_FLIGHT);
        drop(failing);
        assert!(permits.try_acquire(FAILING).is_some());
    }

    #[tokio::test]
    async fn permits_are_granted_in_fifo_order() {
        let permits = Permits::new();
        let mut held: Vec<_> = std::iter::from_fn(|| permits.try_acquire(HEALTHY)).collect();
        let mut first = Box::pin(permits.acquire(HEALTHY));
        assert!(futures::poll!(&mut first).is_pending());
        let mut second = Box::pin(permits.acquire(HEALTHY));
        assert!(futures::poll!(&mut second).is_pending());
        held.pop();
        assert!(permits.try_acquire(HEALTHY).is_none(), "waiters are not overtaken");
        assert!(futures::poll!(&mut second).is_pending());
        assert!(futures::poll!(&mut first).is_ready());
    }

    #[tokio::test]
    async fn a_lower_limit_holds_once_requests_have_finished() {
        let permits = Permits::new();
        let mut held: Vec<_> = (0..10).filter_map(|_| permits.try_acquire(HEALTHY)).collect();
        permits.set_limits(Limits { all: 1, names: MAX_IN_FLIGHT });
        assert_eq!(permits.in_use(), 10);
        let mut waiting = Box::pin(permits.acquire(HEALTHY));
        assert!(futures::poll!(&mut waiting).is_pending());
        held.truncate(1);
        assert!(futures::poll!(&mut waiting).is_pending());
        held.clear();
        assert!(futures::poll!(&mut waiting).is_ready());
        assert_eq!(permits.in_use(), 0);
        let one = permits.try_acquire(HEALTHY);
        assert!(one.is_some() && permits.try_acquire(HEALTHY).is_none());
        permits.set_limits(Limits { all: MAX_IN_FLIGHT, names: MAX_IN_FLIGHT });
        let all: Vec<_> = std::iter::from_fn(|| permits.try_acquire(HEALTHY)).collect();
        assert_eq!((all.len() + 1, permits.in_use()), (MAX_IN_FLIGHT, MAX_IN_FLIGHT));
    }

    #[tokio::test]
    async fn a_limit_that_rises_while_too_many_are_in_flight_grants_no_more() {
        let permits = Permits::new();
        let held: Vec<_> = (0..10).filter_map(|_| permits.try_acquire(HEALTHY)).collect();
        permits.set_limits(Limits { all: 1, names: MAX_IN_FLIGHT });
        permits.set_limits(Limits { all: 10, names: MAX_IN_FLIGHT });
        assert!(permits.try_acquire(HEALTHY).is_none());
        drop(held);
        assert_eq!(
            std::iter::from_fn(|| permits.try_acquire(HEALTHY)).map(std::mem::forget).count(),
            10
        );
    }

    #[tokio::test]
    async fn targets_without_names_do_not_wait_for_name_servers() {
        let permits = Permits::new();
        permits.set_limits(Limits { all: MAX_IN_FLIGHT, names: 1 });
        let name = permits.try_acquire(HEALTHY);
        assert!(name.is_some() && permits.try_acquire(FAILING).is_none());
        assert!(permits.try_acquire(ADDRESS).is_some());
    }
}
