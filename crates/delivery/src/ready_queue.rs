//! The deliveries that an endpoint's actor has buffered, in sending order: the heads of the
//! endpoint's stored queues, cached in memory.
//!
//! In parallel order, due retries go before first attempts, the oldest delivery first. However many
//! events a failing endpoint receives, its oldest deliveries keep their schedule, and the endpoint
//! is disabled in time.
//!
//! The store is the source of truth. A wake may carry a delivery, which saves a read, but it is
//! used only if this queue cannot have seen it already. Any other wake is a hint to read again.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use postrider_domain::delivery::Delivery;
use postrider_domain::endpoint::Ordering;
use postrider_domain::ids::{self, DeliveryId};
use postrider_domain::time::Timestamp;
use postrider_domain::trace::TraceContext;
use postrider_store::{QueuePage, Ready};

use crate::memory_budget::{BufferedSlot, CachedPayload, MemoryBudget};

/// Largest payload that is cached with a queued delivery; a larger one is read when it is sent.
pub(crate) const MAX_CACHED_PAYLOAD_BYTES: usize = 8 * 1024;
/// How many windows of ids received with wakes are remembered between two reads.
const MAX_SEEN_WINDOWS: usize = 4;

/// The heads of an endpoint's queues.
pub(crate) struct ReadyQueue {
    budget: Arc<MemoryBudget>,
    ordering: Ordering,
    /// Empty in strict order.
    retries: QueueHead,
    /// First attempts; in strict order, everything.
    firsts: QueueHead,
    /// The store may have deliveries that are missing here.
    stale: bool,
    /// No delivery up to this id is new: if it existed, a read has seen it.
    read_through: DeliveryId,
    /// Later ids received with wakes since the last read, with their traces.
    seen: HashMap<DeliveryId, Option<TraceContext>>,
}

/// The head of one queue.
#[derive(Default)]
struct QueueHead {
    entries: BTreeMap<(Timestamp, DeliveryId), Entry>,
    /// The store has more deliveries than the buffered ones.
    more: bool,
}

/// A buffered delivery.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) delivery: Delivery,
    pub(crate) due: Timestamp,
    pub(crate) payload: Option<CachedPayload>,
    /// Its trace, known until the first attempt.
    pub(crate) trace: Option<TraceContext>,
    _slot: BufferedSlot,
}

impl ReadyQueue {
    /// An empty queue that has to be loaded.
    pub(crate) fn new(budget: Arc<MemoryBudget>) -> Self {
        Self {
            budget,
            ordering: Ordering::Parallel,
            retries: QueueHead::default(),
            firsts: QueueHead::default(),
            stale: true,
            read_through: DeliveryId::MIN,
            seen: HashMap::new(),
        }
    }

    /// How many deliveries of each queue may be buffered now.
    pub(crate) fn window(&self) -> usize {
        self.budget.window()
    }

    /// Replaces the contents with the deliveries read from the store at `now`, except those in
    /// flight.
    pub(crate) fn load(
        &mut self,
        ordering: Ordering,
        retries: QueuePage,
        firsts: QueuePage,
        in_flight: &HashSet<DeliveryId>,
        now: Timestamp,
    ) {
        self.ordering = ordering;
        // Deliveries received with wakes may have ids ahead of this node's clock, and may have been
        // sent already.
        let read = retries.deliveries.iter().chain(&firsts.deliveries).map(|delivery| delivery.id);
        let newest = read.chain(self.seen.keys().copied()).max();
        let made_by_now = ids::floor(now.plus(Duration::from_millis(1)));
        self.read_through =
            self.read_through.max(made_by_now).max(newest.unwrap_or(DeliveryId::MIN));
        self.stale = false;
        let Self { budget, seen, .. } = self;
        self.retries.load(budget, retries, ordering, in_flight, seen);
        self.firsts.load(budget, firsts, ordering, in_flight, seen);
        self.seen.clear();
    }

    /// Drops all buffered deliveries; they have to be read again.
    pub(crate) fn invalidate(&mut self) {
        self.retries = QueueHead::default();
        self.firsts = QueueHead::default();
        self.stale = true;
    }

    /// Notes that the store may have new deliveries.
    pub(crate) fn mark_stale(&mut self) {
        self.stale = true;
    }

    /// Adds a delivery that was just accepted.
    pub(crate) fn offer(&mut self, ready: Ready) {
        let Ready { delivery, payload, trace } = ready;
        let new = delivery.id > self.read_through && self.seen.insert(delivery.id, trace).is_none();
        if self.seen.len() > MAX_SEEN_WINDOWS * self.window() {
            let newest = self.seen.drain().map(|(id, _)| id).max().unwrap_or(self.read_through);
            self.read_through = self.read_through.max(newest);
            self.stale = true;
        }
        // In strict order an earlier delivery may still be on its way here, so only the store
        // decides.
        if !new || self.ordering == Ordering::Strict {
            self.stale |= !self.firsts.contains(delivery.id);
            return;
        }
        let cacheable = payload.bytes().len() <= MAX_CACHED_PAYLOAD_BYTES;
        let cached = cacheable.then(|| self.budget.cache(&payload)).flatten();
        self.firsts.insert(&self.budget, delivery, self.ordering, cached, trace);
    }

    /// Adds a delivery that failed and will be retried.
    pub(crate) fn requeue(&mut self, delivery: Delivery) {
        match self.ordering {
            Ordering::Parallel => {
                self.retries.insert(&self.budget, delivery, self.ordering, None, None);
            }
            Ordering::Strict => {
                self.firsts.insert(&self.budget, delivery, self.ordering, None, None)
            }
        }
    }

    /// Removes the next delivery to send, if one is due.
    pub(crate) fn pop_due(&mut self, now: Timestamp) -> Option<Entry> {
        self.retries.pop_oldest_due(now).or_else(|| self.firsts.pop_first_due(now))
    }

    /// When the first buffered delivery is due, as seen at `now`.
    pub(crate) fn next_due(&self, now: Timestamp) -> Option<Timestamp> {
        [self.retries.next_due(now), self.firsts.next_due(now)].into_iter().flatten().min()
    }

    /// Whether the store has to be read before the next delivery can be chosen at `now`.
    pub(crate) fn needs_read(&self, now: Timestamp) -> bool {
        let nothing_due = self.next_due(now).is_none_or(|due| due > now);
        let stale = self.stale && (nothing_due || self.ordering == Ordering::Strict);
        stale || self.retries.is_exhausted() || self.firsts.is_exhausted()
    }
}

impl Entry {
    /// When it is due, as seen at `now`. A first attempt is due at once, whatever time the accepting
    /// node's clock showed.
    fn due(&self, now: Timestamp) -> Timestamp {
        match self.delivery.attempt_count {
            0 => self.due.min(now),
            _ => self.due,
        }
    }
}

impl QueueHead {
    fn load(
        &mut self,
        budget: &Arc<MemoryBudget>,
        head: QueuePage,
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
                let entry = Entry { delivery, due, payload, trace, _slot: budget.slot() };
                self.entries.insert(key, entry);
            }
        }
    }

    fn insert(
        &mut self,
        budget: &Arc<MemoryBudget>,
        delivery: Delivery,
        ordering: Ordering,
        payload: Option<CachedPayload>,
        trace: Option<TraceContext>,
    ) {
        let Some(due) = delivery.due() else { return };
        let key = key(ordering, due, delivery.id);
        // The store may have deliveries between the last buffered one and this one.
        let past_the_end = self.entries.last_key_value().is_none_or(|(last, _)| key > *last);
        if self.more && past_the_end {
            return;
        }
        self.entries.insert(key, Entry { delivery, due, payload, trace, _slot: budget.slot() });
        if self.entries.len() > budget.window() {
            self.entries.pop_last();
            self.more = true;
        }
    }

    /// Removes the oldest of all due deliveries.
    fn pop_oldest_due(&mut self, now: Timestamp) -> Option<Entry> {
        let due = self.entries.range(..=(now, DeliveryId::MAX));
        let oldest = due.map(|(key, _)| *key).min_by_key(|(_, id)| *id)?;
        self.entries.remove(&oldest)
    }

    /// Removes the first delivery, if it is due.
    fn pop_first_due(&mut self, now: Timestamp) -> Option<Entry> {
        let first = self.entries.first_entry()?;
        (first.get().due(now) <= now).then(|| first.remove())
    }

    fn next_due(&self, now: Timestamp) -> Option<Timestamp> {
        self.entries.first_key_value().map(|(_, entry)| entry.due(now))
    }

    fn contains(&self, id: DeliveryId) -> bool {
        self.entries.values().any(|entry| entry.delivery.id == id)
    }

    fn is_exhausted(&self) -> bool {
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
    use postrider_domain::delivery::{Progress, Schedule};
    use postrider_domain::event::{EventTypeName, Payload};
    use postrider_domain::ids::{AccountId, EndpointId, EventId, IdGenerator};

    use super::*;
    use crate::memory_budget::{MAX_CACHED_BYTES, WINDOW};

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn delivery(id_generator: &IdGenerator, made: u64, due: u64) -> Delivery {
        let created_at = Timestamp::from_millis(made);
        Delivery {
            id: id_generator.id(created_at),
            account: AccountId::MIN,
            event: EventId::MIN,
            event_type: EventTypeName::parse("a").expect("a name"),
            endpoint: EndpointId::MIN,
            created_at,
            attempt_count: 1,
            first_attempt_at: None,
            schedule: Schedule::default(),
            progress: Progress::Pending { due: Timestamp::from_millis(due) },
        }
    }

    fn ready(delivery: Delivery) -> Ready {
        Ready { delivery, payload: Payload::from_stored("{}".into()), trace: traced() }
    }

    fn traced() -> Option<TraceContext> {
        TraceContext::new([7; 16], [7; 8], 1)
    }

    fn loaded(ordering: Ordering, deliveries: Vec<Delivery>, more: bool) -> ReadyQueue {
        let mut queue = ReadyQueue::new(Arc::default());
        let firsts = QueuePage { deliveries, more };
        queue.load(ordering, QueuePage::default(), firsts, &HashSet::new(), NOW);
        queue
    }

    fn ids(queue: &mut ReadyQueue, now: Timestamp) -> Vec<DeliveryId> {
        std::iter::from_fn(|| queue.pop_due(now)).map(|entry| entry.delivery.id).collect()
    }

    #[test]
    fn parallel_is_oldest_due_first_and_strict_is_oldest_first() {
        let id_generator = IdGenerator::new(1);
        let (first, second) =
            (delivery(&id_generator, 1, 900_000), delivery(&id_generator, 2, 800_000));
        let both = vec![first.clone(), second.clone()];
        assert_eq!(
            ids(&mut loaded(Ordering::Parallel, both.clone(), false), NOW),
            [second.id, first.id]
        );
        assert_eq!(ids(&mut loaded(Ordering::Strict, both, false), NOW), [first.id, second.id]);
    }

    #[test]
    fn due_retries_go_first_oldest_delivery_first() {
        let id_generator = IdGenerator::new(1);
        let (oldest, newer, new) = (
            delivery(&id_generator, 1, 900_000),
            delivery(&id_generator, 2, 800_000),
            delivery(&id_generator, 3, 3),
        );
        let mut queue = loaded(Ordering::Parallel, vec![new.clone()], false);
        queue.requeue(newer.clone());
        queue.requeue(oldest.clone());
        queue.requeue(delivery(&id_generator, 0, NOW.millis() + 1));
        assert_eq!(ids(&mut queue, NOW), [oldest.id, newer.id, new.id]);
        assert_eq!(queue.next_due(NOW), Some(NOW.plus(Duration::from_millis(1))));
    }

    #[test]
    fn a_first_attempt_is_due_at_once_whatever_the_accepting_nodes_clock_said() {
        let id_generator = IdGenerator::new(1);
        let hour = NOW.plus(Duration::from_secs(3600));
        for ordering in [Ordering::Parallel, Ordering::Strict] {
            let ahead = Delivery { attempt_count: 0, ..delivery(&id_generator, 1, hour.millis()) };
            let mut queue = loaded(ordering, vec![ahead.clone()], false);
            assert_eq!(queue.next_due(NOW), Some(NOW));
            assert_eq!(ids(&mut queue, NOW), [ahead.id]);
            let mut queue =
                loaded(ordering, vec![delivery(&id_generator, 1, hour.millis())], false);
            assert_eq!(queue.next_due(NOW), Some(hour), "a retry waits");
            assert!(queue.pop_due(NOW).is_none());
        }
    }

    #[test]
    fn in_strict_order_a_delivery_that_is_not_due_blocks_later_ones() {
        let id_generator = IdGenerator::new(1);
        let deliveries = vec![delivery(&id_generator, 1, 2_000_000), delivery(&id_generator, 2, 1)];
        let mut queue = loaded(Ordering::Strict, deliveries, false);
        assert!(queue.pop_due(NOW).is_none());
        assert_eq!(queue.next_due(NOW), Some(Timestamp::from_millis(2_000_000)));
    }

    #[test]
    fn a_delivery_that_a_read_may_have_seen_is_only_a_hint() {
        let id_generator = IdGenerator::new(1);
        let old = delivery(&id_generator, NOW.millis(), 1);
        let new = delivery(&id_generator, NOW.millis() + 5, 1);
        let mut queue = loaded(Ordering::Parallel, vec![], false);
        queue.offer(ready(old));
        assert!(queue.pop_due(NOW).is_none() && queue.needs_read(NOW));
        let mut queue = loaded(Ordering::Parallel, vec![], false);
        queue.offer(ready(new.clone()));
        assert_eq!(queue.pop_due(NOW).map(|entry| entry.delivery.id), Some(new.id));
        queue.offer(ready(new));
        assert!(queue.pop_due(NOW).is_none(), "the same wake twice is one delivery");
    }

    #[test]
    fn a_sent_delivery_is_not_new_again_even_if_its_id_is_ahead_of_the_clock() {
        let id_generator = IdGenerator::new(1);
        let mut queue = loaded(Ordering::Parallel, vec![], false);
        let ahead = Delivery {
            attempt_count: 0,
            ..delivery(&id_generator, NOW.millis() + 60_000, NOW.millis())
        };
        queue.offer(ready(ahead.clone()));
        assert_eq!(ids(&mut queue, NOW), [ahead.id]);
        queue.load(
            Ordering::Parallel,
            QueuePage::default(),
            QueuePage::default(),
            &HashSet::new(),
            NOW,
        );
        queue.offer(ready(ahead));
        assert!(ids(&mut queue, NOW).is_empty(), "only the store decides");
        assert!(queue.needs_read(NOW));
    }

    #[test]
    fn a_trace_lasts_through_reads_until_the_first_attempt() {
        let id_generator = IdGenerator::new(1);
        let new = delivery(&id_generator, NOW.millis() + 5, 1);
        for ordering in [Ordering::Parallel, Ordering::Strict] {
            let mut queue = loaded(ordering, vec![], false);
            queue.offer(ready(new.clone()));
            let firsts = QueuePage { deliveries: vec![new.clone()], more: false };
            queue.load(ordering, QueuePage::default(), firsts, &HashSet::new(), NOW);
            let entry = queue.pop_due(NOW).expect("buffered");
            assert_eq!(entry.trace, traced(), "{ordering:?}");
            queue.requeue(entry.delivery);
            assert_eq!(queue.pop_due(NOW).expect("buffered").trace, None);
        }
    }

    #[test]
    fn deliveries_in_flight_are_not_loaded() {
        let id_generator = IdGenerator::new(1);
        let in_flight_delivery = delivery(&id_generator, 1, 1);
        let mut queue = ReadyQueue::new(Arc::default());
        let in_flight = HashSet::from([in_flight_delivery.id]);
        let firsts = QueuePage { deliveries: vec![in_flight_delivery], more: false };
        queue.load(Ordering::Parallel, QueuePage::default(), firsts, &in_flight, NOW);
        assert!(queue.pop_due(NOW).is_none());
    }

    #[test]
    fn a_delivery_past_the_window_is_left_to_the_store() {
        let id_generator = IdGenerator::new(1);
        let mut queue = loaded(Ordering::Parallel, vec![delivery(&id_generator, 1, 10)], true);
        queue.offer(ready(delivery(&id_generator, NOW.millis() + 5, 20)));
        assert_eq!(ids(&mut queue, NOW).len(), 1);
        assert!(queue.needs_read(NOW));
    }

    #[test]
    fn the_window_is_bounded() {
        let id_generator = IdGenerator::new(1);
        let mut queue = loaded(Ordering::Parallel, vec![], false);
        for _ in 0..2 * WINDOW {
            queue.offer(ready(delivery(&id_generator, NOW.millis() + 5, 20)));
        }
        assert_eq!(ids(&mut queue, NOW).len(), WINDOW);
        assert!(queue.needs_read(NOW));
    }

    #[test]
    fn payloads_are_cached_within_the_budget_and_read_from_the_store_otherwise() {
        const LARGEST: usize = MAX_CACHED_PAYLOAD_BYTES;
        let (id_generator, budget) = (IdGenerator::new(1), Arc::<MemoryBudget>::default());
        let mut queues: Vec<_> = (0..1_000).map(|_| ReadyQueue::new(budget.clone())).collect();
        for queue in &mut queues {
            queue.load(
                Ordering::Parallel,
                QueuePage::default(),
                QueuePage::default(),
                &HashSet::new(),
                NOW,
            );
            for _ in 0..16 {
                let delivery = delivery(&id_generator, NOW.millis() + 5, 20);
                let payload = Payload::from_stored(vec![b'1'; LARGEST].into());
                queue.offer(Ready { delivery, payload, trace: None });
            }
        }
        let entries = queues.iter_mut().flat_map(|queue| std::iter::from_fn(|| queue.pop_due(NOW)));
        let entries: Vec<_> = entries.collect();
        assert_eq!(entries.len(), 16_000, "all are buffered");
        let cached = entries.iter().filter(|entry| entry.payload.is_some()).count();
        assert_eq!(cached, MAX_CACHED_BYTES / LARGEST);
    }
}
