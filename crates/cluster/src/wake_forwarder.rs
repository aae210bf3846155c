//! Forwards wakes to other nodes. Each node has a [`PeerQueue`], which a separate task drains in
//! batches. Only one batch per node is in flight, so that wakes that arrive meanwhile share the
//! next one.
//!
//! A wake is a hint. All queues are bounded, and wakes beyond the bounds are dropped: the owner
//! finds the work in the store later. A wake whose owner is unknown, has changed or is not
//! connected is kept as unroutable for a few seconds, and is routed again when the view of the
//! cluster changes.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use postrider_domain::assignment::Shard;
use postrider_domain::ids::BootId;
use postrider_net::tasks::Tasks;
use postrider_store::Wake;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::route::LocalShards;
use crate::shard_manager::CheckTrigger;
use crate::view::View;

/// Maximum number of queued wakes per node, and of unroutable wakes.
const MAX_QUEUED: usize = 8_192;
/// If a queue is longer than this, wakes are queued without their deliveries.
const MAX_WITH_DELIVERIES: usize = 1_024;
/// Maximum number of wakes in a batch.
const MAX_BATCH: usize = 500;
/// Maximum total size of the payloads in a batch.
const MAX_BATCH_PAYLOAD_BYTES: usize = 512 * 1024;
/// The interval at which unroutable wakes are routed again.
const REROUTE_INTERVAL: Duration = Duration::from_millis(250);
/// How long an unroutable wake is kept. By then its owner has scanned the store.
const UNROUTABLE_TTL: Duration = Duration::from_secs(6);

/// Sends wakes to a node.
#[async_trait]
pub trait WakeTransport: Send + Sync + 'static {
    /// Sends wakes, and returns the shards that the node does not own.
    ///
    /// # Errors
    /// If the node is not connected or does not reply in time.
    async fn send(&self, to: BootId, wakes: &[Wake]) -> Result<Vec<Shard>, Unreachable>;
}

/// A node cannot be reached at present.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the node cannot be reached")]
pub struct Unreachable;

/// Forwards wakes to other nodes. Clones share the queues.
#[derive(Clone)]
pub struct WakeForwarder(Arc<Forwarder>);

struct Forwarder {
    me: BootId,
    view: watch::Receiver<Arc<View>>,
    transport: Arc<dyn WakeTransport>,
    /// Triggered when a node turns out not to own a shard that the view assigns to it.
    check_trigger: CheckTrigger,
    queues: Mutex<HashMap<BootId, Arc<PeerQueue>>>,
    /// Wakes that could not be routed, with the time they were first sent.
    unroutable: Mutex<Vec<(Instant, Wake)>>,
}

#[derive(Default)]
struct PeerQueue {
    queued: Mutex<Vec<(Instant, Wake)>>,
    not_empty: Notify,
}

impl WakeForwarder {
    /// Starts the forwarder of node `me`. It offers unroutable wakes to `local` again, and triggers
    /// a check when the view proves wrong.
    #[must_use]
    pub fn start(
        me: BootId,
        view: watch::Receiver<Arc<View>>,
        transport: Arc<dyn WakeTransport>,
        check_trigger: CheckTrigger,
        local: Arc<dyn LocalShards>,
        tasks: &Tasks,
    ) -> Self {
        let queues = Mutex::default();
        let unroutable = Mutex::default();
        let forwarder =
            Arc::new(Forwarder { me, view, transport, check_trigger, queues, unroutable });
        tasks.spawn("wake rerouting", reroute(Arc::downgrade(&forwarder), local));
        Self(forwarder)
    }

    /// Sends wakes to the nodes that own their shards.
    pub fn send(&self, wakes: Vec<Wake>) {
        if !wakes.is_empty() {
            let now = Instant::now();
            self.0.dispatch(wakes.into_iter().map(|wake| (now, wake)));
        }
    }
}

impl Forwarder {
    fn dispatch(self: &Arc<Self>, wakes: impl Iterator<Item = (Instant, Wake)>) {
        let view = self.view.borrow().clone();
        for (queued_at, wake) in wakes {
            match view.owner(wake.shard()) {
                Some(owner) if owner.node != self.me => {
                    self.queue(owner.node).push(queued_at, wake)
                }
                // The owner is unknown; or the view says that this node owns the shard, but no
                // worker accepted the wake: the work on the shard has not started yet or has just
                // ended.
                _ => self.add_unroutable(queued_at, wake),
            }
        }
    }

    fn queue(self: &Arc<Self>, node: BootId) -> Arc<PeerQueue> {
        let mut queues = self.queues.lock();
        let queue = queues.entry(node).or_insert_with(|| {
            let queue = Arc::<PeerQueue>::default();
            tokio::spawn(supervise_drain(Arc::downgrade(self), node, queue.clone()));
            queue
        });
        queue.clone()
    }

    fn add_unroutable(&self, queued_at: Instant, wake: Wake) {
        let mut unroutable = self.unroutable.lock();
        if unroutable.len() < MAX_QUEUED {
            unroutable.push((queued_at, wake.without_delivery()));
        }
    }

    fn take_unroutable(&self) -> Vec<(Instant, Wake)> {
        let mut unroutable = std::mem::take(&mut *self.unroutable.lock());
        unroutable.retain(|(queued_at, _)| queued_at.elapsed() < UNROUTABLE_TTL);
        unroutable
    }

    /// Closes the queues of nodes that have left the view.
    fn close_queues(&self) {
        let view = self.view.borrow().clone();
        self.queues.lock().retain(|node, queue| {
            let stays = view.node(*node).is_some();
            if !stays {
                queue.not_empty.notify_one();
            }
            stays
        });
    }

    fn remove(&self, node: BootId, queue: &Arc<PeerQueue>) {
        let mut queues = self.queues.lock();
        if queues.get(&node).is_some_and(|current| Arc::ptr_eq(current, queue)) {
            queues.remove(&node);
        }
    }

    /// Whether the queue of a node is still open. The queue's task ends when it is not.
    fn is_open(&self, node: BootId, queue: &Arc<PeerQueue>) -> bool {
        self.queues.lock().get(&node).is_some_and(|current| Arc::ptr_eq(current, queue))
    }
}

impl PeerQueue {
    fn push(&self, queued_at: Instant, wake: Wake) {
        let mut queued = self.queued.lock();
        match queued.len() {
            0..MAX_WITH_DELIVERIES => queued.push((queued_at, wake)),
            MAX_WITH_DELIVERIES..MAX_QUEUED => queued.push((queued_at, wake.without_delivery())),
            _ => {}
        }
        drop(queued);
        self.not_empty.notify_one();
    }

    /// Takes the oldest wakes, up to the limits of a batch, with the time each was first sent.
    fn take(&self) -> (Vec<Instant>, Vec<Wake>) {
        let mut queued = self.queued.lock();
        let mut payloads = 0;
        let fit = |(_, wake): &&(Instant, Wake)| {
            payloads += wake.payload_bytes();
            payloads <= MAX_BATCH_PAYLOAD_BYTES
        };
        // A single wake is always within the limit.
        let count = queued.iter().take(MAX_BATCH).take_while(fit).count().max(1);
        let count = count.min(queued.len());
        let rest = queued.split_off(count);
        std::mem::replace(&mut *queued, rest).into_iter().unzip()
    }
}

/// Drains a queue. If that panics, the queue is removed, and the next wake for its node starts a new
/// one.
async fn supervise_drain(forwarder: Weak<Forwarder>, node: BootId, queue: Arc<PeerQueue>) {
    let drained = tokio::spawn(drain_queue(forwarder.clone(), node, queue.clone())).await;
    if let (Err(error), Some(forwarder)) = (drained, forwarder.upgrade()) {
        tracing::error!(%node, %error, "forwarding wakes failed");
        forwarder.remove(node, &queue);
    }
}

/// Drains a queue until its node leaves the view.
async fn drain_queue(forwarder: Weak<Forwarder>, node: BootId, queue: Arc<PeerQueue>) {
    loop {
        let (queued_at, batch) = queue.take();
        if batch.is_empty() {
            match forwarder.upgrade() {
                Some(forwarder) if forwarder.is_open(node, &queue) => {}
                _ => return,
            }
            queue.not_empty.notified().await;
            continue;
        }
        let Some(forwarder) = forwarder.upgrade() else { return };
        match forwarder.transport.send(node, &batch).await {
            Ok(not_owned) if not_owned.is_empty() => {}
            Ok(not_owned) => {
                forwarder.check_trigger.check_now();
                let not_owned: HashSet<Shard> = not_owned.into_iter().collect();
                let back = queued_at.into_iter().zip(batch);
                let back = back.filter(|(_, wake)| not_owned.contains(&wake.shard()));
                back.for_each(|(queued_at, wake)| forwarder.add_unroutable(queued_at, wake));
            }
            Err(Unreachable) => {
                queued_at
                    .into_iter()
                    .zip(batch)
                    .for_each(|(queued_at, wake)| forwarder.add_unroutable(queued_at, wake));
            }
        }
    }
}

/// Routes unroutable wakes again, whenever the view changes and at a regular interval.
async fn reroute(forwarder: Weak<Forwarder>, local: Arc<dyn LocalShards>) {
    let Some(mut view) = forwarder.upgrade().map(|forwarder| forwarder.view.clone()) else {
        return;
    };
    loop {
        let changed = tokio::time::timeout(REROUTE_INTERVAL, view.changed()).await;
        let Some(forwarder) = forwarder.upgrade() else { return };
        match changed {
            Ok(Ok(())) => forwarder.close_queues(),
            Ok(Err(_)) => return,
            Err(_) => {}
        }
        let unroutable = forwarder.take_unroutable();
        if unroutable.is_empty() {
            continue;
        }
        // Each wake keeps the time it was first sent. Otherwise it would be retried forever.
        let others = unroutable.into_iter().flat_map(|(queued_at, wake)| {
            local.wake(vec![wake]).into_iter().map(move |wake| (queued_at, wake))
        });
        forwarder.dispatch(others);
    }
}

#[cfg(test)]
mod tests;
