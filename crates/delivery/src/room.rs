//! How much the deliveries at hand take up on a node, those of all its endpoints together.
//!
//! What an endpoint's actor has at hand saves reading, and no more than that: where there is no room
//! for it, it is read from the store when its turn comes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use bytes::Bytes;
use postrider_domain::event::Payload;
use postrider_domain::limits::MAX_IN_FLIGHT_PER_ENDPOINT;

/// Most bytes of payloads that a node keeps with waiting deliveries.
pub(crate) const KEPT_BYTES: usize = 64 * 1024 * 1024;
/// Beyond so many deliveries at hand on a node, a few hundred bytes each, every endpoint makes do
/// with a small window.
const AT_HAND: usize = 256 * 1024;
/// Most deliveries that an actor has at hand of each queue; the rest wait in the store.
pub(crate) const WINDOW: usize = 128;
/// The same where there is little room: what can be in flight at once.
const SMALL_WINDOW: usize = MAX_IN_FLIGHT_PER_ENDPOINT as usize;

/// The room of a node.
#[derive(Debug, Default)]
pub(crate) struct Room {
    bytes: AtomicUsize,
    deliveries: AtomicUsize,
}

/// A place for one delivery. It is given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Place(Arc<Room>);

/// A payload that is kept. Its room is given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Kept {
    payload: Payload,
    room: Arc<Room>,
}

impl Room {
    /// How many deliveries of a queue an actor may have at hand.
    pub(crate) fn window(&self) -> usize {
        if self.deliveries.load(Relaxed) < AT_HAND { WINDOW } else { SMALL_WINDOW }
    }

    /// Takes a place for a delivery. There always is one: the windows bound them.
    pub(crate) fn place(self: &Arc<Self>) -> Place {
        self.deliveries.fetch_add(1, Relaxed);
        Place(self.clone())
    }

    /// Keeps a copy of a payload, if there is room for it. A copy, since the given one may be a
    /// small part of a large request.
    pub(crate) fn keep(self: &Arc<Self>, payload: &Payload) -> Option<Kept> {
        let size = payload.bytes().len();
        let with = |kept: usize| kept.checked_add(size).filter(|kept| *kept <= KEPT_BYTES);
        self.bytes.fetch_update(Relaxed, Relaxed, with).ok()?;
        let payload = Payload::from_stored(Bytes::copy_from_slice(payload.bytes()));
        Some(Kept { payload, room: self.clone() })
    }
}

impl Kept {
    /// The payload, to be sent.
    pub(crate) fn take(self) -> Payload {
        self.payload.clone()
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.room.bytes.fetch_sub(self.payload.bytes().len(), Relaxed);
    }
}

impl Drop for Place {
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
    fn kept_payloads_are_bounded_and_their_room_is_given_back() {
        let room = Arc::<Room>::default();
        let kept: Vec<_> = (0..8).filter_map(|_| room.keep(&payload(KEPT_BYTES / 4))).collect();
        assert_eq!(kept.len(), 4);
        assert!(room.keep(&payload(1)).is_none());
        drop(kept);
        assert_eq!(room.bytes.load(Relaxed), 0);
        assert_eq!(room.keep(&payload(3)).expect("there is room").take(), payload(3));
        assert_eq!(room.bytes.load(Relaxed), 0);
    }

    #[test]
    fn where_many_deliveries_are_at_hand_windows_are_small() {
        let room = Arc::<Room>::default();
        let mut places: Vec<_> = (0..AT_HAND).map(|_| room.place()).collect();
        assert_eq!(room.window(), SMALL_WINDOW);
        places.pop();
        assert_eq!(room.window(), WINDOW);
    }
}
