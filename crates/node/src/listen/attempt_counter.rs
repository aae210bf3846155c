//! Counts how many webhooks of each event were received, to recognise retries.

use std::collections::{HashMap, VecDeque};

/// When more events are counted, the oldest are evicted.
const MAX_EVENTS: usize = 10_000;
/// Longer IDs are truncated.
const MAX_ID_BYTES: usize = 256;

/// Counts webhooks by event ID.
#[derive(Default)]
pub struct AttemptCounter {
    attempts: HashMap<Vec<u8>, u32>,
    order: VecDeque<Vec<u8>>,
    distinct: u64,
}

impl AttemptCounter {
    /// Counts a webhook, and returns how many there have been for this event.
    pub fn count(&mut self, id: &[u8]) -> u32 {
        let id = &id[..id.len().min(MAX_ID_BYTES)];
        if let Some(attempts) = self.attempts.get_mut(id) {
            *attempts = attempts.saturating_add(1);
            return *attempts;
        }
        self.distinct += 1;
        self.attempts.insert(id.to_vec(), 1);
        self.order.push_back(id.to_vec());
        if self.order.len() > MAX_EVENTS
            && let Some(oldest) = self.order.pop_front()
        {
            self.attempts.remove(&oldest);
        }
        1
    }

    /// The number of distinct events.
    pub fn events(&self) -> u64 {
        self.distinct
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_per_event_and_bounded() {
        let mut counter = AttemptCounter::default();
        assert_eq!((counter.count(b"a"), counter.count(b"a"), counter.count(b"b")), (1, 2, 1));
        for id in 0..MAX_EVENTS {
            counter.count(&id.to_be_bytes());
        }
        assert_eq!(counter.attempts.len(), MAX_EVENTS);
        assert_eq!(counter.count(b"a"), 1, "evicted");
        assert_eq!(counter.events(), MAX_EVENTS as u64 + 3);
    }
}
