//! Bounds the memory that buffered deliveries use on a node, over all its endpoints.
//!
//! Buffering only saves reads: a delivery or payload that does not fit in the budget is read from
//! the store when it is sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use bytes::Bytes;
use postrider_domain::event::Payload;
use postrider_domain::limits::MAX_IN_FLIGHT_PER_ENDPOINT;

/// Maximum payload bytes that a node caches with queued deliveries.
pub(crate) const MAX_CACHED_BYTES: usize = 64 * 1024 * 1024;
/// With more buffered deliveries than this on a node, at a few hundred bytes each, every endpoint
/// is limited to the small window.
const SMALL_WINDOW_THRESHOLD: usize = 256 * 1024;
/// Maximum deliveries that an actor buffers of each queue; the rest stay in the store.
pub(crate) const WINDOW: usize = 128;
/// The same when memory is tight: as many as can be in flight at once.
const SMALL_WINDOW: usize = MAX_IN_FLIGHT_PER_ENDPOINT as usize;

/// The memory in use on a node.
#[derive(Debug, Default)]
pub(crate) struct MemoryBudget {
    bytes: AtomicUsize,
    deliveries: AtomicUsize,
}

/// Counts one buffered delivery until it is dropped.
#[derive(Debug)]
pub(crate) struct BufferedSlot(Arc<MemoryBudget>);

/// A cached payload. Dropping it returns its bytes to the budget.
#[derive(Debug)]
pub(crate) struct CachedPayload {
    payload: Payload,
    budget: Arc<MemoryBudget>,
}

impl MemoryBudget {
    /// How many deliveries of a queue an actor may buffer.
    pub(crate) fn window(&self) -> usize {
        if self.deliveries.load(Relaxed) < SMALL_WINDOW_THRESHOLD { WINDOW } else { SMALL_WINDOW }
    }

    /// Counts a buffered delivery. This never fails, because the windows bound the number.
    pub(crate) fn slot(self: &Arc<Self>) -> BufferedSlot {
        self.deliveries.fetch_add(1, Relaxed);
        BufferedSlot(self.clone())
    }

    /// Caches a copy of a payload, if it fits in the budget. It is copied because the original may
    /// be a slice of a large request buffer.
    pub(crate) fn cache(self: &Arc<Self>, payload: &Payload) -> Option<CachedPayload> {
        let size = payload.bytes().len();
        let reserve =
            |bytes: usize| bytes.checked_add(size).filter(|bytes| *bytes <= MAX_CACHED_BYTES);
        self.bytes.fetch_update(Relaxed, Relaxed, reserve).ok()?;
        let payload = Payload::from_stored(Bytes::copy_from_slice(payload.bytes()));
        Some(CachedPayload { payload, budget: self.clone() })
    }
}

impl CachedPayload {
    pub(crate) fn into_payload(self) -> Payload {
        self.payload.clone()
    }
}

impl Drop for CachedPayload {
    fn drop(&mut self) {
        self.budget.bytes.fetch_sub(self.payload.bytes().len(), Relaxed);
    }
}

impl Drop for BufferedSlot {
    fn drop(&mut self) {
        self.0.deliveries.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(bytes: usize) -> Payload {
        Payload::from_stored(vec![b'1'; bytes].into())
    }

    #[test]
    fn cached_payload_bytes_are_bounded_and_returned_on_drop() {
        let budget = Arc::<MemoryBudget>::default();
        let cached: Vec<_> =
            (0..8).filter_map(|_| budget.cache(&payload(MAX_CACHED_BYTES / 4))).collect();
        assert_eq!(cached.len(), 4);
        assert!(budget.cache(&payload(1)).is_none());
        drop(cached);
        assert_eq!(budget.bytes.load(Relaxed), 0);
        assert_eq!(
            budget.cache(&payload(3)).expect("within the budget").into_payload(),
            payload(3)
        );
        assert_eq!(budget.bytes.load(Relaxed), 0);
    }

    #[test]
    fn windows_are_small_when_many_deliveries_are_buffered() {
        let budget = Arc::<MemoryBudget>::default();
        let mut slots: Vec<_> = (0..SMALL_WINDOW_THRESHOLD).map(|_| budget.slot()).collect();
        assert_eq!(budget.window(), SMALL_WINDOW);
        slots.pop();
        assert_eq!(budget.window(), WINDOW);
    }
}
