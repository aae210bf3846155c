//! Bounds a node's concurrent requests and shares them fairly among endpoints.
//!
//! Each endpoint's actor waits for at most one permit at a time, and the semaphore is FIFO, so an
//! endpoint with a thousand deliveries waits as long as one with a single delivery. Failing
//! endpoints are limited to a part of the permits, so that hanging endpoints cannot starve healthy
//! ones, and so are the endpoints of one host. During and after an outage of this node the limits
//! are lower (`domain::own_outage`).

mod hosts;

use std::sync::Arc;

use parking_lot::Mutex;
use postrider_domain::own_outage::Limits;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use hosts::{Host, Hosts};

/// Maximum requests in flight on a node.
pub(crate) const MAX_IN_FLIGHT: usize = 2048;
/// Maximum requests in flight to endpoints whose latest attempt failed.
const MAX_IN_FLIGHT_FAILING: usize = 1024;
/// Maximum responses whose rest is being read when their permits have been given back.
const MAX_READING: usize = 1024;
/// Maximum attempts that have started and are not recorded yet.
pub(crate) const MAX_UNRECORDED: usize = MAX_IN_FLIGHT + MAX_READING;

#[derive(Clone)]
pub(crate) struct Permits {
    node: Arc<Lane>,
    failing: Arc<Lane>,
    names: Arc<Lane>,
    hosts: Arc<Hosts>,
    reading: Arc<Semaphore>,
}

/// Which limits, besides the node's, a request counts against.
#[derive(Clone)]
pub(crate) struct Share {
    /// That of failing endpoints: the latest attempt failed.
    pub(crate) failing: bool,
    /// That of targets whose names must be resolved. It is lowered while the name servers fail.
    pub(crate) named: bool,
    /// That of the target's host.
    pub(crate) host: Arc<Host>,
}

impl PartialEq for Share {
    fn eq(&self, other: &Self) -> bool {
        let Self { failing, named, host } = other;
        self.failing == *failing && self.named == *named && Arc::ptr_eq(&self.host, host)
    }
}

/// The right to make one request, released on drop.
pub(crate) struct Permit {
    share: Share,
    _host: [Option<LanePermit>; 2],
    node: [Option<LanePermit>; 3],
    reading: Reading,
}

/// The right to read the rest of a response.
enum Reading {
    NotYet(Arc<Semaphore>),
    Now { _permit: OwnedSemaphorePermit },
}

impl Permit {
    /// What it counts against.
    pub(crate) fn share(&self) -> &Share {
        &self.share
    }

    /// Gives the node's share back once the response's status is known, so that the rest of the
    /// response holds up nobody, and keeps that of the host, whose connection it uses. Returns
    /// false, and keeps all, if too many responses are being read.
    pub(crate) fn begin_reading(&mut self) -> bool {
        let Reading::NotYet(reading) = &self.reading else { return true };
        let Ok(permit) = reading.clone().try_acquire_owned() else { return false };
        self.reading = Reading::Now { _permit: permit };
        self.node = [const { None }; 3];
        true
    }
}

impl Permits {
    /// With at most `per_host` requests in flight to one host.
    pub(crate) fn new(per_host: usize) -> Self {
        Self {
            node: Lane::new(MAX_IN_FLIGHT),
            failing: Lane::new(MAX_IN_FLIGHT_FAILING),
            names: Lane::new(MAX_IN_FLIGHT),
            hosts: Arc::new(Hosts::new(per_host)),
            reading: Arc::new(Semaphore::new(MAX_READING)),
        }
    }

    /// The limits of a host.
    pub(crate) fn host(&self, name: &str, port: u16) -> Arc<Host> {
        self.hosts.get(name, port)
    }

    /// The node's lanes of a share, in the order in which they are waited for.
    fn lanes(&self, share: &Share) -> [Option<&Arc<Lane>>; 3] {
        [
            share.failing.then_some(&self.failing),
            share.named.then_some(&self.names),
            Some(&self.node),
        ]
    }

    /// Returns a permit if one is free and nobody is waiting.
    pub(crate) fn try_acquire(&self, share: Share) -> Option<Permit> {
        let host = try_acquire(share.host.lanes(share.failing))?;
        let node = try_acquire(self.lanes(&share))?;
        Some(self.permit(share, host, node))
    }

    /// Waits for a permit, in FIFO order. First for the host's, so that a host that is busy takes
    /// nothing from the others.
    pub(crate) async fn acquire(&self, share: Share) -> Permit {
        let host = acquire(share.host.lanes(share.failing)).await;
        let node = acquire(self.lanes(&share)).await;
        self.permit(share, host, node)
    }

    fn permit(
        &self,
        share: Share,
        host: [Option<LanePermit>; 2],
        node: [Option<LanePermit>; 3],
    ) -> Permit {
        Permit { share, _host: host, node, reading: Reading::NotYet(self.reading.clone()) }
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

fn try_acquire<const N: usize>(lanes: [Option<&Arc<Lane>>; N]) -> Option<[Option<LanePermit>; N]> {
    let mut permits = [const { None }; N];
    for (permit, lane) in permits.iter_mut().zip(lanes) {
        if let Some(lane) = lane {
            *permit = Some(lane.try_acquire()?);
        }
    }
    Some(permits)
}

async fn acquire<const N: usize>(lanes: [Option<&Arc<Lane>>; N]) -> [Option<LanePermit>; N] {
    let mut permits = [const { None }; N];
    for (permit, lane) in permits.iter_mut().zip(lanes) {
        if let Some(lane) = lane {
            *permit = Some(lane.acquire().await);
        }
    }
    permits
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
mod tests;
