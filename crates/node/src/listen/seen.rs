//! How often each event was seen, so that a retry is recognised as one.

use std::collections::{HashMap, VecDeque};

/// Most events that are remembered; the oldest are forgotten.
const MOST: usize = 10_000;
/// Longest id that is remembered.
const MAX_ID: usize = 256;

/// Counts events by their ids.
#[derive(Default)]
pub struct Seen {
    times: HashMap<Vec<u8>, u32>,
    order: VecDeque<Vec<u8>>,
    events: u64,
}

impl Seen {
    /// How often this event has been seen, this time included.
    pub fn count(&mut self, id: &[u8]) -> u32 {
        let id = &id[..id.len().min(MAX_ID)];
        if let Some(times) = self.times.get_mut(id) {
            *times = times.saturating_add(1);
            return *times;
        }
        self.events += 1;
        self.times.insert(id.to_vec(), 1);
        self.order.push_back(id.to_vec());
        if self.order.len() > MOST
            && let Some(oldest) = self.order.pop_front()
        {
            self.times.remove(&oldest);
        }
        1
    }

    /// How many events were seen.
    pub fn events(&self) -> u64 {
        self.events
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_stays_bounded() {
        let mut seen = Seen::default();
        assert_eq!((seen.count(b"a"), seen.count(b"a"), seen.count(b"b")), (1, 2, 1));
        for id in 0..MOST {
            seen.count(&id.to_be_bytes());
        }
        assert_eq!(seen.times.len(), MOST);
        assert_eq!(seen.count(b"a"), 1, "forgotten");
        assert_eq!(seen.events(), MOST as u64 + 3);
    }
}
