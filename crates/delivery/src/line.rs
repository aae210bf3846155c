//! The deliveries that an endpoint's actor has at hand, in the order in which they are to be
//! sent: the beginnings of the endpoint's queues, kept in memory.
//!
//! In parallel order, a retry that is due goes before first attempts, and of several the one of
//! the oldest delivery: however much comes for an endpoint that fails, what was first keeps its
//! schedule, and the endpoint is disabled in time.
//!
//! What the store holds decides. A wake may bring a delivery along, which saves reading it, but
//! only one that this line cannot have seen already; any other wake is a hint to read again.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use postrider_domain::delivery::Delivery;
use postrider_domain::endpoint::Ordering;
use postrider_domain::ids::{self, DeliveryId};
use postrider_domain::time::Timestamp;
use postrider_domain::trace::TraceContext;
use postrider_store::{Head, Ready};

use crate::room::{Kept, Place, Room};

/// Largest payload that is kept with a waiting delivery; a larger one is read when it is sent.
pub(crate) const PAYLOAD_KEPT: usize = 8 * 1024;
/// How many windows of ids that wakes brought are remembered between two reads.
const SEEN_WINDOWS: usize = 4;

/// The beginnings of an endpoint's queues.
pub(crate) struct Line {
    room: Arc<Room>,
    ordering: Ordering,
    /// Empty in strict order.
    retries: Queue,
    /// First attempts; in strict order, everything.
    firsts: Queue,
    /// Something has come that is not at hand.
    stale: bool,
    /// No delivery up to this one is new: a read has seen it, if it was there.
    read_through: DeliveryId,
    /// Later ones that wakes brought since, with their traces.
    seen: HashMap<DeliveryId, Option<TraceContext>>,
}

/// The beginning of one queue.
#[derive(Default)]
struct Queue {
    entries: BTreeMap<(Timestamp, DeliveryId), Entry>,
    /// The store has deliveries beyond those at hand.
    more: bool,
}

/// A delivery at hand.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) delivery: Delivery,
    pub(crate) due: Timestamp,
    pub(crate) payload: Option<Kept>,
    /// The trace that it is in, while that is known: until its first attempt.
    pub(crate) trace: Option<TraceContext>,
    _place: Place,
}

impl Line {
    /// A line that has to be read.
    pub(crate) fn new(room: Arc<Room>) -> Self {
        Self {
            room,
            ordering: Ordering::Parallel,
            retries: Queue::default(),
            firsts: Queue::default(),
            stale: true,
            read_through: DeliveryId::MIN,
            seen: HashMap::new(),
        }
    }

    /// How many deliveries of each queue it may have at hand now.
    pub(crate) fn window(&self) -> usize {
        self.room.window()
    }

    /// Takes what was read from the store at `now`, but for what is in flight.
    pub(crate) fn load(
        &mut self,
        ordering: Ordering,
        retries: Head,
        firsts: Head,
        in_flight: &HashSet<DeliveryId>,
        now: Timestamp,
    ) {
        self.ordering = ordering;
        // Ids that wakes brought may be ahead of this node's clock, and may have been sent by now.
        let read = retries.deliveries.iter().chain(&firsts.deliveries).map(|delivery| delivery.id);
        let newest = read.chain(self.seen.keys().copied()).max();
        let made_by_now = ids::floor(now.plus(Duration::from_millis(1)));
        self.read_through =
            self.read_through.max(made_by_now).max(newest.unwrap_or(DeliveryId::MIN));
        self.stale = false;
        let Self { room, seen, .. } = self;
        self.retries.load(room, retries, ordering, in_flight, seen);
        self.firsts.load(room, firsts, ordering, in_flight, seen);
        self.seen.clear();
    }

    /// Forgets what is at hand; it has to be read again.
    pub(crate) fn invalidate(&mut self) {
        self.retries = Queue::default();
        self.firsts = Queue::default();
        self.stale = true;
    }

    /// A hint that something may have come.
    pub(crate) fn hint(&mut self) {
        self.stale = true;
    }

    /// A delivery that was just accepted.
    pub(crate) fn offer(&mut self, ready: Ready) {
        let Ready { delivery, payload, trace } = ready;
        let new = delivery.id > self.read_through && self.seen.insert(delivery.id, trace).is_none();
        if self.seen.len() > SEEN_WINDOWS * self.window() {
            let newest = self.seen.drain().map(|(id, _)| id).max().unwrap_or(self.read_through);
            self.read_through = self.read_through.max(newest);
            self.stale = true;
        }
        // In strict order an earlier one may be under way to us, so only the store tells.
        if !new || self.ordering == Ordering::Strict {
            self.stale |= !self.firsts.holds(delivery.id);
            return;
        }
        let keeps = payload.bytes().len() <= PAYLOAD_KEPT;
        let kept = keeps.then(|| self.room.keep(&payload)).flatten();
        self.firsts.insert(&self.room, delivery, self.ordering, kept, trace);
    }

    /// A delivery that failed and has another attempt.
    pub(crate) fn put_back(&mut self, delivery: Delivery) {
        match self.ordering {
            Ordering::Parallel => {
                self.retries.insert(&self.room, delivery, self.ordering, None, None);
            }
            Ordering::Strict => self.firsts.insert(&self.room, delivery, self.ordering, None, None),
        }
    }

    /// The delivery that is to be sent next, if one is due.
    pub(crate) fn pop_due(&mut self, now: Timestamp) -> Option<Entry> {
        self.retries.pop_oldest_due(now).or_else(|| self.firsts.pop_first_due(now))
    }

    /// When the first delivery at hand is due, as seen at `now`.
    pub(crate) fn next_due(&self, now: Timestamp) -> Option<Timestamp> {
        [self.retries.next_due(now), self.firsts.next_due(now)].into_iter().flatten().min()
    }

    /// Whether the store has to be read before the next delivery can be chosen at `now`.
    pub(crate) fn wants_read(&self, now: Timestamp) -> bool {
        let nothing_due = self.next_due(now).is_none_or(|due| due > now);
        let stale = self.stale && (nothing_due || self.ordering == Ordering::Strict);
        stale || self.retries.is_used_up() || self.firsts.is_used_up()
    }
}

impl Entry {
    /// When it is due, as seen at `now`. A first attempt is due at once, whatever the clock of the
    /// node said that accepted it.
    fn due(&self, now: Timestamp) -> Timestamp {
        match self.delivery.attempt_count {
            0 => self.due.min(now),
            _ => self.due,
        }
    }
}

impl Queue {
    fn load(
        &mut self,
        room: &Arc<Room>,
        head: Head,
        ordering: Ordering,
        in_flight: &HashSet<DeliveryId>,
        seen: &HashMap<DeliveryId, Option<TraceContext>>,
    ) {
        let mut before = std::mem::take(&mut self.entries);
        self.more = head.more;
        for delivery in head.deliveries {
            if let Some(due) = delivery.due().filter(|_| !in_flight.contains(&delivery.id)) {
                let key = key(ordering, due, delivery.id);
                let (payload, trace) = match before.remove(&key) {
                    Some(entry) => (entry.payload, entry.trace),
                    None => (None, seen.get(&delivery.id).copied().flatten()),
                };
                let entry = Entry { delivery, due, payload, trace, _place: room.place() };
                self.entries.insert(key, entry);
            }
        }
    }

    fn insert(
        &mut self,
        room: &Arc<Room>,
        delivery: Delivery,
        ordering: Ordering,
        payload: Option<Kept>,
        trace: Option<TraceContext>,
    ) {
        let Some(due) = delivery.due() else { return };
        let key = key(ordering, due, delivery.id);
        // Behind what is at hand there may be earlier ones in the store.
        let behind = self.entries.last_key_value().is_none_or(|(last, _)| key > *last);
        if self.more && behind {
            return;
        }
        self.entries.insert(key, Entry { delivery, due, payload, trace, _place: room.place() });
        if self.entries.len() > room.window() {
            self.entries.pop_last();
            self.more = true;
        }
    }

    /// Of all that are due, the oldest.
    fn pop_oldest_due(&mut self, now: Timestamp) -> Option<Entry> {
        let due = self.entries.range(..=(now, DeliveryId::MAX));
        let oldest = due.map(|(key, _)| *key).min_by_key(|(_, id)| *id)?;
        self.entries.remove(&oldest)
    }

    /// The first in line, if it is due.
    fn pop_first_due(&mut self, now: Timestamp) -> Option<Entry> {
        let first = self.entries.first_entry()?;
        (first.get().due(now) <= now).then(|| first.remove())
    }

    fn next_due(&self, now: Timestamp) -> Option<Timestamp> {
        self.entries.first_key_value().map(|(_, entry)| entry.due(now))
    }

    fn holds(&self, id: DeliveryId) -> bool {
        self.entries.values().any(|entry| entry.delivery.id == id)
    }

    fn is_used_up(&self) -> bool {
        self.more && self.entries.is_empty()
    }
}

fn key(ordering: Ordering, due: Timestamp, id: DeliveryId) -> (Timestamp, DeliveryId) {
    match ordering {
        Ordering::Parallel => (due, id),
        Ordering::Strict => (Timestamp::EPOCH, id),
    }
}

#[cfg(test)]
mod tests {
    use postrider_domain::delivery::Progress;
    use postrider_domain::event::{EventTypeName, Payload};
    use postrider_domain::ids::{AccountId, EndpointId, EventId, Mint};

    use super::*;
    use crate::room::{KEPT_BYTES, WINDOW};

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn delivery(mint: &Mint, made: u64, due: u64) -> Delivery {
        let created_at = Timestamp::from_millis(made);
        Delivery {
            id: mint.id(created_at),
            account: AccountId::MIN,
            event: EventId::MIN,
            event_type: EventTypeName::parse("a").expect("a name"),
            endpoint: EndpointId::MIN,
            created_at,
            attempt_count: 1,
            first_attempt_at: None,
            progress: Progress::Pending { due: Timestamp::from_millis(due) },
        }
    }

    fn ready(delivery: Delivery) -> Ready {
        Ready { delivery, payload: Payload::from_stored("{}".into()), trace: traced() }
    }

    fn traced() -> Option<TraceContext> {
        TraceContext::new([7; 16], [7; 8], 1)
    }

    fn loaded(ordering: Ordering, deliveries: Vec<Delivery>, more: bool) -> Line {
        let mut line = Line::new(Arc::default());
        let firsts = Head { deliveries, more };
        line.load(ordering, Head::default(), firsts, &HashSet::new(), NOW);
        line
    }

    fn ids(line: &mut Line, now: Timestamp) -> Vec<DeliveryId> {
        std::iter::from_fn(|| line.pop_due(now)).map(|entry| entry.delivery.id).collect()
    }

    #[test]
    fn parallel_is_oldest_due_first_and_strict_is_oldest_first() {
        let mint = Mint::new();
        let (first, second) = (delivery(&mint, 1, 900_000), delivery(&mint, 2, 800_000));
        let both = vec![first.clone(), second.clone()];
        assert_eq!(
            ids(&mut loaded(Ordering::Parallel, both.clone(), false), NOW),
            [second.id, first.id]
        );
        assert_eq!(ids(&mut loaded(Ordering::Strict, both, false), NOW), [first.id, second.id]);
    }

    #[test]
    fn due_retries_go_first_and_of_them_the_oldest_delivery() {
        let mint = Mint::new();
        let (oldest, newer, new) =
            (delivery(&mint, 1, 900_000), delivery(&mint, 2, 800_000), delivery(&mint, 3, 3));
        let mut line = loaded(Ordering::Parallel, vec![new.clone()], false);
        line.put_back(newer.clone());
        line.put_back(oldest.clone());
        line.put_back(delivery(&mint, 0, NOW.millis() + 1));
        assert_eq!(ids(&mut line, NOW), [oldest.id, newer.id, new.id]);
        assert_eq!(line.next_due(NOW), Some(NOW.plus(Duration::from_millis(1))));
    }

    #[test]
    fn a_first_attempt_does_not_wait_for_the_clock_of_another_node() {
        let mint = Mint::new();
        let hour = NOW.plus(Duration::from_secs(3600));
        for ordering in [Ordering::Parallel, Ordering::Strict] {
            let ahead = Delivery { attempt_count: 0, ..delivery(&mint, 1, hour.millis()) };
            let mut line = loaded(ordering, vec![ahead.clone()], false);
            assert_eq!(line.next_due(NOW), Some(NOW));
            assert_eq!(ids(&mut line, NOW), [ahead.id]);
            let mut line = loaded(ordering, vec![delivery(&mint, 1, hour.millis())], false);
            assert_eq!(line.next_due(NOW), Some(hour), "a retry does");
            assert!(line.pop_due(NOW).is_none());
        }
    }

    #[test]
    fn in_strict_order_a_waiting_delivery_holds_back_the_later_ones() {
        let mint = Mint::new();
        let deliveries = vec![delivery(&mint, 1, 2_000_000), delivery(&mint, 2, 1)];
        let mut line = loaded(Ordering::Strict, deliveries, false);
        assert!(line.pop_due(NOW).is_none());
        assert_eq!(line.next_due(NOW), Some(Timestamp::from_millis(2_000_000)));
    }

    #[test]
    fn what_a_read_may_have_seen_is_only_a_hint() {
        let mint = Mint::new();
        let old = delivery(&mint, NOW.millis(), 1);
        let new = delivery(&mint, NOW.millis() + 5, 1);
        let mut line = loaded(Ordering::Parallel, vec![], false);
        line.offer(ready(old));
        assert!(line.pop_due(NOW).is_none() && line.wants_read(NOW));
        let mut line = loaded(Ordering::Parallel, vec![], false);
        line.offer(ready(new.clone()));
        assert_eq!(line.pop_due(NOW).map(|entry| entry.delivery.id), Some(new.id));
        line.offer(ready(new));
        assert!(line.pop_due(NOW).is_none(), "the same wake twice is one delivery");
    }

    #[test]
    fn what_was_sent_is_not_new_again_though_its_id_is_ahead_of_the_clock() {
        let mint = Mint::new();
        let mut line = loaded(Ordering::Parallel, vec![], false);
        let ahead =
            Delivery { attempt_count: 0, ..delivery(&mint, NOW.millis() + 60_000, NOW.millis()) };
        line.offer(ready(ahead.clone()));
        assert_eq!(ids(&mut line, NOW), [ahead.id]);
        line.load(Ordering::Parallel, Head::default(), Head::default(), &HashSet::new(), NOW);
        line.offer(ready(ahead));
        assert!(ids(&mut line, NOW).is_empty(), "only the store tells");
        assert!(line.wants_read(NOW));
    }

    #[test]
    fn a_trace_lasts_through_reads_until_the_first_attempt() {
        let mint = Mint::new();
        let new = delivery(&mint, NOW.millis() + 5, 1);
        for ordering in [Ordering::Parallel, Ordering::Strict] {
            let mut line = loaded(ordering, vec![], false);
            line.offer(ready(new.clone()));
            let firsts = Head { deliveries: vec![new.clone()], more: false };
            line.load(ordering, Head::default(), firsts, &HashSet::new(), NOW);
            let entry = line.pop_due(NOW).expect("at hand");
            assert_eq!(entry.trace, traced(), "{ordering:?}");
            line.put_back(entry.delivery);
            assert_eq!(line.pop_due(NOW).expect("at hand").trace, None);
        }
    }

    #[test]
    fn what_is_in_flight_is_not_loaded() {
        let mint = Mint::new();
        let flying = delivery(&mint, 1, 1);
        let mut line = Line::new(Arc::default());
        let in_flight = HashSet::from([flying.id]);
        let firsts = Head { deliveries: vec![flying], more: false };
        line.load(Ordering::Parallel, Head::default(), firsts, &in_flight, NOW);
        assert!(line.pop_due(NOW).is_none());
    }

    #[test]
    fn behind_the_window_the_store_comes_first() {
        let mint = Mint::new();
        let mut line = loaded(Ordering::Parallel, vec![delivery(&mint, 1, 10)], true);
        line.offer(ready(delivery(&mint, NOW.millis() + 5, 20)));
        assert_eq!(ids(&mut line, NOW).len(), 1);
        assert!(line.wants_read(NOW));
    }

    #[test]
    fn the_window_is_bounded() {
        let mint = Mint::new();
        let mut line = loaded(Ordering::Parallel, vec![], false);
        for _ in 0..2 * WINDOW {
            line.offer(ready(delivery(&mint, NOW.millis() + 5, 20)));
        }
        assert_eq!(ids(&mut line, NOW).len(), WINDOW);
        assert!(line.wants_read(NOW));
    }

    #[test]
    fn payloads_are_kept_while_the_node_has_room_and_read_otherwise() {
        const LARGEST: usize = PAYLOAD_KEPT;
        let (mint, room) = (Mint::new(), Arc::<Room>::default());
        let mut lines: Vec<_> = (0..1_000).map(|_| Line::new(room.clone())).collect();
        for line in &mut lines {
            line.load(Ordering::Parallel, Head::default(), Head::default(), &HashSet::new(), NOW);
            for _ in 0..16 {
                let delivery = delivery(&mint, NOW.millis() + 5, 20);
                let payload = Payload::from_stored(vec![b'1'; LARGEST].into());
                line.offer(Ready { delivery, payload, trace: None });
            }
        }
        let entries = lines.iter_mut().flat_map(|line| std::iter::from_fn(|| line.pop_due(NOW)));
        let entries: Vec<_> = entries.collect();
        assert_eq!(entries.len(), 16_000, "all are at hand");
        let kept = entries.iter().filter(|entry| entry.payload.is_some()).count();
        assert_eq!(kept, KEPT_BYTES / LARGEST);
    }
}
